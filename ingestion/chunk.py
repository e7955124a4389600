"""A retrievable piece of knowledge, as it is stored, searched and cited. Pure: no store, no index."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

from ingestion.document import digest, shallow

ChunkKind = Literal["passage", "qa"]
Origin = Literal["apply", "edit"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage of a document, or one curated question-answer pair.

    `id` is a content hash (collection, document, kind, text …): the same content has the same id in every version.
    A `qa` chunk has `question` and `answer`; its `text` is both, for retrieval. A `passage` has neither.
    """

    id: str
    document_id: str
    position: int  # 0-based order within the document
    kind: ChunkKind
    text: str
    title: str
    language: str  # "en", "zh" or "und"
    audience: str  # who may see it: "public" or a name that an API key must carry
    source: str  # path or URL it was read from, relative to the ingested root
    url: str = ""
    heading_path: tuple[str, ...] = ()
    question: str = ""
    answer: str = ""
    page: int | None = None  # 1-based, of paginated sources
    valid_from: date | None = None
    valid_until: date | None = None  # the last day on which it is true
    is_curated: bool = False  # a pair that was given as one, by hand or by a row's columns, not found in a document
    origin: Origin = "apply"  # "edit": put in by hand, and left alone by an `apply` of files


def chunk_digest(chunk: Chunk) -> str:
    """Of everything about it: a chunk may keep its id and become visible to others."""
    return digest(*shallow(chunk).values())


def content_digest(chunk: Chunk) -> str:
    """Of what an answer takes from it: the same wherever in its document or files it stands."""
    return digest(
        chunk.kind,
        chunk.text,
        chunk.title,
        chunk.question,
        chunk.answer,
        chunk.url,
        chunk.heading_path,
        chunk.language,
        chunk.audience,
        chunk.valid_from,
        chunk.valid_until,
        chunk.is_curated,
    )


class Found(Protocol):
    """A chunk found by one search. It may be read only when it is asked for."""

    @property
    def id(self) -> str: ...

    @property
    def language(self) -> str: ...

    @property
    def chunk(self) -> Chunk: ...

    @property
    def score(self) -> float:
        """Compares only within one search.

        dense: cosine similarity; lexical: BM25 as a share of the most that the question could score, 0-1.
        """
        ...


@dataclass(frozen=True, slots=True)
class ScoredChunk:
    """What was found, whole: it may leave the process."""

    chunk: Chunk
    score: float

    @property
    def id(self) -> str:
        return self.chunk.id

    @property
    def language(self) -> str:
        return self.chunk.language
