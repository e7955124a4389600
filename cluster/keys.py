"""API keys: made here, shown once, and kept only as their hash."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import yaml

from deployments.settings import ApiKey

_PREFIX = "rd_"  # so that scanners for leaked secrets can recognise one
_RANDOM_BYTES = 32  # 43 characters in URL-safe base 64


@dataclass(frozen=True, slots=True)
class NewKey:
    """The key itself, for the caller, and the entry for the settings file."""

    secret: str
    entry: ApiKey

    @property
    def yaml(self) -> str:
        content = {"auth": {"keys": [self.entry.model_dump(mode="json")]}}
        text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        return text


def create_key(
    key_id: str, tenant: str, audiences: Sequence[str], random_text: Callable[[int], str] = secrets.token_urlsafe
) -> NewKey:
    secret = _PREFIX + random_text(_RANDOM_BYTES)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return NewKey(secret, ApiKey(id=key_id, sha256=digest, tenant=tenant, audiences=tuple(audiences)))
