"""A file to documents and rejects, by its kind. Runs in a child process (`isolated.py`): files may be hostile.

A file that cannot be read raises `ParseError`, whose message tells its author what to do; of many rows, a bad one is
rejected alone.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ingestion.document import Document, Parsed, Reject
from ingestion.errors import ParseError
from ingestion.prose import (
    OnProgress,
    read_html_file,
    read_markdown_file,
    read_pdf_file,
    read_text_file,
    read_word_file,
)
from ingestion.records import read_arrow, read_csv, read_json, read_jsonl, read_parquet, read_workbook

MAX_FILE_BYTES = 200_000_000  # of what is read as a whole
MAX_UNPACKED_BYTES = 400_000_000
_SIGNATURE_BYTES = 1024

Found = Document | Reject
Reader = Callable[[Path, str], Iterator[Document] | Iterator[Found]]

_READERS: dict[str, Reader] = {
    ".md": read_markdown_file,
    ".markdown": read_markdown_file,
    ".txt": read_text_file,
    ".html": read_html_file,
    ".htm": read_html_file,
    ".xhtml": read_html_file,
    ".pdf": read_pdf_file,
    ".docx": read_word_file,
    ".xlsx": read_workbook,
    ".xlsm": read_workbook,
    ".xls": read_workbook,
    ".ods": read_workbook,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".json": read_json,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}
KINDS = frozenset(_READERS)
_STREAMED = frozenset({".jsonl", ".ndjson", ".parquet", ".arrow"})  # however large they are
_PACKED = {".docx": "word/", ".xlsx": "xl/", ".xlsm": "xl/", ".ods": "content.xml"}  # kind → where its content lies
_INSTEAD = {
    ".doc": "save it as .docx",
    ".rtf": "save it as .docx",
    ".odt": "save it as .docx",
    ".wps": "save it as .docx",
    ".ppt": "save it as .pdf",
    ".pptx": "save it as .pdf",
    ".et": "save it as .xlsx",
    ".xlsb": "save it as .xlsx",
    ".zip": "unpack it",
    ".gz": "unpack it",
    ".7z": "unpack it",
    ".rar": "unpack it",
}


def parse(path: Path, source: str, kind: str = "", url: str = "") -> Parsed:
    """All of a file at once."""
    parsed = Parsed()
    for found in read(path, source, kind, url):
        if isinstance(found, Document):
            parsed.documents.append(found)
        else:
            parsed.rejects.append(found)
    return parsed


def read(
    path: Path, source: str, kind: str = "", url: str = "", on_progress: OnProgress = lambda: None
) -> Iterator[Found]:
    """What a file holds, one after another.

    kind: its extension, where its name does not say. url: where customers find it, if it does not say so itself.
    on_progress: called when a page of many was read.
    """
    kind = kind or path.suffix.lower()
    if kind not in _READERS:
        instead = _INSTEAD.get(kind, f"only {', '.join(sorted(_READERS))} are")
        raise ParseError(f"files of kind '{kind or path.name}' are not read: {instead}")
    _check_content(path, kind, _beginning(path, kind))
    is_empty = True
    reader = partial(read_pdf_file, on_progress=on_progress) if kind == ".pdf" else _READERS[kind]
    for found in reader(path, source):
        is_empty = False
        if url and isinstance(found, Document) and not found.details.url:
            found = replace(found, details=replace(found.details, url=url))
        yield found
    if is_empty:
        raise ParseError("holds no text")


# --- before it is parsed ---


def _beginning(path: Path, kind: str) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # to open a FIFO would wait for ever
            raise ParseError("is no file but a folder, a pipe, a socket or a device: remove it")
        if found.st_size > MAX_FILE_BYTES and kind not in _STREAMED:
            raise ParseError(f"is larger than {MAX_FILE_BYTES // 1_000_000} MB: split it")
        with path.open("rb") as opened:
            beginning = opened.read(_SIGNATURE_BYTES)
        is_empty = found.st_size <= len(beginning) and not beginning.strip()
    except FileNotFoundError as error:
        raise ParseError("is not there any more, or is a link to nothing: put it back, or remove the link") from error
    except PermissionError as error:
        raise ParseError("may not be read by the user of this program: give it the permission") from error
    except OSError as error:
        raise ParseError(f"cannot be read: {error.strerror}") from error
    if is_empty:
        raise ParseError("is empty: fill it, or remove it")
    return beginning


_SIGNATURES = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a ZIP archive or Office file",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office file (before 2007), or an encrypted one",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"{\\rtf": "an RTF document",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"\x7fELF": "a program",
    b"MZ": "a program",
}
_EXPECTED = {
    ".pdf": b"%PDF-",
    ".docx": b"PK\x03\x04",
    ".xlsx": b"PK\x03\x04",
    ".xlsm": b"PK\x03\x04",
    ".ods": b"PK\x03\x04",
    ".xls": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    ".parquet": b"PAR1",
}
_OLE = _EXPECTED[".xls"]


def _check_content(path: Path, kind: str, beginning: bytes) -> None:
    """A file that is called what it is not is rarely what its author meant to give."""
    expected = _EXPECTED.get(kind)
    found = next((signature for signature in _SIGNATURES if beginning.startswith(signature)), None)
    if kind == ".pdf" and b"%PDF-" in beginning:  # some programs write a line above
        found = expected
    if kind in _PACKED and found == _OLE:
        raise ParseError(_why_old(path))
    if found != expected and not (kind == ".arrow" and found == b"ARROW1"):
        what = _SIGNATURES[found] if found else "text" if expected and _is_text(beginning) else "something else"
        raise ParseError(f"is called {kind}, but is {what} by its content: rename it, or save it as {kind}")
    if kind in _PACKED:
        _check_archive(path, kind)


def _is_text(beginning: bytes) -> bool:
    return not set(beginning) & set(range(9))


def _why_old(path: Path) -> str:
    """Office keeps an encrypted file in the container of its old formats."""
    with path.open("rb") as opened:
        content = opened.read(MAX_FILE_BYTES)
    if "EncryptedPackage".encode("utf-16-le") in content:
        return "is encrypted: save it without a password"
    return "is in the format of before 2007: save it in the new one"


def _check_archive(path: Path, kind: str) -> None:
    """A small archive can unpack to more than there is memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ParseError(f"is damaged or cut off: copy it again, or save it again ({error})") from error
    if any(member.flag_bits & 1 for member in members):
        raise ParseError("is encrypted: save it without a password")
    size = sum(member.file_size for member in members)
    if size > MAX_UNPACKED_BYTES:
        raise ParseError(f"unpacks to {size // 1_000_000} MB: is it an archive bomb? If not, split it")
    if not any(member.filename.startswith(_PACKED[kind]) for member in members):
        raise ParseError(f"is called {kind}, but is another kind of ZIP archive: unpack it, or save it as {kind}")
