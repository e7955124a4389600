"""API keys: made here, shown once, and kept only as their hash."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from deployments.http.key_file import KeyFileError, Keys, read_keys
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
        return _yaml((self.entry,))


def create_key(
    key_id: str,
    tenant: str,
    audiences: Sequence[str],
    origins: Sequence[str] = (),
    random_text: Callable[[int], str] = secrets.token_urlsafe,
) -> NewKey:
    """Raises `ValueError` for an entry that the settings would not take."""
    secret = _PREFIX + random_text(_RANDOM_BYTES)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    pages = {"origins": tuple(origins)} if origins else {}
    entry = ApiKey(id=key_id, sha256=digest, tenant=tenant, audiences=tuple(audiences), **pages)
    return NewKey(secret, entry)


def add_key(file: Path, entry: ApiKey) -> None:
    """Into a key file (`auth.keys_file`), which need not be there yet. Raises `KeyFileError`."""
    keys = read_keys(file) if file.exists() else ()
    if any(key.id == entry.id for key in keys):
        raise KeyFileError(f"{file} has a key {entry.id!r} already: choose another name, or revoke that one first")
    _replace(file, (*keys, entry))


def revoke_key(file: Path, key_id: str) -> None:
    """Raises `KeyFileError`."""
    keys = read_keys(file)
    left = tuple(key for key in keys if key.id != key_id)
    if len(left) == len(keys):
        raise KeyFileError(f"{file} has no key {key_id!r} (there are: {', '.join(key.id for key in keys) or 'none'})")
    _replace(file, left)


def _replace(file: Path, keys: Keys) -> None:
    """So that nobody ever reads half of it, and nobody but this user reads it at all."""
    scratch = file.with_name(file.name + ".new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(_yaml(keys))
    scratch.replace(file)


def _yaml(keys: Keys) -> str:
    content = {"auth": {"keys": [key.model_dump(mode="json", exclude_unset=True) for key in keys]}}
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text
