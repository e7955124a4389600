"""API keys in a file of their own, which is read again when it changes: a key that is taken out is dead at once.

The file has the lines that `raydesk keys create` prints, and holds hashes only:

    auth:
      keys: [{id: shop, sha256: …, tenant: acme, audiences: [public]}]
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import yaml
from pydantic import TypeAdapter, ValidationError

from deployments.settings import ApiKey

log = structlog.get_logger(__name__)

Keys = tuple[ApiKey, ...]
_KEYS: TypeAdapter[Keys] = TypeAdapter(Keys)


class KeyFileError(ValueError):
    """The file cannot be used; the message names it, and the entry."""


def read_keys(file: Path) -> Keys:
    """Raises `KeyFileError`."""
    try:
        return parse_keys(file.read_bytes(), file)
    except OSError as error:
        raise KeyFileError(f"cannot read the key file {file}: {error.strerror}") from error


def parse_keys(content: bytes, file: Path) -> Keys:
    """file: for messages. Raises `KeyFileError`, which quotes nothing of the content: it may hold a raw key."""
    try:
        document: Any = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KeyFileError(f"the key file {file} is not valid YAML") from error
    auth = document.get("auth") if isinstance(document, dict) and set(document) == {"auth"} else None
    if not isinstance(auth, dict) or set(auth) != {"keys"}:
        raise KeyFileError(f"the key file {file} must hold 'auth: {{keys: […]}}' and nothing else")
    try:
        keys = _KEYS.validate_python(auth["keys"])
    except ValidationError as error:
        where = "; ".join(f"keys.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise KeyFileError(f"the key file {file} is not valid: {where}") from error
    names = [key.id for key in keys]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise KeyFileError(f"the key file {file} has two keys of one id: {', '.join(twice)}")
    return keys


async def watch_keys(file: Path, use: Callable[[Keys], None], interval_s: float) -> None:
    """Calls `use` at every change, for ever. While the file is not valid or away, the keys before stay in use."""
    seen: bytes | None = None
    while True:
        content = await asyncio.to_thread(_content, file)
        if content is not None and content != seen:
            seen = content
            try:
                keys = parse_keys(content, file)
            except KeyFileError as error:
                log.error("keys_not_valid", error=str(error))
            else:
                use(keys)
                log.info("keys_in_use", ids=[key.id for key in keys])
        await asyncio.sleep(interval_s)


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:  # it may be in the middle of being replaced
        return None
