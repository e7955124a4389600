"""PDF to blocks: tables row by row, headings by the size and weight of their letters, running heads and feet left out.

A page without text is a picture of one: it is recognised where that can be done, and otherwise said to be one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pdfplumber
from pdfminer.pdfexceptions import PDFException
from pdfplumber.utils.exceptions import PdfminerException

from ingestion import ocr
from ingestion.document import Block, clean
from ingestion.errors import ParseError
from ingestion.language import CJK
from ingestion.pdf_columns import Columns, Word, find_columns
from ingestion.qa_pairs import is_marked
from ingestion.questions import asks
from ingestion.tables import FromAbove, TableRow, table_blocks

_HEADING_RATIO = 1.15  # of the size of most letters
_MAX_HEADING_CHARS = 120
_PARAGRAPH_GAP = 0.7  # of a line's height
_MARGIN = 0.09  # of the page's height, at the top and the bottom: where running heads and feet stand
_BOLD = re.compile(r"bold|black|heavy|demi|simhei|heiti|-[HM]ei", re.IGNORECASE)
_BULLET = re.compile(r"([•·▪◦‣●○■–-]|\(?\d{1,2}[.)、])\s*(?=\S)")
_CJK_END, _CJK_START = re.compile(rf"[{CJK}，。；：、！？）」』]$"), re.compile(rf"[{CJK}，。；：、！？（「『]")
_SENTENCE_END = re.compile(r"[.!?。！？:：]$")
_END_MARK, _END_BYTES = b"%%EOF", 4096  # some programs write a little behind it
_SCANNED_SIZE = 10.0  # points; whatever it is, it is the same on all pages
_FEW_CHARS = 10  # a scanned page may have its number as text
_PICTURE_SHARE = 0.3  # of the page, from which it is one
_UNKNOWN_SHARE = 0.3  # of the characters, from which a font does not say which letters its shapes are


@dataclass(frozen=True, slots=True)
class PdfContent:
    title: str  # by its properties
    blocks: tuple[Block, ...]
    pages_without_text: tuple[int, ...]  # that are pictures, 1-based


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    top: float
    bottom: float
    size: float  # of its letters, points
    page: int
    is_marginal: bool
    is_bold: bool = False


@dataclass(frozen=True, slots=True)
class _Table:
    rows: Sequence[TableRow]
    top: float
    page: int


_Page = list[_Line | _Table]


def read_pdf(path: Path, on_page: Callable[[], None] = lambda: None) -> PdfContent:
    """on_page: called before each page, so that a time limit may be one of a page."""
    _check_end(path)
    try:
        with pdfplumber.open(path) as document:
            title = _property(document.metadata, "Title")
            pages, pictures = _read_pages(document, on_page)
    except PdfminerException as error:
        raise ParseError(_why(error)) from error
    except (PDFException, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError) as error:
        # pdfminer trusts a file's structure, so a broken one fails anywhere in it.
        raise ParseError(f"is a broken PDF: save it again ({type(error).__name__}: {error})") from error
    if not any(pages) and not pictures:
        raise ParseError("holds no text")
    return PdfContent(title, tuple(_blocks(pages)), tuple(pictures))


def _check_end(path: Path) -> None:
    """Half a PDF can often be read in part; half an answer is none."""
    with path.open("rb") as opened:
        opened.seek(max(0, path.stat().st_size - _END_BYTES))
        if _END_MARK not in opened.read():
            raise ParseError("is cut off: copy or download it again")


def _why(error: Exception) -> str:
    cause = type(error.args[0]).__name__ if error.args else ""
    if cause == "MemoryError":
        raise MemoryError from error
    if "Password" in cause or "Encryption" in cause:
        return "is encrypted: save it without a password"
    return f"is a broken PDF: save it again ({cause or error})"


def _property(metadata: Any, name: str) -> str:
    value = (metadata or {}).get(name)
    return clean(value) if isinstance(value, str) else ""


# --- pages to lines and tables ---


def _read_pages(document: Any, on_page: Callable[[], None]) -> tuple[list[_Page], list[int]]:
    pages: list[_Page] = []
    pictures: list[int] = []
    for page in document.pages:
        on_page()
        found = _read_page(page) if _has_text(page) else []
        if not found and _is_picture(page):
            found = _recognised(page)
            pictures += [] if found else [page.page_number]
        pages.append(found)
        page.close()  # or the characters of all pages stay in memory
    return pages, pictures


def _has_text(page: Any) -> bool:
    texts = [char["text"] for char in page.chars if char["text"].strip()]
    unknown = sum(text.startswith("(cid:") for text in texts)
    is_sparse = len(texts) < _FEW_CHARS and _picture_share(page) >= _PICTURE_SHARE
    return bool(texts) and not is_sparse and unknown < _UNKNOWN_SHARE * len(texts)


def _is_picture(page: Any) -> bool:
    return bool(page.chars) or _picture_share(page) >= _PICTURE_SHARE


def _picture_share(page: Any) -> float:
    covered = sum(
        max(0.0, image["x1"] - image["x0"]) * max(0.0, image["bottom"] - image["top"]) for image in page.images
    )
    return float(covered / max(1.0, page.width * page.height))


def _recognised(page: Any) -> _Page:
    if not ocr.is_installed():
        return []
    lines = ocr.recognise(page)
    usual = median(line.bottom - line.top for line in lines for _ in line.text) if lines else 0.0  # most letters'
    margin = page.height * _MARGIN
    return [
        _Line(
            text=clean(line.text),
            top=line.top,
            bottom=line.bottom,
            size=_SCANNED_SIZE * _coarse((line.bottom - line.top) / usual),
            page=page.page_number,
            is_marginal=line.bottom < margin or line.top > page.height - margin,
        )
        for line in lines
    ]


def _coarse(ratio: float) -> float:
    """Of a scan, only great differences of height are ones of size: 1, 1.5, 2 …"""
    return max(1.0, round(2 * ratio - 0.2) / 2)


def _read_page(page: Any) -> _Page:
    """In reading order: from the top to the bottom, of two columns first the left one."""
    tables = [table for table in page.find_tables() if len(table.rows) > 1]
    boxes = [table.bbox for table in tables]
    text = page.filter(lambda thing: thing["object_type"] != "char" or not _lies_in(thing, boxes))
    columns = find_columns(
        [Word(*(word[key] for key in ("x0", "x1", "top", "bottom"))) for word in text.extract_words()]
    )
    parts: list[tuple[tuple[int, int, float], _Line | _Table]] = []
    for place in columns.parts() if columns else [(0, 0)]:
        chars = text.filter(partial(_is_in_part, columns, place)) if columns else text
        lines = (_line(line, page) for line in chars.extract_text_lines(return_chars=True))
        parts += [((*place, line.top), line) for line in lines if line.text]
    for table in tables:
        left, top, right, bottom = table.bbox
        place = columns.part_of((left + right) / 2, (top + bottom) / 2, left, right) if columns else (0, 0)
        parts.append(((*place, top), _Table(_rows(table, page.page_number), top, page.page_number)))
    return [part for _, part in sorted(parts, key=lambda pair: pair[0])]


def _is_in_part(columns: Columns, place: tuple[int, int], thing: Any) -> bool:
    return thing["object_type"] != "char" or place == columns.part_of(
        (thing["x0"] + thing["x1"]) / 2, (thing["top"] + thing["bottom"]) / 2
    )


def _lies_in(thing: Any, boxes: Sequence[tuple[float, float, float, float]]) -> bool:
    x, y = (thing["x0"] + thing["x1"]) / 2, (thing["top"] + thing["bottom"]) / 2
    return any(x0 <= x <= x1 and top <= y <= bottom for x0, top, x1, bottom in boxes)


def _rows(table: Any, page: int) -> list[TableRow]:
    """A cell that spans rows stands in each of them."""
    rows: list[list[str]] = []
    for number, cells in enumerate(table.extract()):
        row = [clean(cell or "") for cell in cells]
        for column, cell in enumerate(cells):
            if cell is None and number and _reaches(table, number, column):
                row[column] = FromAbove(rows[-1][column])
        rows.append(row)
    return [TableRow(row, page=page) for row in rows]


def _reaches(table: Any, number: int, column: int) -> bool:
    """Whether the cell above in the column goes on to this row's bottom."""
    above = next((row.cells[column] for row in table.rows[number - 1 :: -1] if row.cells[column]), None)
    return above is not None and above[3] >= table.rows[number].bbox[3] - 1


