"""Vectors of stored questions in memory, and which answers go when there are too many. Knows no store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

import faiss
import numpy as np

from models.protocols import Vectors


@dataclass(slots=True)
class Indexed:
    """What is known of a stored answer without reading it."""

    key: str
    question: str
    size: int  # bytes
    tokens: int  # of the model, saved by each hit
    created_at_s: float  # Unix time
    hits: int = 0

    def value(self, now_s: float) -> float:
        """Tokens saved a second: what is new and was never asked again is worth less the longer it lies there."""
        return (1 + self.hits) * (1 + self.tokens) / max(1.0, now_s - self.created_at_s)


class CacheIndex:
    """One flat inner-product index a scope."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._ids: OrderedDict[str, int] = OrderedDict()  # key → id, oldest first
        self._entries: dict[int, Indexed] = {}
        self._indexes: dict[str, Any] = {}  # scope digest → faiss.IndexIDMap2
        self._next_id = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, key: str) -> Indexed | None:
        entry_id = self._ids.get(key)
        return None if entry_id is None else self._entries[entry_id]

    def add(self, scope: str, entry: Indexed, embedding: Vectors) -> None:
        """In place of what has its key. embedding: (dim,), L2-normalised."""
        self.remove(entry.key, scope)
        row = np.ascontiguousarray(embedding, dtype=np.float32).reshape(1, -1)
        index = self._indexes.setdefault(scope, faiss.IndexIDMap2(faiss.IndexFlatIP(row.shape[1])))
        index.add_with_ids(row, np.array([self._next_id], dtype=np.int64))
        self._ids[entry.key] = self._next_id
        self._entries[self._next_id] = entry
        self._next_id += 1
        self.bytes += entry.size

    def remove(self, key: str, scope: str) -> None:
        entry_id = self._ids.pop(key, None)
        if entry_id is None:
            return
        self.bytes -= self._entries.pop(entry_id).size
        index = self._indexes[scope]
        index.remove_ids(np.array([entry_id], dtype=np.int64))
        if index.ntotal == 0:
            del self._indexes[scope]

    def surplus(self, now_s: float) -> list[str]:
        """Keys of the least value that are too many; with some more, so that it need not be asked at each new one."""
        count = len(self._ids) - self._max_entries
        if count > 0:
            wanted = count + self._max_entries // 100
        elif self.bytes > self._max_bytes:
            wanted = max(1, round(len(self._ids) * (1.01 - self._max_bytes / self.bytes)))
        else:
            return []
        return [entry.key for entry in nsmallest(wanted, self._entries.values(), _by_value(now_s))]

    def nearest(self, scope: str, embedding: Vectors, top_k: int) -> list[tuple[float, Indexed]]:
        """(cosine similarity, entry), best first."""
        index = self._indexes.get(scope)
        if index is None:
            return []
        row = np.ascontiguousarray(embedding, dtype=np.float32).reshape(1, -1)
        similarities, ids = index.search(row, top_k)
        return [
            (float(similarity), self._entries[int(entry_id)])
            for similarity, entry_id in zip(similarities[0], ids[0], strict=True)
            if entry_id >= 0
        ]


def _by_value(now_s: float) -> Callable[[Indexed], float]:
    return lambda entry: entry.value(now_s)
