"""What travels between the stages of a job, as rows of Ray Data: JSON in columns, so that nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from ingestion.chunk import Chunk
from ingestion.document import Document, Reject, document_from_json, document_to_json
from ingestion.split import split

Row = dict[str, Any]


def of_found(file: int, found: Iterable[Document | Reject]) -> Iterator[Row]:
    """One row a document or reject; `file` and `number` tell them apart and keep their order."""
    for number, each in enumerate(found):
        kind, body = (
            ("document", document_to_json(each)) if isinstance(each, Document) else ("reject", json.dumps(asdict(each)))
        )
        yield {"file": file, "number": number, "kind": kind, "key": "", "body": body}


def split_row(row: Row, collection: str) -> Iterator[Row]:
    """A document's row to its chunks' rows, whose key is the document's fingerprint; rejects pass through."""
    if row["kind"] != "document":
        yield row
        return
    document = document_from_json(row["body"])
    for chunk in split(document, collection):
        yield {**row, "kind": "chunk", "key": document.fingerprint, "body": chunk_to_json(chunk)}


@dataclass(slots=True)
class Gathered:
    """What all files gave together. The first of equal documents is kept."""

    chunks: list[Chunk] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    duplicates: int = 0
    documents: int = 0


def gather(rows: Iterable[Row]) -> Gathered:
    found = Gathered()
    owners: dict[str, tuple[int, int]] = {}  # fingerprint → the document that has it
    left_out: set[tuple[int, int]] = set()
    ids: set[str] = set()
    for row in rows:
        if row["kind"] == "reject":
            found.rejects.append(Reject(**json.loads(row["body"])))
            continue
        document = (int(row["file"]), int(row["number"]))
        if owners.setdefault(row["key"], document) != document:
            left_out.add(document)
            continue
        chunk = chunk_from_json(row["body"])
        if chunk.id not in ids:  # two rows may have one id of their own and a passage in common
            ids.add(chunk.id)
            found.chunks.append(chunk)
    found.documents, found.duplicates = len(owners), len(left_out)
    return found


def chunk_to_json(chunk: Chunk) -> str:
    return json.dumps(asdict(chunk), ensure_ascii=False, default=date.isoformat)


def chunk_from_json(text: str) -> Chunk:
    raw: Row = json.loads(text)
    for key in ("valid_from", "valid_until"):
        raw[key] = date.fromisoformat(raw[key]) if raw[key] else None
    return Chunk(**{**raw, "heading_path": tuple(raw["heading_path"])})
