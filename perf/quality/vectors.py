"""Vectors kept between runs, by what they are made of: embedding some hundred articles takes minutes on two cores."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.protocols import Embedder, EmbedderRecipe, Vectors

_BATCH = 64  # texts embedded between two looks at the progress
_SAVE_EVERY = 8  # batches: what a run that is broken off does again at most


class KeptVectors:
    """One encoder's vectors in one Parquet file; the encoder is loaded only for texts that are new."""

    def __init__(self, folder: Path, encoder: EmbedderRecipe) -> None:
        self.identity = encoder.identity()
        self._path = folder / f"{self.identity.replace('/', '_')}.parquet"
        self._encoder = encoder
        self._embedder: Embedder | None = None
        self._vectors: dict[str, Vectors] = {}
        if self._path.is_file():
            table = pq.read_table(self._path)
            keys, column = table.column("key").to_pylist(), table.column("vector").combine_chunks()
            self._vectors = dict(zip(keys, column.flatten().to_numpy().reshape(len(keys), -1), strict=True))

    def passages(self, texts: Sequence[str]) -> Vectors:
        """(n, dim), of at least one text."""
        return self._of("passage", texts, lambda embedder, batch: embedder.embed_passages(batch))

    def queries(self, texts: Sequence[str]) -> Vectors:
        """(n, dim), of at least one text."""
        return self._of("query", texts, lambda embedder, batch: embedder.embed_queries(batch))

    def _of(self, kind: str, texts: Sequence[str], embed: Callable[[Embedder, list[str]], Vectors]) -> Vectors:
        keys = [hashlib.sha256(f"{kind}\x1f{text}".encode()).hexdigest() for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
        new = sorted(missing, key=lambda key: len(missing[key]))  # so that a batch is hardly padded
        for done in range(0, len(new), _BATCH):
            print(f"embedding: {done} of {len(new)} new texts", file=sys.stderr)
            batch = new[done : done + _BATCH]
            self._embedder = self._embedder or self._encoder.load()
            self._vectors.update(zip(batch, embed(self._embedder, [missing[key] for key in batch]), strict=True))
            if (done // _BATCH + 1) % _SAVE_EVERY == 0:
                self._save()
        if new:
            self._save()
        return np.stack([self._vectors[key] for key in keys])

    def _save(self) -> None:
        matrix = np.stack(list(self._vectors.values())).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        pq.write_table(pa.table({"key": pa.array(list(self._vectors)), "vector": column}), draft)
        draft.replace(self._path)  # as a whole or not at all
