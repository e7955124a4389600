"""One knowledge version in memory: its segments, without the rows that later edits took out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np

from ingestion.chunk import Chunk
from ingestion.lexical_index import best_score, shared_weights
from ingestion.segment import Mask, Segment, Visible
from models.protocols import Vectors

# What a lexical search finds at first, before it looks deeper.
_MARGIN = 1.2
_LEAST_DEPTH = 20
_MOST_AT_FIRST = 20  # in multiples of top_k: who may see little may yet see all that holds these words


@dataclass(frozen=True, slots=True)
class Part:
    """A segment as one version has it."""

    segment: Segment
    alive: Mask | None  # None: all rows

    @property
    def live_count(self) -> int:
        return self.segment.size if self.alive is None else int(self.alive.sum())


@dataclass(frozen=True, slots=True)
class Hit:
    """A row that was found. Its chunk takes 28 µs to read at first, and of a pool most are never asked for."""

    score: float
    segment: Segment
    row: int

    @property
    def id(self) -> str:
        return self.segment.chunk_id(self.row)

    @property
    def language(self) -> str:
        return self.segment.language(self.row)

    @property
    def chunk(self) -> Chunk:
        return self.segment.chunk(self.row)


class KnowledgeVersion:
    """Searches are thread-safe and see only what the audiences may, on the day they may."""

    def __init__(self, name: str, checksum: str, embedder_identity: str, dim: int, parts: Sequence[Part]) -> None:
        self.name = name  # "v000002"
        # Names begin anew when a collection was deleted and made again; what was cached under one must not come back.
        self.id = f"{name}-{checksum[:8]}"
        self.embedder_identity = embedder_identity
        self.dim = dim
        self.parts = tuple(parts)
        self.chunk_count = sum(part.live_count for part in parts)
        self._visible = lru_cache(maxsize=64)(self._look_up_visible)

    @property
    def segments(self) -> Mapping[str, Segment]:
        """By key: a later version that has them, too, need not load them again."""
        return {part.segment.key: part.segment for part in self.parts}

    def chunk(self, chunk_id: str) -> Chunk | None:
        for part in self.parts:
            row = part.segment.row_of(chunk_id)
            if row is not None and (part.alive is None or part.alive[row]):
                return part.segment.chunk(row)
        return None

    def search_dense(
        self, vector: Vectors, top_k: int, audiences: frozenset[str], today: date, language: str | None = None
    ) -> list[Hit]:
        """By cosine similarity, passages and pairs alike. language: also finds chunks of no language ("und")."""

        def search(part: Part, visible: Visible) -> list[tuple[int, float]]:
            return part.segment.dense.search(vector, top_k, visible.dense)

        return self._search(search, top_k, audiences, today, language)

    def search_questions(
        self, vector: Vectors, top_k: int, audiences: frozenset[str], today: date, language: str | None = None
    ) -> list[Hit]:
        """Curated pairs by the cosine similarity of their questions."""

        def search(part: Part, visible: Visible) -> list[tuple[int, float]]:
            rows = part.segment.question_rows
            found = part.segment.questions.search(vector, top_k, visible.questions)
            return [(int(rows[place]), score) for place, score in found]

        return self._search(search, top_k, audiences, today, language)

    def search_lexical(
        self, text: str, top_k: int, audiences: frozenset[str], today: date, language: str | None = None
    ) -> list[Hit]:
        """By BM25, passages and pairs alike; a score is the share of the most that the text could score, 0-1."""
        indexes = [part.segment.lexical for part in self.parts]
        # A word is as rare as it is in all segments together, or scores of a small one would not compare.
        weights = shared_weights(indexes, text) if len(indexes) > 1 else [None] * len(indexes)
        of_part = {part.segment.key: weight for part, weight in zip(self.parts, weights, strict=True)}

        def search(part: Part, visible: Visible) -> list[tuple[int, float]]:
            """Looks deeper until enough of what it finds may be seen."""
            if top_k < 1 or not visible.dense.count:
                return []
            depth = _first_depth(top_k, visible.dense.share)
            while True:
                hits = part.segment.lexical.search(text, depth, of_part[part.segment.key])
                seen = [(row, score) for row, score in hits if visible.mask[row]]
                if len(seen) >= top_k or len(hits) < depth:
                    return seen[:top_k]
                depth *= 4

        return self._search(search, top_k, audiences, today, language, best_score(indexes, text))

    def _search(
        self,
        search: Callable[[Part, Visible], list[tuple[int, float]]],
        top_k: int,
        audiences: frozenset[str],
        today: date,
        language: str | None,
        best: float = 1.0,
    ) -> list[Hit]:
        """The best of all segments, whose scores compare. best: the score that is called 1."""
        found = [
            Hit(score / best, part.segment, row)
            for part, visible in zip(self.parts, self._visible(audiences, today, language), strict=True)
            for row, score in search(part, visible)
        ]
        found.sort(key=lambda hit: -hit.score)
        return found[:top_k]

    def _look_up_visible(self, audiences: frozenset[str], today: date, language: str | None) -> tuple[Visible, ...]:
        return tuple(part.segment.visible(part.alive, audiences, today, language) for part in self.parts)


def _first_depth(top_k: int, share: float) -> int:
    """How many to find so that, by chance, `top_k` of them are among the share that may be seen."""
    return min(int(_MARGIN * top_k / share) + _LEAST_DEPTH, _MOST_AT_FIRST * top_k)


def alive_mask(size: int, dead_rows: Iterable[int]) -> Mask | None:
    """None where all rows are alive."""
    dead = np.fromiter(dead_rows, dtype=np.int64)
    if not len(dead):
        return None
    mask = np.ones(size, dtype=bool)
    mask[dead] = False
    return mask
