"""Documents to chunks: by headings, then by paragraphs and sentences; a table's row is never cut. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from ingestion.chunk import Chunk, ChunkKind
from ingestion.document import Block, Document, digest, gap
from ingestion.language import detect_language, width

# 1000 small Latin letters are some 200 tokens of the bundled encoder, which reads 256: a chunk fits, with its title.
MAX_WIDTH = 1000.0
_SMALL_WIDTH = 330.0  # a chunk below takes in the next section, too: a heading and a line answer little
# Behind the end of a sentence (with its closing quote), and at the end of a line.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？；…])(?![”’」』）])|(?<=[。！？…][”’」』）])|\n+")
_CLAUSE_END = re.compile(r"(?<=[,;:])\s+|(?<=[，、：；])")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text of one section that fits a chunk, or a pair."""

    path: tuple[str, ...]  # headings above it
    text: str
    page: int | None
    question: str = ""  # of a pair
    answer: str = ""

    @property
    def kind(self) -> ChunkKind:
        return "qa" if self.question else "passage"


def split(document: Document, collection: str) -> list[Chunk]:
    pair = Block("pair", document.answer, question=document.question)
    blocks = (pair,) if document.question else document.blocks
    pieces = _merge_small([piece for path, section in _sections(blocks) for piece in _pieces(path, section)])
    seen: Counter[str] = Counter()
    chunks = []
    for position, piece in enumerate(pieces):
        path = tuple(part for part in (document.details.topic, *piece.path) if part)
        key = digest(collection, document.id, document.title, path, piece)
        seen[key] += 1
        unique = key if seen[key] == 1 else digest(key, seen[key])  # a document may say the same twice
        chunks.append(_chunk(document, piece, unique, position, path))
    return chunks


def _chunk(document: Document, piece: _Piece, key: str, position: int, path: tuple[str, ...]) -> Chunk:
    details = document.details
    return Chunk(
        id=key,
        document_id=document.id,
        position=position,
        kind=piece.kind,
        text=piece.text,
        title=document.title,
        language=details.language or detect_language(f"{document.title} {piece.text}"),
        audience=details.audience,
        source=document.source,
        url=details.url,
        heading_path=path,
        question=piece.question,
        answer=piece.answer,
        is_curated=piece.kind == "qa" and bool(document.question),
        page=piece.page,
        valid_from=details.valid_from,
        valid_until=details.valid_until,
    )


# --- sections ---


def _sections(blocks: Iterable[Block]) -> Iterator[tuple[tuple[str, ...], list[Block]]]:
    """(headings above, blocks) of every stretch between two headings; a pair is a stretch of its own."""
    above: list[Block] = []
    section: list[Block] = []
    for block in blocks:
        if block.kind not in ("heading", "pair"):
            section.append(block)
            continue
        if section:
            yield tuple(heading.text for heading in above), section
            section = []
        if block.level:  # a pair without one stands in a section rather than in place of it
            above = [heading for heading in above if heading.level < block.level]
        if block.kind == "heading":
            above.append(block)
        else:
            yield tuple(heading.text for heading in above), [block]
    if section:
        yield tuple(heading.text for heading in above), section


def _pieces(path: tuple[str, ...], blocks: Sequence[Block]) -> Iterator[_Piece]:
    """Fills chunks with whole blocks; only text too long for one is cut, at the ends of its sentences."""
    if blocks[0].kind == "pair":
        yield from _pair(path, blocks[0])
        return
    units = [unit for block in blocks for unit in _units(block)]
    text, page, filled = "", units[0].page, 0.0
    before = units[0]
    for unit in units:
        space = width(unit.text)
        if text and filled + space > MAX_WIDTH:
            yield _Piece(path, text, page)
            text, page, filled = "", unit.page, 0.0
        text += f"{gap(before, unit)}{unit.text}" if text else unit.text
        filled += space + 2
        before = unit
    yield _Piece(path, text, page)


def _pair(path: tuple[str, ...], block: Block) -> Iterator[_Piece]:
    """A pair is never cut: its answer is given whole. What the encoder does not read of it is found as passages."""
    text = f"{block.question}\n{block.text}"
    yield _Piece(path, text, block.page, block.question, block.text)
    for rest in list(_fill(_sentences(text)))[1:]:
        yield _Piece((*path, block.question), rest, block.page)


def _merge_small(pieces: Sequence[_Piece]) -> list[_Piece]:
    """A small passage takes in its successor, whose headings then stand in the text."""
    merged: list[_Piece] = []
    for piece in pieces:
        is_small = merged and merged[-1].kind == piece.kind == "passage" and width(merged[-1].text) < _SMALL_WIDTH
        joined = _joined(merged[-1], piece) if is_small else None
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
    start = 0
    while start < len(text):
        window = text[start : start + int(MAX_WIDTH)]  # a character is at least 1 wide
        while (space := width(window)) > MAX_WIDTH:
            window = window[: min(len(window) - 1, int(len(window) * MAX_WIDTH / space))]
        if start + len(window) < len(text) and (blank := window.rfind(" ", len(window) // 2)) > 0:
            window = window[: blank + 1]
        yield window
        start += len(window)


def _fill(parts: Iterable[str]) -> Iterator[str]:
    text, filled = "", 0.0
    for part in parts:
        if text and filled + width(part.rstrip()) > MAX_WIDTH:
            yield text.strip()
            text, filled = "", 0.0
        text += part
        filled += width(part)
    if text.strip():
        yield text.strip()