def _line(line: Any, page: Any) -> _Line:
    letters = [char for char in line["chars"] if char["text"].strip()]
    margin = page.height * _MARGIN
    return _Line(
        text=clean(line["text"]),
        top=line["top"],
        bottom=line["bottom"],
        size=median(char["size"] for char in letters) if letters else 0.0,
        page=page.page_number,
        is_marginal=line["bottom"] < margin or line["top"] > page.height - margin,
        is_bold=bool(letters) and all(_BOLD.search(char["fontname"]) for char in letters),
    )


# --- lines and tables to blocks ---


def _blocks(pages: Sequence[_Page]) -> list[Block]:
    running = _running(pages)
    parts = [part for page in pages for part in page if isinstance(part, _Table) or _shape(part) not in running]
    style = _Style.of([part for part in parts if isinstance(part, _Line)])
    blocks: list[Block] = []
    before: _Line | _Table | None = None
    for part in _joined_tables(parts):
        if isinstance(part, _Table):
            blocks += table_blocks(part.rows)
        elif level := style.heading_level(part):
            _add_heading(blocks, part, level, before)
        else:
            _add_line(blocks, part, before)
        before = part
    return blocks


def _running(pages: Sequence[_Page]) -> set[str]:
    """Heads and feet: marginal lines that stand on most pages, or hold nothing but a page number."""
    lines = [{_shape(part) for part in page if isinstance(part, _Line) and part.is_marginal} for page in pages]
    counts = Counter(shape for page in lines for shape in page)
    often = {shape for shape, count in counts.items() if count >= 2 and count > len(pages) / 2}
    return often | {shape for shape in counts if re.fullmatch(r"\W*(page|seite|第)?\W*#\W*(页|(of|/)\W*#)?\W*", shape)}


