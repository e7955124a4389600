"""What is read of all files, piece by piece: from documents to chunks, and as rows of Ray Data where it reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ingestion.chunk import Chunk
from ingestion.document import Document, Reject, shallow
from ingestion.split import split

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """`file` and `document` tell documents apart and keep their order."""

    file: int
    document: int  # within the file
    fingerprint: str  # of the document; a reject has none
    found: Chunk | Reject


def pieces(file: int, found: Iterable[Document | Reject], collection: str) -> Iterator[Piece]:
    """The chunks of each document, and the rejects between them."""
    for number, each in enumerate(found):
        if isinstance(each, Reject):
            yield Piece(file, number, "", each)
            continue
        fingerprint = each.fingerprint
        for chunk in split(each, collection):
            yield Piece(file, number, fingerprint, chunk)


@dataclass(slots=True)
class Gathered:
    """What all files gave together. The first of equal documents is kept."""

    chunks: list[Chunk] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    duplicates: int = 0
    documents: int = 0


def gather(found: Iterable[Piece]) -> Gathered:
    gathered = Gathered()
    owners: dict[str, tuple[int, int]] = {}  # fingerprint → the document that has it
    left_out: set[tuple[int, int]] = set()
    ids: set[str] = set()
    for piece in found:
        if isinstance(piece.found, Reject):
            gathered.rejects.append(piece.found)
            continue
        document = (piece.file, piece.document)
        if owners.setdefault(piece.fingerprint, document) != document:
            left_out.add(document)
        elif piece.found.id not in ids:  # two rows may have one id of their own and a passage in common
            ids.add(piece.found.id)
            gathered.chunks.append(piece.found)
    gathered.documents, gathered.duplicates = len(owners), len(left_out)
    return gathered


# --- between processes: JSON in columns, so that nothing is pickled ---


def to_row(piece: Piece) -> Row:
    kind = "reject" if isinstance(piece.found, Reject) else "chunk"
    body = json.dumps(shallow(piece.found), ensure_ascii=False, default=date.isoformat)
    return {**shallow(piece), "kind": kind, "found": body}


def from_row(row: Row) -> Piece:
    found = Reject(**json.loads(row["found"])) if row["kind"] == "reject" else _chunk(row["found"])
    return Piece(int(row["file"]), int(row["document"]), row["fingerprint"], found)


def _chunk(text: str) -> Chunk:
    raw: Row = json.loads(text)
    for key in ("valid_from", "valid_until"):
        raw[key] = date.fromisoformat(raw[key]) if raw[key] else None
    return Chunk(**{**raw, "heading_path": tuple(raw["heading_path"])})
