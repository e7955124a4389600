"""What a run would change: the chunks that documents give now, against those that are published. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ingestion.chunk import Chunk, Origin, chunk_digest
from models.protocols import Vectors


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """What of a published chunk has to be known to tell whether it changes."""

    id: str
    digest: str
    vector_key: str
    document_id: str
    source: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Difference:
    added: tuple[Chunk, ...]  # new, or with anything about them changed
    removed: frozenset[str]  # ids
    unchanged: int  # chunks
    new_documents: int
    changed_documents: int
    deleted_documents: int
    kept_documents: int  # not readable now: what they said before stays

    @property
    def is_empty(self) -> bool:
        return not self.added and not self.removed


@dataclass(frozen=True, slots=True)
class VersionChange:
    """From one version to another, whichever is the later. What was only moved within its document is not in it."""

    gone: frozenset[tuple[str, str]]  # (id, `content_digest`) of chunks that are not there any more, or not like that
    added: tuple[Chunk, ...]  # new, or with other content
    vectors: Vectors  # (added, dim)
    question_vectors: Vectors  # (added, dim); a passage's row is zero


def compare(
    chunks: Sequence[Chunk],
    stored: Sequence[StoredChunk],
    replaces: Callable[[StoredChunk], bool],
    unreadable: Iterable[str] = (),
) -> Difference:
    """replaces: whether a stored chunk stands for what was read; all others stay as they are.

    unreadable: sources of rejects, "file" or "file:row". What was published of these files and is not there now stays:
    an update that fails loses nothing.
    """
    digests = {chunk.id: chunk.digest for chunk in stored}
    new_ids = {chunk.id for chunk in chunks}
    lost = {source for reject in unreadable for source in _prefixes(reject)}
    old = [chunk for chunk in stored if replaces(chunk)]
    gone = [chunk for chunk in old if chunk.id not in new_ids]
    removed = frozenset(chunk.id for chunk in gone if chunk.source not in lost)
    added = tuple(chunk for chunk in chunks if digests.get(chunk.id) != chunk_digest(chunk))
    touched = {chunk.document_id for chunk in added} | {chunk.document_id for chunk in gone if chunk.id in removed}
    before, now = {chunk.document_id for chunk in old}, {chunk.document_id for chunk in chunks}
    return Difference(
        added=added,
        removed=removed,
        unchanged=len(chunks) - len(added),
        new_documents=len(now - before),
        changed_documents=len(touched & now & before),
        deleted_documents=len({chunk.document_id for chunk in gone if chunk.id in removed} - now),
        kept_documents=len({chunk.document_id for chunk in gone if chunk.id not in removed} - now),
    )


def _prefixes(source: str) -> list[str]:
    """A name of a file may hold colons, too."""
    return [source, *(source[:place] for place, letter in enumerate(source) if letter == ":")]
