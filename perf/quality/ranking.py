"""How good a ranking is, against the documents that answer the question. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields

DEPTH = 10  # of a ranking: what lies deeper counts as not found


@dataclass(frozen=True, slots=True)
class Measures:
    """Means over questions, each 0-1. Recall is the share of a question's relevant documents that were found."""

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mrr: float  # reciprocal rank of the first relevant document, 0 if it is not among the first ten
    ndcg_at_10: float  # gains are 1 or 0, discounted by log2(rank + 1), as a share of the best possible order

    def to_json(self) -> dict[str, float]:
        return {name.replace("_at_", "@"): round(value, 4) for name, value in asdict(self).items()}


def measure(ranking: Sequence[str], relevant: frozenset[str]) -> Measures:
    """Of one question. ranking: document ids, best first, each once; relevant: at least one."""
    gains = [document in relevant for document in ranking[:DEPTH]]
    ideal = sum(_discount(rank) for rank in range(min(DEPTH, len(relevant))))
    return Measures(
        recall_at_1=sum(gains[:1]) / len(relevant),
        recall_at_5=sum(gains[:5]) / len(relevant),
        recall_at_10=sum(gains) / len(relevant),
        mrr=next((1 / (rank + 1) for rank, gain in enumerate(gains) if gain), 0.0),
        ndcg_at_10=sum(_discount(rank) for rank, gain in enumerate(gains) if gain) / ideal,
    )


def mean(measures: Sequence[Measures]) -> Measures:
    return Measures(
        *(math.fsum(getattr(each, one.name) for each in measures) / len(measures) for one in fields(Measures))
    )


def documents_of(chunk_documents: Iterable[str]) -> list[str]:
    """A ranking of documents from one of their chunks: a document stands where its best chunk does."""
    return list(dict.fromkeys(chunk_documents))


def _discount(rank: int) -> float:
    """rank: from 0."""
    return 1 / math.log2(rank + 2)
