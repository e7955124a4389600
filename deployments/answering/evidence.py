"""What a stored answer rests on, and whether it still does after the knowledge has changed. Pure.

An answer survives a new version of the knowledge when none of its chunks is gone or says something else, and nothing
was added that would now rank among them. In doubt it does not: the cost is an answer made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from deployments.answering.types import (
    CachedAnswer,
    Evidence,
    EvidenceBound,
    EvidenceRef,
    Language,
    Principal,
    RetrievedChunk,
    Standing,
)
from deployments.answering.words import coverage, words
from ingestion.chunk import Chunk, content_digest
from ingestion.difference import VersionChange
from models.protocols import Vectors

NEVER = 2.0  # no cosine and no share is that large
# Below the weakest chunk that an answer rests on: an index compresses vectors, and the fusion weighs words as well.
RANKING_SLACK = 0.01
# A pair that leads by this much is as sure as one that is alone (curated.py); one less near than this is seldom given.
PAIR_LEAD = 0.03
NEAR_PAIR = 0.90
LEAST_COVERAGE = 0.4  # a chunk with less of the question's words does not rank by them


def bound_of_pair(pair: RetrievedChunk) -> EvidenceBound:
    """Of a curated answer: another pair disturbs it that is nearer to the question, or not much less near."""
    return EvidenceBound(
        chunks=(reference(pair.chunk),),
        passage_similarity=NEVER,
        pair_similarity=(pair.similarity or 0.0) - PAIR_LEAD,
        coverage=NEVER,
    )


def bound_of_passages(used: Sequence[RetrievedChunk], question: str, language: Language) -> EvidenceBound:
    """Of a written answer. used: all that the model was shown, at least one."""
    asked = words(question)
    similarities = [found.similarity for found in used if found.similarity is not None]
    coverages = [coverage(asked, _words_of(found.chunk)) for found in used]
    return EvidenceBound(
        chunks=tuple(reference(found.chunk) for found in used),
        passage_similarity=min(similarities, default=0.0) - RANKING_SLACK,
        pair_similarity=NEAR_PAIR,
        coverage=max(LEAST_COVERAGE, min(coverages)),
        is_foreign=all(found.chunk.language not in (language, "und") for found in used),
    )


def reference(chunk: Chunk) -> EvidenceRef:
    return EvidenceRef(chunk.id, content_digest(chunk))


def end_of_validity_s(chunks: Sequence[Chunk]) -> float | None:
    """Unix time from which one of them is no longer true."""
    days = [chunk.valid_until for chunk in chunks if chunk.valid_until is not None]
    return datetime.combine(min(days) + timedelta(days=1), time(), UTC).timestamp() if days else None


def still_stands(standing: Standing, change: VersionChange, principal: Principal, today: date) -> bool:
    """Whether the answer would be given from the changed knowledge, too."""
    bound = standing.evidence
    if any((ref.chunk_id, ref.content) in change.gone for ref in bound.chunks):
        return False
    rows = [
        row for row, chunk in enumerate(change.added) if _is_seen(chunk, bound, standing.language, principal, today)
    ]
    if not rows:
        return True
    if bound.is_foreign and any(change.added[row].language == standing.language for row in rows):
        return False  # knowledge in the question's own language is searched alone
    if _nearest(change.vectors[rows], standing.embedding) >= bound.passage_similarity:
        return False
    if _nearest(change.question_vectors[rows], standing.embedding) >= bound.pair_similarity:
        return False
    asked = words(standing.question)
    return bound.coverage > 1 or all(coverage(asked, _words_of(change.added[row])) < bound.coverage for row in rows)


def agrees(answer: CachedAnswer, evidence: Evidence, pair: RetrievedChunk | None) -> bool | None:
    """Whether a question for which this was found would get this answer anew; None where that cannot be told.

    pair: the curated one that would answer it.
    """
    rests_on = {ref.chunk_id for ref in answer.evidence.chunks}
    if pair is not None:
        return pair.chunk.id in rests_on or pair.chunk.answer == answer.text
    found = [hit.chunk.id for hit in (*evidence.chunks[: len(rests_on)], *evidence.pairs[:1])]
    return True if rests_on & set(found) else None


def _is_seen(chunk: Chunk, bound: EvidenceBound, language: Language, principal: Principal, today: date) -> bool:
    """Whether a search for the question could find it. What becomes true later counts: nothing is published then."""
    if chunk.audience not in principal.audiences or (chunk.valid_until is not None and chunk.valid_until < today):
        return False
    return bound.is_foreign or chunk.language in (language, "und")


def _nearest(vectors: Vectors, embedding: Vectors) -> float:
    return float(np.max(vectors @ embedding))


def _words_of(chunk: Chunk) -> frozenset[str]:
    return words(f"{chunk.title} {chunk.text}")
