"""Who is asking: an API key, or nobody in particular on a loopback address.

Also the guards that keep other web pages from using a loopback service that asks for no key, and from using a key
that stands in somebody's page.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import math
import re
import time
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers

from deployments.answering.errors import AuthenticationError, PermissionDeniedError, RateLimitedError
from deployments.answering.types import Principal
from deployments.http.rate import TokenBucket
from deployments.settings import ApiKey, AppSettings

log = structlog.get_logger(__name__)

# What a key may do that stands in a page, where everybody can read it: ask, follow the answer, rate it. Conversations
# are not among it: all visitors share the key, so their list would be everybody's.
_PAGE_PATHS = re.compile(r"/v1/(?:chat|cancel|feedback|turns/[^/]+/events)")


class Authenticator:
    """Turns the Authorization header into a principal.

    Wrong keys are counted together, whoever sends them: behind a balancer all callers have one address. A right key
    is taken however many wrong ones there are, so nobody can shut a customer out; that a key cannot be guessed is due
    to its 256 random bits. What is limited is the noise, and what it costs.
    """

    def __init__(self, settings: AppSettings, now_s: Callable[[], float] = time.monotonic) -> None:
        """now_s: a clock that only goes forward."""
        self._of_settings = settings.auth.keys
        self._keys: tuple[ApiKey, ...] = settings.auth.keys
        self._is_open = not settings.auth.keys and settings.auth.keys_file is None
        self._now_s = now_s
        per_min = settings.auth.max_wrong_keys_per_min
        self._wrong = TokenBucket(per_min / 60, per_min)
        self._is_flooded = False
        self._anonymous = (
            Principal(settings.auth.loopback_tenant, frozenset({"public"}), "loopback")
            if settings.is_loopback
            else None
        )

    def principal(self, headers: Headers, path: str = "") -> Principal:
        """Raises `AuthenticationError`: without a key where one is needed, and with a wrong one where there are any.
        Raises `PermissionDeniedError`: with a key of web pages from anywhere else, or for another path than theirs.

        Stock OpenAI clients always send some key; on loopback, where none is configured, it says nothing.
        """
        values = headers.getlist("authorization")
        if self._anonymous is not None and (self._is_open or not values):
            return self._anonymous
        if not values:
            raise AuthenticationError
        scheme, _, key = values[0].partition(" ")
        if len(values) > 1 or scheme.lower() != "bearer":
            raise AuthenticationError
        return self.of_key(key.strip(), headers.get("origin", ""), path)

    def use_keys(self, keys: Sequence[ApiKey]) -> None:
        """Those of the settings, and these; what was given here before is valid no longer."""
        self._keys = (*self._of_settings, *keys)

    def still_stands(self, principal: Principal) -> bool:
        """Whether who came in by a key, or without one, would still be let in as the same."""
        return principal == self._anonymous or any(_principal(key) == principal for key in self._keys)

    def of_key(self, key: str, origin: str = "", path: str = "") -> Principal:
        """key: its bytes as latin-1. Raises as `principal`, and `RateLimitedError` after many wrong ones.

        Where no key is needed and none is configured, any will do.
        """
        if self._anonymous is not None and self._is_open:
            return self._anonymous
        digest = hashlib.sha256(key.encode("latin-1")).hexdigest()  # latin-1: the header's own bytes
        found: ApiKey | None = None
        for known in self._keys:  # every key is compared, so that the time tells nothing
            if hmac.compare_digest(digest, known.sha256):
                found = known
        if found is None:
            raise self._refusal()
        if found.origins and not (origin in found.origins and _PAGE_PATHS.fullmatch(path)):
            raise PermissionDeniedError("This key is for asking questions, from the web pages it was made for.")
        return _principal(found)

    def _refusal(self) -> AuthenticationError | RateLimitedError:
        now_s = self._now_s()
        if self._wrong.take(now_s):
            self._is_flooded = False
            return AuthenticationError()
        if not self._is_flooded:  # once a flood: a line for each would be a flood of its own
            self._is_flooded = True
            log.warning("many_wrong_keys")
        error = RateLimitedError("Too many wrong API keys; please wait.")
        error.retry_after_s = math.ceil(self._wrong.wait_s())
        return error


def _principal(key: ApiKey) -> Principal:
    return Principal(key.tenant, frozenset(key.audiences), key.id)


def check_loopback_request(headers: Headers, allowed_origins: Collection[str] = ()) -> None:
    """Refuses what only a browser on a foreign page would send to a loopback service.

    Host must name this machine, or a page of evil.example could point its own name at 127.0.0.1 (DNS rebinding);
    Origin must be this service itself, or one that is allowed, or any page could post questions in the visitor's
    name. Clients without a Host header (HTTP/1.0 probes) are no browsers.
    """
    host = headers.get("host")
    if host is not None and not _is_loopback_name(host):
        raise PermissionDeniedError("This service listens on loopback only: the Host header must name this machine.")
    origin = headers.get("origin")
    if origin is not None and origin not in allowed_origins and _netloc(origin) != (host or "").lower():
        raise PermissionDeniedError("Requests from other web pages are refused: Origin must match Host.")


@lru_cache(maxsize=64)
def _is_loopback_name(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # e.g. an unclosed bracket
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:  # any other name
        return False


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
