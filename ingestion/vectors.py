"""Vectors by key: in memory as matrices, and in files while a run is not published, so that it can be taken up again.

Knows no encoder and no Ray.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ingestion.chunk import Chunk
from ingestion.embedding import vector_key
from ingestion.files import Files
from models.protocols import Vectors


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Vectors of some keys."""

    keys: Sequence[str]
    vectors: Vectors  # (n, dim)
    question_vectors: Vectors  # (n, dim); a passage's row is zero


class VectorTable:
    """Two matrices with a row for each of the keys, filled from whatever has them. A million rows take 1.6 GB (384)."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._rows = {key: row for row, key in enumerate(dict.fromkeys(keys))}
        self._filled = np.zeros(len(self._rows), dtype=np.bool_)
        self._vectors: Vectors = np.empty((0, 0), dtype=np.float32)
        self._question_vectors: Vectors = self._vectors

    def __contains__(self, key: str) -> bool:
        """Whether the key's vectors are here."""
        row = self._rows.get(key)
        return row is not None and bool(self._filled[row])

    def fill(self, batch: VectorBatch) -> None:
        """Keys that the table has no row for are passed over."""
        found = [(row, source) for source, key in enumerate(batch.keys) if (row := self._rows.get(key)) is not None]
        if not found:
            return
        if not self._vectors.size:
            shape = (len(self._rows), batch.vectors.shape[1])
            self._vectors = np.empty(shape, dtype=np.float32)
            self._question_vectors = np.zeros(shape, dtype=np.float32)  # takes memory only where something is written
        rows, sources = np.array(found).T
        self._vectors[rows] = batch.vectors[sources]
        asked = _asked(batch)[sources]
        self._question_vectors[rows[asked]] = batch.question_vectors[sources[asked]]
        self._filled[rows] = True

    def of(self, chunks: Sequence[Chunk], dim: int) -> tuple[Vectors, Vectors]:
        """(chunks, dim), and (pairs, dim) of the pairs among them, in their order. Raises `KeyError` if one is missing.

        dim: for no chunks at all.
        """
        if not chunks:
            return np.empty((0, dim), np.float32), np.empty((0, dim), np.float32)
        rows = np.array([self._rows[vector_key(chunk)] for chunk in chunks])
        if not self._filled[rows].all():
            raise KeyError(f"{int((~self._filled[rows]).sum())} chunks have no vectors yet")
        is_pair = np.array([chunk.kind == "qa" for chunk in chunks])
        return self._vectors[rows], self._question_vectors[rows[is_pair]]


class VectorWork:
    """Finished vectors of a run that is not published yet, kept as they come: <collection>/.work/<embedder>/*.parquet.

    Every file is there as a whole or not at all. A run reads what earlier ones of the same embedder left, and clears
    it all once its version is published.
    """

    def __init__(self, files: Files, collection: str, embedder_identity: str) -> None:
        """collection: its folder, relative to the root of the files."""
        self._files = files
        self._root = f"{collection}/.work"
        self._folder = f"{self._root}/{hashlib.sha256(embedder_identity.encode()).hexdigest()[:16]}"

    def read(self) -> Iterator[VectorBatch]:
        """What is there; a file that is damaged is passed over, and its vectors are made again."""
        for name in self._files.names(self._folder):
            batch = _from_parquet(self._files.read(f"{self._folder}/{name}"))
            if batch is not None:
                yield batch

    def add(self, batch: VectorBatch) -> None:
        """On the disk when this returns."""
        self._files.write(f"{self._folder}/{uuid.uuid4().hex}.parquet", _to_parquet(batch))

    def clear(self) -> None:
        """Of this and every other embedder."""
        if self._files.names(self._root):
            self._files.remove(self._root)


def _asked(batch: VectorBatch) -> NDArray[np.bool_]:
    """Which rows have a question."""
    return np.asarray(batch.question_vectors.any(axis=1), dtype=np.bool_)


def _to_parquet(batch: VectorBatch) -> bytes:
    asked = _asked(batch)
    columns = {
        "key": pa.array(batch.keys, pa.string()),
        "vector": _column(batch.vectors, np.ones_like(asked)),
        "question_vector": _column(batch.question_vectors, asked),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="none", write_page_checksum=True)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _from_parquet(content: bytes) -> VectorBatch | None:
    try:
        table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
        keys, vectors = table.column("key").to_pylist(), _matrix(table.column("vector"))
        return VectorBatch(keys, vectors, _matrix(table.column("question_vector")))
    except (OSError, KeyError, pa.ArrowException):
        return None


def _column(matrix: Vectors, present: NDArray[np.bool_]) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(matrix.shape[1]), mask=pa.array(~present))


def _matrix(column: pa.ChunkedArray) -> Vectors:
    """(rows, dim); null is zero."""
    array = column.combine_chunks()
    matrix: Vectors = np.zeros((len(array), array.type.list_size), dtype=np.float32)
    present = np.asarray(array.is_valid())
    matrix[present] = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, array.type.list_size)
    return matrix
