"""Rows of tables and data sets: each a document or a question-answer pair where its columns say so, otherwise text.

A row that is wrong is rejected alone. Values are plain ones: whatever a column of a data set is, nothing of it is run.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingestion.document import FIELDS, Block, Details, Document, Reject, clean, digest, read_details
from ingestion.encodings import decode, is_utf8
from ingestion.errors import ParseError
from ingestion.prose import markdown_blocks, prose_document
from ingestion.qa_pairs import find_pairs, is_answer_column, is_question_column
from ingestion.tables import FromAbove, PairColumns, TableRow, find_pair_columns, table_blocks

Found = Document | Reject
Cells = Sequence[str]

_CONTENT = frozenset({"content", "text", "body", "正文", "内容", "內容"})
_CHINESE_FIELDS = {
    "标题": "title", "標題": "title", "语言": "language", "語言": "language", "主题": "topic", "主題": "topic",
    "分类": "topic", "分類": "topic", "类别": "topic", "類別": "topic", "链接": "url", "鏈接": "url", "网址": "url",
    "網址": "url", "受众": "audience", "受眾": "audience", "生效日期": "valid_from", "失效日期": "valid_until",
    "编号": "id", "編號": "id", "category": "topic",
}  # fmt: skip
_KEYS = frozenset({"id", "question", "answer", "content", *FIELDS})


# --- one row ---


def record_document(source: str, row: Mapping[str, Any]) -> Document:
    """Of {question, answer, …} or {id?, title?, content, …} with Markdown as content, by any of their names."""
    row = _named(row)
    details = read_details(row)
    question, answer = _text(row, "question"), _text(row, "answer")
    if question or answer:
        if not (question and answer):
            raise ParseError(f"has no {'answer' if question else 'question'}")
        key = _text(row, "id") or f"{source}#{digest(question)[:12]}"
        return Document(key, source, details, question=question, answer=answer)
    content = _text(row, "content")
    if not content:
        raise ParseError("has neither content (or text) nor question and answer")
    key = _text(row, "id") or f"{source}#{digest(details.title, content)[:12]}"
    return replace(prose_document(source, details, markdown_blocks(content)), id=key)


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """By the names of this module, of which a literal one wins; "a" is an answer only beside a "q"."""
    names = {key: known_name(key) for key in row}
    is_pair = {"question", "answer"} <= set(names.values())
    named: dict[str, Any] = {}
    for key, name in names.items():
        is_own = key.strip().lower() == name
        if row[key] in (None, "") or (name in named and not is_own):
            continue
        if is_own or is_pair or name not in ("question", "answer"):
            named[name] = row[key]
    return named


def known_name(name: str) -> str:
    """The name by which this module knows a column: "问题" is "question", "Body" is "content"."""
    lower = name.strip().lower()
    if lower in _KEYS:
        return lower
    if lower in _CONTENT:
        return "content"
    if is_question_column(name):
        return "question"
    if is_answer_column(name):
        return "answer"
    return _CHINESE_FIELDS.get(lower, lower)


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ParseError(f"'{key}' is not text")
    return clean(str(value))


def _documents(source: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterator[Found]:
    """Of (where it stands, row)."""
    for where, row in rows:
        try:
            yield record_document(source, row)
        except ParseError as error:
            yield Reject(where, str(error))


# --- JSON ---


def read_jsonl(path: Path, source: str) -> Iterator[Found]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{source}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Reject(where, f"is not JSON: {error}")
            continue
        yield from _json_row(source, where, row)


def read_json(path: Path, source: str) -> Iterator[Found]:
    """A list of objects; one object is a list of one."""
    try:
        content = json.loads(decode(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        raise ParseError(f"is not JSON: {error}") from error
    for number, row in enumerate(content if isinstance(content, list) else [content], start=1):
        yield from _json_row(source, f"{source}:{number}", row)


def _json_row(source: str, where: str, row: object) -> Iterator[Found]:
    if isinstance(row, dict):
        yield from _documents(source, [(where, row)])
    else:
        yield Reject(where, "is not a JSON object")


def _lines(path: Path) -> Iterator[str]:
    """One after another where the file is UTF-8, however large it is. Only at \\n: JSON's strings may hold U+2028."""
    if is_utf8(path):
        with path.open(encoding="utf-8-sig", newline="\n") as opened:
            yield from opened
    else:
        yield from decode(path.read_bytes()).split("\n")


# --- CSV and workbooks ---


def read_csv(path: Path, source: str) -> Iterator[Found]:
    text = clean(decode(path.read_bytes()))
    delimiter = "\t" if source.lower().endswith(".tsv") else _delimiter(text)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # one for the process
    _check_quotes(text, delimiter)
    rows = [[clean(cell) for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter)]
    yield from _sheets(source, [("", rows)])


def _delimiter(text: str) -> str:
    """The one that the first row with any holds most of: there may be a title above."""
    rows = text.split("\n", 10)[:10]
    first = next((row for row in rows if re.search(r"[,;\t|]", row)), "")
    return max(",;\t|", key=first.count)


def _check_quotes(text: str, delimiter: str) -> None:
    """A quote that is never closed, for the file was cut off, would swallow all rows below it in silence."""
    if text.count('"') % 2 == 0:
        return
    rows = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    line = 1
    try:
        for _ in rows:
            line = rows.line_num + 1
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise ParseError(f'a quotation mark (") of line {line} is never closed: the file may be cut off') from error


