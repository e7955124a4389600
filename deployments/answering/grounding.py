"""Which sources an answer rests on. Pure.

A generated sentence is supported by the chunk that holds most of its content words. Word overlap is a coarse measure,
but a transparent one that works in both languages and needs no second model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from deployments.answering.types import Citation, RetrievedChunk
from deployments.answering.words import coverage, words
from ingestion.chunk import Chunk

LEAST_SUPPORT = 0.5  # share of a sentence's content words that its source must hold
QUOTE_CHARS = 280  # shown with a citation
_SENTENCE_END = re.compile(r"(?<=[.!?。！？\n])\s*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class Grounding:
    citations: tuple[Citation, ...]
    is_grounded: bool  # every sentence with content has a source, and every number stands in the evidence


def ground(answer: str, chunks: Sequence[RetrievedChunk]) -> Grounding:
    """The sources of a generated answer, in the order in which its sentences need them."""
    bags = [words(f"{found.chunk.title} {' '.join(found.chunk.heading_path)} {found.chunk.text}") for found in chunks]
    support: dict[int, float] = {}
    unsupported = False
    for sentence in _SENTENCE_END.split(answer):
        needed = words(sentence)
        if not needed:
            continue
        shares = [coverage(needed, bag) for bag in bags]
        best = max(range(len(shares)), key=shares.__getitem__, default=None)
        if best is None or shares[best] < LEAST_SUPPORT:
            unsupported = True
            continue
        support[best] = max(support.get(best, 0.0), shares[best])
    citations = tuple(
        cite(chunks[position].chunk, index, share) for index, (position, share) in enumerate(support.items(), start=1)
    )
    return Grounding(citations, bool(citations) and not unsupported and _numbers_stand(answer, chunks))


def cite(chunk: Chunk, index: int = 1, support: float = 1.0) -> Citation:
    return Citation(
        index=index,
        chunk_id=chunk.id,
        document_id=chunk.document_id,
        title=chunk.title or chunk.question or chunk.source,
        url=chunk.url,
        heading_path=chunk.heading_path,
        quote=excerpt(chunk.answer or chunk.text, QUOTE_CHARS),
        support=round(support, 3),
        page=chunk.page,
    )


def excerpt(text: str, max_chars: int) -> str:
    """The start of `text`, cut at a sentence where there is one, otherwise with an ellipsis."""
    text = text.strip()
    if len(text) <= max_chars:
        return text
    head = text[:max_chars]
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s)|[。！？\n]", head)]
    return head[: ends[-1]].strip() if ends and ends[-1] >= max_chars // 2 else head.rstrip() + "…"


def _numbers_stand(answer: str, chunks: Sequence[RetrievedChunk]) -> bool:
    evidence = " ".join(found.chunk.text for found in chunks)
    known = set(_NUMBER.findall(evidence))
    return all(number in known for number in _NUMBER.findall(answer))
