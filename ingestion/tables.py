"""Tables as text that is still readable when a row stands alone: every row carries its headers. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

Row = Sequence[str]


def rows_as_text(rows: Sequence[tuple[Row, bool]]) -> list[str]:
    """One line a row: "Plan: Basic | Price: 5 €". Rows come with whether they are marked as headers."""
    filled = [(cells, marked) for cells, marked in rows if any(cells)]
    if not filled:
        return []
    cells, marked = filled[0]
    if len(filled) > 1 and (marked or looks_like_headers(cells)):
        return [line for row, _ in filled[1:] if (line := row_as_text(cells, row))]
    return [row_as_text((), row) for row, _ in filled]


def looks_like_headers(cells: Row) -> bool:
    """Every column is named, each differently, and no name holds a number."""
    names = [cell for cell in cells if cell]
    return len(names) == len(cells) == len(set(names)) and not any(re.search(r"\d", name) for name in names)


def row_as_text(headers: Row, cells: Row) -> str:
    parts: list[str] = []
    for position, cell in enumerate(cells):
        text = " ".join(cell.split())
        header = " ".join(headers[position].split()) if position < len(headers) else ""
        if text:
            parts.append(f"{header.rstrip(':：')}: {text}" if header else text)
    return " | ".join(dict.fromkeys(parts))  # a merged cell is repeated in every column that it spans
