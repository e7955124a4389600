"""Files of one JSON document a line, read so that what is wrong is named by its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class BadInputError(Exception):
    """A file that cannot be used; the message names the place."""


def json_lines(path: Path) -> list[tuple[str, Any]]:
    """Each document with its place, `FILE:LINE`; empty lines are none. Raises `BadInputError`, also for no document."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: {error}") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append((f"{path}:{number}", json.loads(line)))
            except ValueError as error:
                raise BadInputError(f"{path}:{number}: is not JSON: {error}") from error
    if not rows:
        raise BadInputError(f"{path}: there is nothing in it")
    return rows
