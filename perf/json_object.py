"""What a server answered, read without trusting that it is what was asked for."""

from __future__ import annotations

import json
from typing import Any


def json_object(text: bytes) -> dict[str, Any]:
    """Empty for anything but a JSON object: while a desk starts, the proxy answers in its own words."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
