"""One ranking made of two searches, without copies. Pure.

Similarities and BM25 do not compare, and ranks alone forget how clear a case was: a mere neighbour in both lists beat
the one right chunk of either. So each search speaks in a measure of its own certainty. The dense one: by how many
standard deviations a chunk stands out from its pool, which no encoder's scale changes. The lexical one: by how much of
what was asked for a chunk holds, which is next to nothing for a question in another language than the knowledge.
What was tried instead, and by how much it was worse, is in perf/LOG.md.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from math import sqrt
from statistics import fmean

from deployments.answering.types import RetrievedChunk
from ingestion.chunk import Chunk, Found
from ingestion.language import CJK

POOL = 50  # chunks that each search gives to the fusion
# Of a chunk's share times the best share, against standard deviations. The right chunk stands out by some 3.5 of these;
# of a question in other words than its own it holds a fifth (80 · 0.2² = 3.2), of one in its own words the half (20).
# From 40 to 100 it makes little difference.
LEXICAL_WEIGHT = 80.0
# What the best chunk holds by chance alone: the name of a product in a question of another language than the knowledge.
CHANCE_SHARE = 0.03
_ALIKE = 1e-9  # of standard deviations: what sums of equal floats leave

_WORDS = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:[.,'][^\W_{CJK}]+)*|[%‰$€£¥<>≤≥]")
# Words that may come and go without a change of meaning. No number and no denial is among them.
_EMPTY_WORDS = frozenset(("a", "an", "the", "this", "that", "is", "are", "of", "in", "on", "for", "to", "的", "了"))


def fuse(dense: Sequence[Found], lexical: Sequence[Found], top_k: int) -> list[RetrievedChunk]:
    """The best `top_k` of both searches, each text once. Either list may be empty; both are best first.

    Reads no more chunks than it takes to tell these apart.
    """
    by_id = {found.id: found for found in (*dense, *lexical)}
    similarity = {found.id: found.score for found in dense}
    share = {found.id: found.score for found in lexical}
    outstanding = _standardised(similarity)
    # What a search did not find is at most as good as the last that it did; unless it found all there is.
    unseen = min(outstanding.values(), default=0.0)
    unheard = min(share.values()) if len(lexical) >= POOL else 0.0
    certainty = LEXICAL_WEIGHT * max(0.0, max(share.values(), default=0.0) - CHANCE_SHARE)
    score = {key: outstanding.get(key, unseen) + certainty * share.get(key, unheard) for key in by_id}
    ranked = sorted(by_id, key=lambda key: (-score[key], -share.get(key, 0.0), key))
    found = (RetrievedChunk(by_id[key].chunk, score[key], similarity.get(key), share.get(key)) for key in ranked)
    return _distinct(found, top_k)


def _standardised(values: dict[str, float]) -> dict[str, float]:
    """In standard deviations from their mean; zero where all are alike."""
    mean = fmean(values.values()) if values else 0.0
    # Not `statistics.pstdev`, which reckons in fractions: a fifth of a search.
    deviation = sqrt(fmean((value - mean) ** 2 for value in values.values())) if values else 0.0
    return {key: (value - mean) / deviation if deviation > _ALIKE else 0.0 for key, value in values.items()}


def _distinct(ranked: Iterable[RetrievedChunk], top_k: int) -> list[RetrievedChunk]:
    """The first `top_k` that say something else than those before."""
    kept: dict[str, RetrievedChunk] = {}
    for found in ranked:
        kept.setdefault(essence(found.chunk), found)
        if len(kept) == top_k:
            break
    return list(kept.values())


def essence(chunk: Chunk) -> str:
    """What two copies have in common: all words that mean something, in their order, whatever their lay-out.

    Texts that differ in a number, a name or a denial have different ones, and so have equal texts under titles that do:
    the conditions of two products may well read the same.
    """
    said = unicodedata.normalize("NFKC", f"{chunk.title} {chunk.text}").casefold().replace("’", "'")
    return " ".join(word for word in _WORDS.findall(said) if word not in _EMPTY_WORDS)
