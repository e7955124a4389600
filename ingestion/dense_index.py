"""Exact cosine search over normalised vectors, by FAISS (a flat inner-product index).

Exact, because a company's knowledge is some thousand chunks: 100,000 vectors of 384 dimensions take 154 MB and some
10 ms a search on one core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from models.protocols import Vectors


class Selection:
    """Which rows a search may return; prepared once and used by many searches, from any thread."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.count = int(mask.sum())
        self.parameters: Any = None
        if self.count < len(mask):
            self._bits = np.packbits(mask, bitorder="little")  # FAISS keeps a pointer to it, so it has to live here
            self._selector = faiss.IDSelectorBitmap(len(mask), faiss.swig_ptr(self._bits))
            search_parameters: Any = faiss.SearchParameters  # whose stub knows no arguments
            self.parameters = search_parameters(sel=self._selector)


class DenseIndex:
    """Row numbers by cosine similarity. Searches are thread-safe."""

    def __init__(self, path: Path) -> None:
        self._index = faiss.read_index(str(path))

    def search(self, vector: Vectors, top_k: int, selection: Selection) -> list[tuple[int, float]]:
        """(row, cosine similarity), best first. vector: (dim,) or (1, dim)."""
        count = min(top_k, selection.count)
        if count < 1:
            return []
        query = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, -1)
        if query.shape[1] != self._index.d:
            raise ValueError(f"the vector has {query.shape[1]} dimensions, the index {self._index.d}")
        scores, rows = self._index.search(query, count, params=selection.parameters)
        return [(int(row), float(score)) for row, score in zip(rows[0], scores[0], strict=True) if row >= 0]


def build_dense_index(path: Path, vectors: Vectors) -> None:
    """Row n is the n-th vector."""
    index = faiss.IndexFlatIP(int(vectors.shape[1]))
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    faiss.write_index(index, str(path))
