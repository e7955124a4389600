"""One immutable part of a knowledge version: chunks with their vectors in Parquet, and the indexes made from it alone.

chunks.parquet     the source of truth: chunks, their vectors and, of pairs, their question vectors
dense.faiss  questions.faiss  lexical/      derived from it
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ingestion.chunk import Chunk, chunk_digest
from ingestion.dense_index import DenseIndex, DenseIndexInfo, Device, Selection, build_dense_index
from ingestion.embedding import vector_key
from ingestion.errors import CorruptVersionError, StoreError
from ingestion.lexical_index import LexicalIndex, build_lexical_index, searchable_text
from models.protocols import Vectors

INDEX_FORMAT = 4  # raised when indexes are made in another way from the same chunks: words cut differently, say
CHUNKS_FILE = "chunks.parquet"
_DENSE_FILE, _QUESTIONS_FILE, _LEXICAL_FOLDER = "dense.faiss", "questions.faiss", "lexical"
CHUNK_FIELDS = tuple(field.name for field in fields(Chunk))
_TYPES = {
    "position": pa.int32(),
    "heading_path": pa.list_(pa.string()),
    "page": pa.int32(),
    "is_curated": pa.bool_(),
    "valid_from": pa.date32(),
    "valid_until": pa.date32(),
}  # all others are strings
_KEPT_CHUNKS = 20_000  # built from their columns when they are first found: 20 µs each
_ALWAYS = (np.iinfo(np.int32).min, np.iinfo(np.int32).max)

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


# --- chunks as a table ---


def chunk_table(tenant: str, chunks: Sequence[Chunk], vectors: Vectors, question_vectors: Vectors) -> pa.Table:
    """One row a chunk. vectors: (chunks, dim); question_vectors: (pairs, dim), of the pairs among them in their order.

    Raises `StoreError` when they do not add up.
    """
    is_pair = np.array([chunk.kind == "qa" for chunk in chunks], dtype=bool)
    if len(vectors) != len(chunks) or len(question_vectors) != int(is_pair.sum()):
        raise StoreError("every chunk needs one vector, and every pair one question vector")
    if len({chunk.id for chunk in chunks}) < len(chunks):
        raise StoreError("two chunks have the same id")
    columns = {
        name: pa.array([_plain(getattr(chunk, name)) for chunk in chunks], type=_TYPES.get(name, pa.string()))
        for name in CHUNK_FIELDS
    }
    columns["tenant"] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(chunks), np.int32)), pa.array([tenant]))
    columns["digest"] = pa.array([chunk_digest(chunk) for chunk in chunks], pa.string())
    columns["vector_key"] = pa.array([vector_key(chunk) for chunk in chunks], pa.string())
    columns["vector"] = _vector_column(vectors)
    questions = _vector_column(question_vectors)
    places = np.where(is_pair, np.cumsum(is_pair) - 1, -1)
    columns["question_vector"] = questions.take(pa.array(places, mask=~is_pair))
    return pa.table(columns)


def table_chunks(table: pa.Table) -> list[Chunk]:
    return [_chunk(row) for row in table.select(CHUNK_FIELDS).to_pylist()]


def _chunk(values: dict[str, Any]) -> Chunk:
    return Chunk(**{**values, "heading_path": tuple(values["heading_path"])})


def table_vectors(table: pa.Table, name: str = "vector") -> Vectors:
    """(rows, dim), of the rows that have one."""
    column = table.column(name)
    column = pc.drop_null(column) if column.null_count else column
    dim = column.type.list_size
    parts = [np.asarray(part.flatten(), dtype=np.float32).reshape(-1, dim) for part in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty((0, dim), np.float32), *parts])


def _vector_column(matrix: Vectors) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(matrix.shape[1]))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


# --- writing ---


def write_segment(folder: Path, table: pa.Table) -> DenseIndexInfo:
    """Writes the Parquet, and builds the indexes from what was written. Returns what the dense one is."""
    pq.write_table(table, folder / CHUNKS_FILE, row_group_size=100_000, write_page_checksum=True)
    info = build_dense_index(folder / _DENSE_FILE, table_vectors(table))
    build_dense_index(folder / _QUESTIONS_FILE, table_vectors(table, "question_vector"))
    build_lexical_index(folder / _LEXICAL_FOLDER, _texts(table))
    return info


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Raises `CorruptVersionError`."""
    try:
        # `pq.read_table` would load Arrow's data sets for one file: 0.3 s.
        with pq.ParquetFile(folder / CHUNKS_FILE, page_checksum_verification=True) as opened:
            return opened.read(list(columns) if columns else None)
    except (OSError, pa.ArrowException) as error:
        raise CorruptVersionError(f"{folder.name}/{CHUNKS_FILE} cannot be read: {error}") from error


