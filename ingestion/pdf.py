"""PDF to blocks: tables row by row, headings by the size of their letters, running heads and feet left out.

Text only: a scanned page has none, and is said to have none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pdfplumber
from pdfminer.pdfexceptions import PDFException
from pdfplumber.utils.exceptions import PdfminerException

from ingestion.document import Block, clean
from ingestion.errors import ParseError
from ingestion.language import CJK
from ingestion.tables import Row, looks_like_headers, row_as_text

_HEADING_RATIO = 1.15  # of the size of most letters
_MAX_HEADING_CHARS = 120
_PARAGRAPH_GAP = 0.7  # of a line's height
_MARGIN = 0.09  # of the page's height, at the top and the bottom: where running heads and feet stand
_BULLET = re.compile(r"([•·▪◦‣●○■–-]|\(?\d{1,2}[.)、])\s*(?=\S)")
_CJK_END, _CJK_START = re.compile(rf"[{CJK}，。；：、！？）」』]$"), re.compile(rf"[{CJK}，。；：、！？（「『]")


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    top: float
    bottom: float
    size: float  # of its letters, points
    page: int
    is_marginal: bool


@dataclass(frozen=True, slots=True)
class _Table:
    rows: Sequence[Row]
    top: float
    page: int


def read_pdf(path: Path) -> tuple[str, tuple[Block, ...]]:
    """(title by its properties, blocks)."""
    try:
        with pdfplumber.open(path) as document:
            title = _property(document.metadata, "Title")
            pages = [_read_page(page) for page in document.pages]
    except PdfminerException as error:
        raise ParseError(_why(error)) from error
    except (PDFException, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError) as error:
        # pdfminer trusts a file's structure, so a broken one fails anywhere in it.
        raise ParseError(f"is a broken PDF ({type(error).__name__}: {error})") from error
    if not any(pages):
        raise ParseError("holds no text: if it is scanned, run text recognition (OCR) on it first")
    return title, tuple(_blocks(pages))


def _why(error: Exception) -> str:
    cause = type(error.args[0]).__name__ if error.args else ""
    if "Password" in cause or "Encryption" in cause:
        return "is encrypted: save it without a password"
    return f"is a broken PDF ({cause or error})"


def _property(metadata: Any, name: str) -> str:
    value = (metadata or {}).get(name)
    return clean(value) if isinstance(value, str) else ""


def _read_page(page: Any) -> list[_Line | _Table]:
    """In reading order, from the top to the bottom."""
    tables = [table for table in page.find_tables() if len(table.rows) > 1]
    boxes = [table.bbox for table in tables]
    text = page.filter(lambda thing: thing["object_type"] != "char" or not _lies_in(thing, boxes))
    lines = [_line(line, page) for line in text.extract_text_lines(return_chars=True)]
    found = [_Table(_rows(table), table.bbox[1], page.page_number) for table in tables]
    page.close()  # or the characters of all pages stay in memory
    return sorted([*(line for line in lines if line.text), *found], key=lambda part: part.top)


def _lies_in(thing: Any, boxes: Sequence[tuple[float, float, float, float]]) -> bool:
    x, y = (thing["x0"] + thing["x1"]) / 2, (thing["top"] + thing["bottom"]) / 2
    return any(x0 <= x <= x1 and top <= y <= bottom for x0, top, x1, bottom in boxes)


def _rows(table: Any) -> list[Row]:
    return [[clean(cell or "") for cell in row] for row in table.extract()]


def _line(line: Any, page: Any) -> _Line:
    sizes = [char["size"] for char in line["chars"] if char["text"].strip()]
    margin = page.height * _MARGIN
    is_marginal = line["bottom"] < margin or line["top"] > page.height - margin
    size = median(sizes) if sizes else 0.0
    return _Line(clean(line["text"]), line["top"], line["bottom"], size, page.page_number, is_marginal)


# --- lines and tables to blocks ---


def _blocks(pages: Sequence[Sequence[_Line | _Table]]) -> list[Block]:
    running = _running(pages)
    parts = [part for page in pages for part in page if isinstance(part, _Table) or _shape(part) not in running]
    body_size = _body_size(parts)
    sizes = sorted({round(part.size) for part in parts if isinstance(part, _Line) and _is_large(part, body_size)})[::-1]
    blocks: list[Block] = []
    header: Row = ()
    before: _Line | _Table | None = None
    for part in parts:
        if isinstance(part, _Table):
            header = _add_table(blocks, part, header if isinstance(before, _Table) else ())
        elif _is_large(part, body_size):
            blocks.append(Block("heading", part.text, min(1 + sizes.index(round(part.size)), 6), part.page))
        else:
            _add_line(blocks, part, before)
        before = part
    return blocks


def _running(pages: Sequence[Sequence[_Line | _Table]]) -> set[str]:
    """Heads and feet: marginal lines that stand on most pages, or hold nothing but a page number."""
    lines = [{_shape(part) for part in page if isinstance(part, _Line) and part.is_marginal} for page in pages]
    counts = Counter(shape for page in lines for shape in page)
    often = {shape for shape, count in counts.items() if count >= 2 and count > len(pages) / 2}
    return often | {shape for shape in counts if re.fullmatch(r"\W*(page|seite|第)?\W*#\W*(页|(of|/)\W*#)?\W*", shape)}


def _shape(line: _Line) -> str:
    """A line with its numbers made alike. In the body it has a space more, so that it never equals a marginal one."""
    return ("" if line.is_marginal else " ") + re.sub(r"\d+", "#", line.text.lower())


def _body_size(parts: Sequence[_Line | _Table]) -> float:
    letters: Counter[float] = Counter()
    for part in parts:
        if isinstance(part, _Line):
            letters[round(part.size, 1)] += len(part.text)
    return letters.most_common(1)[0][0] if letters else 0.0


def _is_large(line: _Line, body_size: float) -> bool:
    return line.size >= body_size * _HEADING_RATIO and len(line.text) <= _MAX_HEADING_CHARS


def _add_table(blocks: list[Block], table: _Table, previous_header: Row) -> Row:
    """Adds rows with their headers; a table that goes on over a page keeps the headers it began with."""
    first = table.rows[0]
    header: Row = first if looks_like_headers(first) else ()
    if previous_header and len(previous_header) == len(first) and (first == previous_header or not header):
        header = previous_header
    rows = table.rows[1:] if first == header else table.rows
    for row in rows:
        if text := row_as_text(header, row):
            blocks.append(Block("row", text, page=table.page))
    return header


def _add_line(blocks: list[Block], line: _Line, before: _Line | _Table | None) -> None:
    """Appends to the paragraph above it, or begins a new one."""
    bullet = _BULLET.match(line.text)
    if bullet:
        blocks.append(
            Block(
                "item", f"{bullet[1] if bullet[1][-1] in '.)、' else '-'} {line.text[bullet.end() :]}", page=line.page
            )
        )
    elif _goes_on(blocks, line, before):
        blocks[-1] = Block(blocks[-1].kind, _joined(blocks[-1].text, line.text), page=blocks[-1].page)
    else:
        blocks.append(Block("text", line.text, page=line.page))


def _goes_on(blocks: Sequence[Block], line: _Line, before: _Line | _Table | None) -> bool:
    if not blocks or blocks[-1].kind not in ("text", "item") or not isinstance(before, _Line):
        return False
    if before.page != line.page:  # over a page only within a sentence
        return not re.search(r"[.!?。！？:：]$", before.text)
    return line.top - before.bottom < _PARAGRAPH_GAP * (line.bottom - line.top)


def _joined(first: str, second: str) -> str:
    if _CJK_END.search(first) and _CJK_START.match(second):
        return first + second
    if re.search(r"[a-zäöüéè]-$", first) and re.match(r"[a-zäöüéè]", second):
        return first[:-1] + second
    return f"{first} {second}"
