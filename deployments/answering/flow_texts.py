"""Values in the texts of rules: `{order_number}`. Pure; a value is put in once and is never read as a text again."""

from __future__ import annotations

import re
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)\}")


def placeholders(text: str) -> list[str]:
    return _PLACEHOLDER.findall(text)


def filled(text: str, shown: Callable[[str], str]) -> str:
    """shown: a placeholder's name to what stands in its place."""
    return _PLACEHOLDER.sub(lambda match: shown(match[1]), text)
