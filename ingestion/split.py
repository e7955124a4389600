"""Documents to chunks: by headings, then by paragraphs and sentences; a table's row is never cut. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from ingestion.chunk import Chunk
from ingestion.document import Block, Document, digest
from ingestion.language import CJK, detect_language

# 900 Latin letters are some 220 tokens of the bundled encoder, which reads 256: a whole chunk fits, with its title.
MAX_WIDTH = 900.0
_SMALL_WIDTH = 300.0  # a chunk below takes in the next section, too: a heading and a line answer little
_CJK_WIDTH = 2.5  # a Chinese character is about 0.6 tokens, a Latin letter 0.25
_CJK = re.compile(f"[{CJK}]")
# Behind the end of a sentence (with its closing quote), and at the end of a line.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？；…])(?![”’」』）])|(?<=[。！？…][”’」』）])|\n+")
_CLAUSE_END = re.compile(r"(?<=[,;:])\s+|(?<=[，、：；])")


def width(text: str) -> float:
    """Length in Latin letters that the encoder would read as many tokens of."""
    return len(text) + (_CJK_WIDTH - 1) * len(_CJK.findall(text))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text of one section that fits a chunk."""

    path: tuple[str, ...]  # headings above it
    text: str
    page: int | None


def split(document: Document, collection: str) -> list[Chunk]:
    if document.question:
        return [_pair(document, collection)]
    pieces = _merge_small([piece for path, blocks in _sections(document.blocks) for piece in _pieces(path, blocks)])
    seen: Counter[str] = Counter()
    chunks = []
    for position, piece in enumerate(pieces):
        path = tuple(part for part in (document.details.topic, *piece.path) if part)
        key = digest(collection, document.id, "passage", document.title, path, piece.text)
        seen[key] += 1
        unique = key if seen[key] == 1 else digest(key, seen[key])  # a document may say the same twice
        chunk = _chunk(document, unique, piece.text)
        chunks.append(replace(chunk, position=position, heading_path=path, page=piece.page))
    return chunks


def _pair(document: Document, collection: str) -> Chunk:
    path = (document.details.topic,) if document.details.topic else ()
    key = digest(collection, document.id, "qa", path, document.question, document.answer)
    chunk = _chunk(document, key, f"{document.question}\n{document.answer}")
    return replace(chunk, kind="qa", heading_path=path, question=document.question, answer=document.answer)


def _chunk(document: Document, key: str, text: str) -> Chunk:
    details = document.details
    return Chunk(
        id=key,
        document_id=document.id,
        position=0,
        kind="passage",
        text=text,
        title=document.title,
        language=details.language or detect_language(f"{document.title} {text}"),
        audience=details.audience,
        source=document.source,
        url=details.url,
        valid_from=details.valid_from,
        valid_until=details.valid_until,
    )


# --- sections ---


def _sections(blocks: Iterable[Block]) -> Iterator[tuple[tuple[str, ...], list[Block]]]:
    """(headings above, blocks) of every stretch between two headings."""
    above: list[Block] = []
    section: list[Block] = []
    for block in blocks:
        if block.kind != "heading":
            section.append(block)
            continue
        if section:
            yield tuple(heading.text for heading in above), section
        above = [heading for heading in above if heading.level < block.level] + [block]
        section = []
    if section:
        yield tuple(heading.text for heading in above), section


def _pieces(path: tuple[str, ...], blocks: Sequence[Block]) -> Iterator[_Piece]:
    """Fills chunks with whole blocks; only text too long for one is cut, at the ends of its sentences."""
    units = [unit for block in blocks for unit in _units(block)]
    text, page = "", units[0].page
    before = units[0]
    for unit in units:
        joined = f"{text}{_gap(before, unit)}{unit.text}" if text else unit.text
        if text and width(joined) > MAX_WIDTH:
            yield _Piece(path, text, page)
            text, page = unit.text, unit.page
        else:
            text = joined
        before = unit
    yield _Piece(path, text, page)


def _gap(before: Block, unit: Block) -> str:
    return "\n" if before.kind == unit.kind and unit.kind in ("item", "row") else "\n\n"


def _merge_small(pieces: Sequence[_Piece]) -> list[_Piece]:
    """A small piece takes in its successor, whose headings then stand in the text."""
    merged: list[_Piece] = []
    for piece in pieces:
        joined = _joined(merged[-1], piece) if merged and width(merged[-1].text) < _SMALL_WIDTH else None
        if joined is not None and width(joined.text) <= MAX_WIDTH:
            merged[-1] = joined
        else:
            merged.append(piece)
    return merged


def _joined(first: _Piece, second: _Piece) -> _Piece:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first.path, second.path, strict=False))
    common = tuple(heading for heading, _ in same)
    texts = [*first.path[len(common) :], first.text, *second.path[len(common) :], second.text]
    return _Piece(common, "\n\n".join(texts), first.page)


# --- texts too long for one chunk ---


def _units(block: Block) -> list[Block]:
    if block.kind == "row" or width(block.text) <= MAX_WIDTH:
        return [block]
    return [replace(block, text=text) for text in _fill(_sentences(block.text))]


def _sentences(text: str) -> Iterator[str]:
    for sentence in _parts(_SENTENCE_END, text):
        if width(sentence) <= MAX_WIDTH:
            yield sentence
        else:
            yield from (part for clause in _parts(_CLAUSE_END, sentence) for part in _windows(clause))


def _parts(boundary: re.Pattern[str], text: str) -> Iterator[str]:
    """The stretches between boundaries, each with the blank or line end behind it."""
    start = 0
    for found in boundary.finditer(text):
        if found.end() > start:
            yield text[start : found.end()]
            start = found.end()
    if start < len(text):
        yield text[start:]


def _windows(text: str) -> Iterator[str]:
    """Text without any punctuation: at blanks, and where there is none, anywhere."""
    while width(text) > MAX_WIDTH:
        end = int(MAX_WIDTH / (_CJK_WIDTH if _CJK.search(text) else 1))
        blank = text.rfind(" ", end // 2, end)
        cut = blank + 1 if blank > 0 else end
        yield text[:cut]
        text = text[cut:]
    yield text


def _fill(parts: Iterable[str]) -> Iterator[str]:
    text = ""
    for part in parts:
        if text and width(text + part.rstrip()) > MAX_WIDTH:
            yield text.strip()
            text = ""
        text += part
    if text.strip():
        yield text.strip()
