"""Who is asking: an API key, or nobody in particular on a loopback address.

Also the guard that keeps other web pages in the same browser from using a loopback service that asks for no key.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from deployments.answering.errors import AuthenticationError, PermissionDeniedError
from deployments.answering.types import Principal
from deployments.settings import ApiKey, AppSettings


class Authenticator:
    """Turns the Authorization header into a principal."""

    def __init__(self, settings: AppSettings) -> None:
        self._keys = settings.auth.keys
        self._anonymous = (
            Principal(settings.auth.loopback_tenant, frozenset({"public"}), "loopback")
            if settings.is_loopback
            else None
        )

    def principal(self, headers: Headers) -> Principal:
        """Raises `AuthenticationError`: without a key where one is needed, and with a wrong one where there are any.

        Stock OpenAI clients always send some key; on loopback, where none is configured, it says nothing.
        """
        values = headers.getlist("authorization")
        if self._anonymous is not None and not (values and self._keys):
            return self._anonymous
        if not values:
            raise AuthenticationError
        scheme, _, key = values[0].partition(" ")
        if len(values) > 1 or scheme.lower() != "bearer":
            raise AuthenticationError
        return self.of_key(key.strip())

    def of_key(self, key: str) -> Principal:
        """key: its bytes as latin-1. Raises `AuthenticationError`.

        Where no key is needed and none is configured, any will do.
        """
        if self._anonymous is not None and not self._keys:
            return self._anonymous
        digest = hashlib.sha256(key.encode("latin-1")).hexdigest()  # latin-1: the header's own bytes
        found: ApiKey | None = None
        for known in self._keys:  # every key is compared, so that the time tells nothing
            if hmac.compare_digest(digest, known.sha256):
                found = known
        if found is None:
            raise AuthenticationError
        return Principal(found.tenant, frozenset(found.audiences), found.id)


def check_loopback_request(headers: Headers) -> None:
    """Refuses what only a browser on a foreign page would send to a loopback service.

    Host must name this machine, or a page of evil.example could point its own name at 127.0.0.1 (DNS rebinding);
    Origin must be this service itself, or any page could post questions in the visitor's name. Clients without a
    Host header (HTTP/1.0 probes) are no browsers.
    """
    host = headers.get("host")
    if host is not None and not _is_loopback_name(host):
        raise PermissionDeniedError("This service listens on loopback only: the Host header must name this machine.")
    origin = headers.get("origin")
    if origin is not None and _netloc(origin) != (host or "").lower():
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