def _shape(line: _Line) -> str:
    """A line with its numbers made alike. In the body it has a space more, so that it never equals a marginal one."""
    return ("" if line.is_marginal else " ") + re.sub(r"\d+", "#", line.text.lower())


@dataclass(frozen=True, slots=True)
class _Style:
    """How the letters of a document tell its headings from its text."""

    body_size: float
    sizes: tuple[int, ...]  # of headings, the largest first
    is_bold: bool  # most of the text, so that bold says nothing

    @classmethod
    def of(cls, lines: Sequence[_Line]) -> _Style:
        letters: Counter[float] = Counter()
        for line in lines:
            letters[round(line.size, 1)] += len(line.text)
        body_size = letters.most_common(1)[0][0] if letters else 0.0
        sizes = {round(line.size) for line in lines if cls._is_large(line, body_size)}
        bold = sum(len(line.text) for line in lines if line.is_bold)
        return cls(body_size, tuple(sorted(sizes, reverse=True)), 2 * bold > sum(letters.values()))

    @staticmethod
    def _is_large(line: _Line, body_size: float) -> bool:
        return line.size >= body_size * _HEADING_RATIO and len(line.text) <= _MAX_HEADING_CHARS

    def heading_level(self, line: _Line) -> int:
        """1-6, or 0 for text."""
        if self._is_large(line, self.body_size):
            return min(1 + self.sizes.index(round(line.size)), 6)
        is_title = line.is_bold and not self.is_bold and len(line.text) <= _MAX_HEADING_CHARS
        is_title = is_title and not re.search(r"[.。,，;；!！:：]$", line.text) and not is_marked(line.text)
        return min(1 + len(self.sizes), 6) if is_title else 0


