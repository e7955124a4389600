"""Files to documents, one function a format. Runs in a child process (`isolated.py`): files may be hostile.

A file that cannot be read raises `ParseError`; a bad row of a table of documents is rejected alone.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from ingestion.document import Block, Details, Document, Parsed, Reject, clean, digest, read_details
from ingestion.encodings import decode
from ingestion.errors import ParseError
from ingestion.html_blocks import html_blocks, read_html
from ingestion.tables import rows_as_text

MAX_FILE_BYTES = 200_000_000
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)(?:\n|(?<=\n))---[ \t]*(?:\n|$)", re.DOTALL)
_QUESTION = frozenset({"question", "questions", "q", "问题", "问", "提问"})
_ANSWER = frozenset({"answer", "answers", "a", "答案", "答", "回答"})
_MARKDOWN = MarkdownIt("commonmark", {"breaks": True}).enable("table")

Cells = Sequence[str]


def parse(path: Path, source: str) -> Parsed:
    """The documents of one file."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(sorted(_READERS))
        raise ParseError(f"files of kind '{path.suffix or path.name}' are not read, only {kinds}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ParseError(f"is larger than {MAX_FILE_BYTES // 1_000_000} MB: split it")
    parsed = reader(path, source)
    if not parsed.documents and not parsed.rejects:
        raise ParseError("holds no text")
    return parsed


# --- prose ---


def parse_markdown(path: Path, source: str) -> Parsed:
    text = decode(path.read_bytes()).replace("\r\n", "\n")
    matter, body = _front_matter(text)
    details = read_details(matter)
    return _one(source, details, html_blocks(_MARKDOWN.render(body)))


def parse_text(path: Path, source: str) -> Parsed:
    paragraphs = re.split(r"\n\s*\n", clean(decode(path.read_bytes())))
    return _one(source, Details(), tuple(Block("text", paragraph.strip()) for paragraph in paragraphs if paragraph))


def parse_html(path: Path, source: str) -> Parsed:
    content = read_html(decode(path.read_bytes()))
    details = read_details({"language": content.language, "url": content.url})
    return _one(source, details, content.blocks, fallback_title=content.title)


def parse_docx(path: Path, source: str) -> Parsed:
    import mammoth

    _check_archive(path)
    no_images = mammoth.images.img_element(lambda image: {"src": ""})
    with path.open("rb") as opened:
        try:
            # Word's own title is a style, not a heading.
            html = mammoth.convert_to_html(
                opened, convert_image=no_images, style_map="p[style-name='Title'] => h1:fresh"
            ).value
        except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
            raise ParseError(f"is no readable DOCX: {error}") from error
    return _one(source, Details(), html_blocks(html))


def parse_pdf(path: Path, source: str) -> Parsed:
    from ingestion.pdf import read_pdf

    title, blocks = read_pdf(path)
    return _one(source, Details(), blocks, fallback_title=title)


def _one(source: str, details: Details, blocks: tuple[Block, ...], fallback_title: str = "") -> Parsed:
    if not any(block.kind != "heading" for block in blocks):
        raise ParseError("holds no text")
    first = blocks[0].text if blocks[0].kind == "heading" else ""
    title = details.title or first or fallback_title
    if first and first == title:
        blocks = blocks[1:]  # it would only repeat the title
    return Parsed([Document(source, source, replace(details, title=title), blocks)])


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    found = _FRONT_MATTER.match(text)
    if not found:
        return {}, text
    try:
        matter = yaml.safe_load(found[1]) or {}
    except (yaml.YAMLError, ValueError) as error:
        raise ParseError(f"its front matter is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(matter, dict):
        # A page may begin with a ruled-off paragraph: that is text.
        return {}, text
    return {str(key).lower(): value for key, value in matter.items()}, text[found.end() :]


def _check_archive(path: Path) -> None:
    """Office files are zip archives; a small one can unpack to more than there is memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise ParseError(f"is no Office file, or is encrypted: {error}") from error
    if size > 2 * MAX_FILE_BYTES:
        raise ParseError(f"unpacks to {size // 1_000_000} MB")


# --- tables ---


def parse_csv(path: Path, source: str) -> Parsed:
    text = clean(decode(path.read_bytes()))
    csv.field_size_limit(MAX_FILE_BYTES)
    try:
        rows = [[clean(cell) for cell in row] for row in csv.reader(io.StringIO(text), delimiter=_delimiter(text))]
    except csv.Error as error:
        raise ParseError(f"is no readable CSV: {error}") from error
    return _sheets(source, [("", rows)])


def parse_xlsx(path: Path, source: str) -> Parsed:
    from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum

    _check_archive(path)
    try:
        with CalamineWorkbook.from_path(str(path)) as book:
            visible = [sheet.name for sheet in book.sheets_metadata if sheet.visible == SheetVisibleEnum.Visible]
            sheets = [(name, _cells_of(book.get_sheet_by_name(name))) for name in visible]
    except (CalamineError, OSError) as error:
        raise ParseError(f"is no readable workbook: {error}") from error
    return _sheets(source, [(name if len(sheets) > 1 else "", rows) for name, rows in sheets])


def _delimiter(text: str) -> str:
    """The one that the header row holds most of."""
    header = text.split("\n", 1)[0]
    return max(",;\t|", key=header.count)


def _cells_of(sheet: Any) -> list[list[str]]:
    rows = [[_cell_text(cell) for cell in row] for row in sheet.to_python(skip_empty_area=False)]
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or ():
        for row in rows[top : bottom + 1]:
            row[left : right + 1] = [rows[top][left]] * len(row[left : right + 1])
    return rows


def _cell_text(cell: Any) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, dt.datetime) and cell.time() == dt.time():
        return cell.date().isoformat()
    return clean(str(cell))


def _sheets(source: str, sheets: Sequence[tuple[str, list[list[str]]]]) -> Parsed:
    """Sheets with a question and an answer column are pairs; all others together are one document of rows."""
    parsed, blocks = Parsed(), list[Block]()
    for name, rows in sheets:
        start = next((number for number, row in enumerate(rows) if any(row)), None)
        if start is None:
            continue
        header = [cell.strip().lower() for cell in rows[start]]
        if _QUESTION & set(header) and _ANSWER & set(header):
            _add_pairs(parsed, source, name, header, rows, start)
        else:
            blocks += [Block("heading", name, 1)] if name else []
            blocks += [Block("row", line) for line in rows_as_text([(row, False) for row in rows[start:]])]
    if blocks:
        table = Document(source, source, Details(), tuple(blocks))
        parsed.documents.append(table)
    return parsed


def _add_pairs(parsed: Parsed, source: str, sheet: str, header: list[str], rows: list[list[str]], start: int) -> None:
    keys = ["question" if name in _QUESTION else "answer" if name in _ANSWER else name for name in header]
    for number, cells in enumerate(rows[start + 1 :], start=start + 2):  # as a spreadsheet counts
        if not any(cells):
            continue
        row = {key: cell for key, cell in zip(keys, cells, strict=False) if cell and key}
        where = f"{source}:{sheet + ':' if sheet else ''}{number}"
        _add_row(parsed, source, where, row)


# --- rows that are documents ---


def parse_jsonl(path: Path, source: str) -> Parsed:
    parsed = Parsed()
    # Not splitlines(): JSON strings may hold U+2028.
    for number, line in enumerate(decode(path.read_bytes()).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{source}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            parsed.rejects.append(Reject(where, f"is not JSON: {error}"))
            continue
        if isinstance(row, dict):
            _add_row(parsed, source, where, row)
        else:
            parsed.rejects.append(Reject(where, "is not a JSON object"))
    return parsed


def _add_row(parsed: Parsed, source: str, where: str, row: Mapping[str, Any]) -> None:
    try:
        parsed.documents.append(_row_document(source, row))
    except ParseError as error:
        parsed.rejects.append(Reject(where, str(error)))


def _row_document(source: str, row: Mapping[str, Any]) -> Document:
    """{question, answer, …}, or {id?, title?, content|text, …} with Markdown as content."""
    details = read_details(row)
    question, answer = _text(row, "question"), _text(row, "answer")
    if question or answer:
        if not (question and answer):
            raise ParseError(f"has no {'answer' if question else 'question'}")
        key = _text(row, "id") or f"{source}#{digest(question)[:12]}"
        return Document(key, source, details, question=question, answer=answer)
    content = _text(row, "content") or _text(row, "text")
    if not content:
        raise ParseError("has neither content (or text) nor question and answer")
    key = _text(row, "id") or f"{source}#{digest(details.title, content)[:12]}"
    document = _one(source, details, html_blocks(_MARKDOWN.render(content))).documents[0]
    return replace(document, id=key)


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ParseError(f"'{key}' is not text")
    return clean(str(value))


_READERS: dict[str, Callable[[Path, str], Parsed]] = {
    ".md": parse_markdown,
    ".txt": parse_text,
    ".html": parse_html,
    ".htm": parse_html,
    ".pdf": parse_pdf,
    ".docx": parse_docx,
    ".xlsx": parse_xlsx,
    ".csv": parse_csv,
    ".jsonl": parse_jsonl,
}
