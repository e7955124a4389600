"""Values as JSON: the one way in which bytes of ours are made.

msgspec writes dataclasses as they are, in a fiftieth of the time that `dataclasses.asdict` and `json.dumps` take.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def json_bytes(content: Any) -> bytes:
    """UTF-8, the characters as they are, no spaces. content: plain values, dataclasses, and any nesting of both.

    Text that is not valid Unicode is replaced rather than an error.
    """
    try:
        return _encode(content)
    except UnicodeEncodeError:  # half a character, which a model can write
        plain = json.dumps(msgspec.to_builtins(content), ensure_ascii=False, separators=(",", ":"))
        return plain.encode("utf-8", "replace")