def _texts(table: pa.Table) -> Iterator[str]:
    names = ["title", "heading_path", "text"]
    for batch in table.select(names).to_batches(max_chunksize=10_000):
        for title, path, text in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
            yield searchable_text(title, path, text)


# --- searching ---


@dataclass(frozen=True, slots=True)
class Visible:
    """What one kind of caller may see of a segment on one day."""

    mask: Mask
    dense: Selection
    questions: Selection


class Segment:
    """In memory, read-only; searches are thread-safe."""

    def __init__(self, folder: Path, key: str, device: Device = "cpu") -> None:
        self.key = key
        table = read_table(folder, (*CHUNK_FIELDS, "tenant")).combine_chunks()
        self._columns = {name: table.column(name).chunk(0) for name in CHUNK_FIELDS} if table.num_rows else {}
        self.size: int = table.num_rows
        self.tenants = frozenset(table.column("tenant").unique().to_pylist())
        self._ids = np.array(table.column("id").to_pylist(), dtype=np.bytes_)
        self._id_order = np.argsort(self._ids)
        self._audiences = _Codes(table.column("audience"))
        self._languages = _Codes(table.column("language"))
        self._valid_from = _days(table.column("valid_from"), _ALWAYS[0])
        self._valid_until = _days(table.column("valid_until"), _ALWAYS[1])
        self.question_rows: Rows = np.flatnonzero(np.asarray(pc.equal(table.column("kind"), "qa")))
        self.dense = DenseIndex(folder / _DENSE_FILE, device=device)
        self.questions = DenseIndex(folder / _QUESTIONS_FILE, device=device)
        self.lexical = LexicalIndex(folder / _LEXICAL_FOLDER)
        self.chunk = lru_cache(maxsize=_KEPT_CHUNKS)(self._chunk)

    def chunk_id(self, row: int) -> str:
        return str(self._ids[row], "ascii")

    def language(self, row: int) -> str:
        return self._languages.name(row)

    def _chunk(self, row: int) -> Chunk:
        return _chunk({name: column[row].as_py() for name, column in self._columns.items()})

    def row_of(self, chunk_id: str) -> int | None:
        key = chunk_id.encode()
        place = int(np.searchsorted(self._ids, key, sorter=self._id_order))
        if place == self.size or self._ids[row := int(self._id_order[place])] != key:
            return None
        return row

    def visible(self, alive: Mask | None, audiences: frozenset[str], today: date, language: str | None) -> Visible:
        day = (today - date(1970, 1, 1)).days
        mask = self._audiences.among(audiences) & (self._valid_from <= day) & (day <= self._valid_until)
        if language is not None:
            mask &= self._languages.among({language, "und"})
        if alive is not None:
            mask &= alive
        return Visible(mask, Selection(mask), Selection(mask[self.question_rows]))


class _Codes:
    """A column of few different strings, as numbers."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        encoded = column.combine_chunks().dictionary_encode()
        encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        self._codes: NDArray[np.int32] = np.asarray(encoded.indices, dtype=np.int32)
        self._names: list[str] = encoded.dictionary.to_pylist()

    def name(self, row: int) -> str:
        return self._names[int(self._codes[row])]

    def among(self, names: frozenset[str] | set[str]) -> Mask:
        wanted = np.array([name in names for name in self._names], dtype=bool)
        return wanted[self._codes] if len(self._names) else np.zeros(0, dtype=bool)


def _days(column: pa.ChunkedArray, without: int) -> NDArray[np.int32]:
    """Days since 1970-01-01."""
    days: NDArray[np.int32] = np.asarray(pc.fill_null(column.cast(pa.int32()), without), dtype=np.int32)
    return days