def _joined_tables(parts: Sequence[_Line | _Table]) -> Iterator[_Line | _Table]:
    """A table that goes on over a page is one, with the headers that it began with."""
    last: _Table | None = None
    for part in parts:
        if isinstance(part, _Table) and last is not None and len(part.rows[0].cells) == len(last.rows[0].cells):
            last = replace(last, rows=_continued(last.rows, part.rows))
            continue
        if last is not None:
            yield last
        last = part if isinstance(part, _Table) else None
        if last is None:
            yield part
    if last is not None:
        yield last


def _continued(rows: Sequence[TableRow], more: Sequence[TableRow]) -> list[TableRow]:
    """Without the repeated header; a row that a page's end cut in two is one again."""
    more = more[1:] if list(more[0].cells) == list(rows[0].cells) else more
    if more and not more[0].cells[0] and any(more[0].cells):
        cut = [f"{above}\n{below}".strip() for above, below in zip(rows[-1].cells, more[0].cells, strict=True)]
        return [*rows[:-1], replace(rows[-1], cells=cut), *more[1:]]
    return [*rows, *more]


def _add_heading(blocks: list[Block], line: _Line, level: int, before: _Line | _Table | None) -> None:
    """Appends to the heading above it, if that takes two lines, or begins a new one."""
    above = blocks[-1] if blocks else None
    if (
        above
        and above.kind == "heading"
        and above.level == level
        and _is_close(line, before)
        and not _is_question(above.text)
    ):
        blocks[-1] = replace(above, text=_joined(above.text, line.text))
    else:
        blocks.append(Block("heading", line.text, level, line.page))


def _add_line(blocks: list[Block], line: _Line, before: _Line | _Table | None) -> None:
    """Appends to the paragraph above it, or begins a new one."""
    bullet = None if is_marked(line.text) else _BULLET.match(line.text)
    if bullet:
        mark = bullet[1] if bullet[1][-1] in ".)、" else "-"
        blocks.append(Block("item", f"{mark} {line.text[bullet.end() :]}", page=line.page))
    elif _goes_on(blocks, line, before):
        blocks[-1] = replace(blocks[-1], text=_joined(blocks[-1].text, line.text))
    else:
        blocks.append(Block("text", line.text, page=line.page))


def _goes_on(blocks: Sequence[Block], line: _Line, before: _Line | _Table | None) -> bool:
    if not blocks or blocks[-1].kind not in ("text", "item") or not isinstance(before, _Line):
        return False
    if is_marked(line.text) or _is_question(blocks[-1].text) or (_ends(before) and _is_question(line.text)):
        return False
    if before.page != line.page or line.top < before.top:  # over a page or column only within a sentence
        return not _ends(before)
    return _is_close(line, before)


def _is_question(text: str) -> bool:
    return text.endswith(("?", "？")) and asks(text)


def _ends(line: _Line) -> bool:
    return bool(_SENTENCE_END.search(line.text))


def _is_close(line: _Line, before: _Line | _Table | None) -> bool:
    if not isinstance(before, _Line) or before.page != line.page or line.top < before.top:
        return False
    return line.top - before.bottom < _PARAGRAPH_GAP * (line.bottom - line.top)


def _joined(first: str, second: str) -> str:
    if _CJK_END.search(first) and _CJK_START.match(second):
        return first + second
    if re.search(r"[a-zäöüéè]-$", first) and re.match(r"[a-zäöüéè]", second):
        return first[:-1] + second
    return f"{first} {second}"