def read_workbook(path: Path, source: str) -> Iterator[Found]:
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetVisibleEnum

    try:
        with CalamineWorkbook.from_path(str(path)) as book:
            visible = [sheet.name for sheet in book.sheets_metadata if sheet.visible == SheetVisibleEnum.Visible]
            sheets = [(name, _cells(book.get_sheet_by_name(name))) for name in visible]
    except PasswordError as error:
        raise ParseError("is encrypted: save it without a password") from error
    except (CalamineError, OSError) as error:
        raise ParseError(f"is a broken workbook, or cut off: save it again ({error})") from error
    yield from _sheets(source, [(name if len(sheets) > 1 else "", rows) for name, rows in sheets])


def _cells(sheet: Any) -> list[list[str]]:
    rows = [[_cell_text(cell) for cell in row] for row in sheet.to_python(skip_empty_area=False)]
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or ():
        for number, row in enumerate(rows[top : bottom + 1]):
            text = rows[top][left] if number == 0 else FromAbove(rows[top][left])
            row[left : right + 1] = [text] * len(row[left : right + 1])
    return rows


def _cell_text(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, dt.datetime) and cell.time() == dt.time():
        return cell.date().isoformat()
    return clean(str(cell))


def _sheets(source: str, sheets: Sequence[tuple[str, list[list[str]]]]) -> Iterator[Found]:
    """Rows that are pairs or documents one by one; all other sheets together are one document."""
    blocks: list[Block] = []
    for name, rows in sheets:
        columns = find_pair_columns(rows)
        prefix = f"{source}:{name}:" if name else f"{source}:"
        if columns is not None and columns.header >= 0:
            yield from _documents(source, _pair_rows(prefix, rows, columns))
        elif _holds_documents(header := next((row for row in rows if any(row)), [])):
            yield from _documents(source, _document_rows(prefix, rows, rows.index(header)))
        elif table := table_blocks([TableRow(row) for row in rows]):
            blocks += [Block("heading", name, 1)] if name else []
            blocks += table
    if blocks:
        yield Document(source, source, Details(), tuple(find_pairs(blocks)))


def _pair_rows(prefix: str, rows: Sequence[Cells], columns: PairColumns) -> Iterator[tuple[str, dict[str, str]]]:
    names = [known_name(cell) for cell in rows[columns.header]]
    for number, cells in columns.rows(rows):
        fields = {name: cell for name, cell in zip(names, cells, strict=False) if cell and name in ("id", *FIELDS)}
        for question, answer in columns.pairs(cells):
            yield f"{prefix}{number + 1}", {**fields, "question": question, "answer": answer}


def _holds_documents(header: Cells) -> bool:
    """ "Content" alone is a column of many a table; with a title or an id, rows are articles."""
    names = {known_name(cell) for cell in header}
    return "content" in names and not names.isdisjoint({"title", "id"})


def _document_rows(prefix: str, rows: Sequence[Cells], start: int) -> Iterator[tuple[str, dict[str, str]]]:
    for number, cells in enumerate(rows[start + 1 :], start=start + 2):
        if any(cells):
            yield f"{prefix}{number}", {name: cell for name, cell in zip(rows[start], cells, strict=False) if cell}


# --- Arrow: Parquet, and data sets as Hugging Face's `datasets` saves them ---


def read_parquet(path: Path, source: str) -> Iterator[Found]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as opened:
            columns = _plain_columns(opened.schema_arrow)
            batches = opened.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False)
            yield from _records(source, columns, batches)
    except (pa.ArrowException, OSError) as error:
        raise ParseError(f"is a broken Parquet file, or cut off: write it again ({_one_line(error)})") from error


def read_arrow(path: Path, source: str) -> Iterator[Found]:
    import pyarrow as pa

    try:
        with pa.OSFile(str(path)) as opened:
            is_file = opened.read(6) == b"ARROW1"
            opened.seek(0)
            reader = pa.ipc.open_file(opened) if is_file else pa.ipc.open_stream(opened)
            columns = _plain_columns(reader.schema)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
            yield from _records(source, columns, (batch.select(columns) for batch in batches))
    except (pa.ArrowException, OSError) as error:
        raise ParseError(f"is a broken Arrow file, or cut off: write it again ({_one_line(error)})") from error


_BATCH_ROWS = 1000


def _plain_columns(schema: Any) -> list[str]:
    """Those of plain values. Lists, structures, bytes and extension types say nothing, and are not even converted."""
    import pyarrow as pa

    def is_plain(kind: Any) -> bool:
        if isinstance(kind, pa.BaseExtensionType):
            return False
        if pa.types.is_dictionary(kind):
            return is_plain(kind.value_type)
        return bool(
            pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
            or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
            or pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_decimal(kind)
        )  # fmt: skip

    return [field.name for field in schema if is_plain(field.type)]


def _records(source: str, columns: Sequence[str], batches: Iterable[Any]) -> Iterator[Found]:
    names = {known_name(column) for column in columns}
    numbered = enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    if "content" in names or {"question", "answer"} <= names:
        yield from _documents(source, ((f"{source}:{number}", row) for number, row in numbered))
        return
    cells = ([_cell_text(row[name]) for name in columns] for _, row in numbered)
    yield from _sheets(source, [("", [list(columns), *cells])])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
