"""Published knowledge on disk: owns the format, publishes atomically, opens and searches versions. Imports no Ray.

<root>/<tenant>/<collection>/CURRENT            name of the published version, replaced by rename
<root>/<tenant>/<collection>/v000001/
    chunks.parquet     chunks, their vectors and their question vectors: the source of truth
    dense.faiss  questions.faiss  lexical/      derived from it
    report.json  rejects.jsonl                  how it was made
    manifest.json      sha256 of every file, checked when a version is opened; written last
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.chunk import Chunk, ScoredChunk
from ingestion.dense_index import DenseIndex, Selection, build_dense_index
from ingestion.errors import CorruptVersionError, StoreError, UnknownVersionError
from ingestion.lexical_index import Field, LexicalIndex, build_lexical_index
from models.protocols import Vectors

FORMAT = 2
KEPT_VERSIONS = 3
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_VERSION = re.compile(r"v\d{6}")
_DRAFT = ".draft"
_LOCK = ".lock"
_FIELDS = tuple(field.name for field in fields(Chunk))
_TYPES = {
    "position": pa.int32(),
    "heading_path": pa.list_(pa.string()),
    "page": pa.int32(),
    "valid_from": pa.date32(),
    "valid_until": pa.date32(),
}  # all others are strings


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What is to be published. Rows of `vectors` and `question_vectors` belong to `chunks`, one each.

    A passage's row of `question_vectors` is zero.
    """

    chunks: Sequence[Chunk]
    vectors: Vectors  # (n, dim)
    question_vectors: Vectors  # (n, dim)
    embedder_identity: str
    report: Mapping[str, Any]
    rejects: Sequence[Mapping[str, str]] = ()


class KnowledgeStore:
    def __init__(self, root: Path) -> None:
        self._root = root

    def collections(self, tenant: str) -> list[str]:
        """Collections with a published version, sorted."""
        folder = self._root / _checked(tenant)
        return sorted(path.parent.name for path in folder.glob("*/CURRENT"))

    def current_version(self, tenant: str, collection: str) -> str | None:
        """Reads one small file: 0.03 ms."""
        try:
            return (self._folder(tenant, collection) / "CURRENT").read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None

    def versions(self, tenant: str, collection: str) -> list[str]:
        """Kept versions, oldest first."""
        return [path.name for path in _versions(self._folder(tenant, collection))]

    def open(self, tenant: str, collection: str, version: str) -> KnowledgeVersion:
        """Raises `UnknownVersionError` or `CorruptVersionError`."""
        folder = self._version_folder(tenant, collection, version)
        return KnowledgeVersion(folder, _verified(folder))

    def report(self, tenant: str, collection: str, version: str) -> dict[str, Any]:
        """How the version was made."""
        folder = self._version_folder(tenant, collection, version)
        _verified(folder, only=("report.json",))
        content: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return content

    def stored_vectors(
        self, tenant: str, collection: str, embedder_identity: str
    ) -> dict[str, tuple[Vectors, Vectors]]:
        """Chunk id → (vector, question vector) of the published version, if the same embedder made them."""
        version = self.current_version(tenant, collection)
        if version is None:
            return {}
        folder = self._version_folder(tenant, collection, version)
        manifest = _verified(folder, only=("chunks.parquet",))
        if manifest["embedder_identity"] != embedder_identity:
            return {}
        table = pq.read_table(folder / "chunks.parquet", columns=["id", "vector", "question_vector"])
        vectors, questions = (_matrix(table, name, manifest["dim"]) for name in ("vector", "question_vector"))
        return {key: (vectors[row], questions[row]) for row, key in enumerate(table.column("id").to_pylist())}

    def publish(self, tenant: str, collection: str, new: NewVersion) -> str:
        """Writes a version beside the published one, then moves the pointer: readers see the old one or the new."""
        folder = self._folder(tenant, collection)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            draft = folder / _DRAFT
            if draft.exists():  # of a run that was killed; a living one would hold the lock
                shutil.rmtree(draft)
            _write(draft, new)
            kept = _versions(folder)
            version = f"v{int(kept[-1].name[1:]) + 1 if kept else 1:06d}"
            draft.rename(folder / version)
            _sync(folder)
            _replace(folder / "CURRENT", version)
            for old in kept[: max(0, len(kept) - KEPT_VERSIONS + 1)]:
                shutil.rmtree(old)
        return version

    def _folder(self, tenant: str, collection: str) -> Path:
        return self._root / _checked(tenant) / _checked(collection)

    def _version_folder(self, tenant: str, collection: str, version: str) -> Path:
        folder = self._folder(tenant, collection) / version
        if not _VERSION.fullmatch(version) or not folder.is_dir():
            raise UnknownVersionError(f"collection '{collection}' has no version '{version}'")
        return folder


@dataclass(frozen=True, slots=True)
class _Visible:
    """What one kind of caller may see on one day."""

    rows: frozenset[int]
    dense: Selection
    questions: Selection


class KnowledgeVersion:
    """One version in memory. Searches are thread-safe and see only what the audiences may, on the day they may."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.id = folder.name
        self.embedder_identity: str = manifest["embedder_identity"]
        self.dim: int = manifest["dim"]
        table = pq.read_table(folder / "chunks.parquet", columns=list(_FIELDS))
        self._chunks = [_chunk(row) for row in table.to_pylist()]
        self._rows = {chunk.id: row for row, chunk in enumerate(self._chunks)}
        self._question_rows = np.array([row for row, chunk in enumerate(self._chunks) if chunk.kind == "qa"], dtype=int)
        self._dense = DenseIndex(folder / "dense.faiss")
        self._questions = DenseIndex(folder / "questions.faiss")
        self._lexical = LexicalIndex(folder / "lexical")
        self._visible = lru_cache(maxsize=64)(self._look_up_visible)

    @property
    def chunk_count(self) -> int:
        return len(self._chunks)

    def chunk(self, chunk_id: str) -> Chunk | None:
        row = self._rows.get(chunk_id)
        return None if row is None else self._chunks[row]

    def search_dense(
        self, vector: Vectors, top_k: int, audiences: frozenset[str], today: date, language: str | None = None
    ) -> list[ScoredChunk]:
        """By cosine similarity, passages and pairs alike. language: also finds chunks of no language ("und")."""
        return self._found(self._dense.search(vector, top_k, self._visible(audiences, today, language).dense))

    def search_questions(
        self, vector: Vectors, top_k: int, audiences: frozenset[str], today: date, language: str | None = None
    ) -> list[ScoredChunk]:
        """Curated pairs by the cosine similarity of their questions."""
        found = self._questions.search(vector, top_k, self._visible(audiences, today, language).questions)
        return self._found((int(self._question_rows[position]), score) for position, score in found)

    def search_lexical(
        self, text: str, top_k: int, audiences: frozenset[str], today: date, language: str | None = None
    ) -> list[ScoredChunk]:
        """By BM25, passages and pairs alike."""
        return self._search_text(text, "words", top_k, self._visible(audiences, today, language))

    def search_questions_text(
        self, text: str, top_k: int, audiences: frozenset[str], today: date, language: str | None = None
    ) -> list[ScoredChunk]:
        """Curated pairs by the BM25 of their questions."""
        return self._search_text(text, "question", top_k, self._visible(audiences, today, language))

    def _search_text(self, text: str, field: Field, top_k: int, visible: _Visible) -> list[ScoredChunk]:
        """Looks deeper until enough of what it finds may be seen."""
        if top_k < 1 or not visible.rows:
            return []
        depth = max(top_k * 2, 32)
        while True:
            hits = self._lexical.search(text, depth, field)
            seen = [(row, score) for row, score in hits if row in visible.rows]
            if len(seen) >= top_k or len(hits) < depth:
                return self._found(seen[:top_k])
            depth *= 4

    def _look_up_visible(self, audiences: frozenset[str], today: date, language: str | None) -> _Visible:
        mask = np.array([_may_see(chunk, audiences, today, language) for chunk in self._chunks], dtype=bool)
        rows = frozenset(np.flatnonzero(mask).tolist())
        return _Visible(rows, Selection(mask), Selection(mask[self._question_rows]))

    def _found(self, hits: Iterable[tuple[int, float]]) -> list[ScoredChunk]:
        return [ScoredChunk(self._chunks[row], score) for row, score in hits]


def _may_see(chunk: Chunk, audiences: frozenset[str], today: date, language: str | None) -> bool:
    return (
        chunk.audience in audiences
        and (language is None or chunk.language in (language, "und"))
        and (chunk.valid_from is None or chunk.valid_from <= today)
        and (chunk.valid_until is None or today <= chunk.valid_until)
    )


# --- writing ---


def _write(folder: Path, new: NewVersion) -> None:
    if not len(new.chunks) == len(new.vectors) == len(new.question_vectors):
        raise StoreError("every chunk needs one vector and one question vector")
    if len({chunk.id for chunk in new.chunks}) < len(new.chunks):
        raise StoreError("two chunks have the same id")
    folder.mkdir()
    pq.write_table(_as_table(new), folder / "chunks.parquet")
    build_dense_index(folder / "dense.faiss", new.vectors)
    is_pair = np.array([chunk.kind == "qa" for chunk in new.chunks], dtype=bool)
    build_dense_index(folder / "questions.faiss", new.question_vectors[is_pair])
    build_lexical_index(folder / "lexical", ((_lexical_text(chunk), chunk.question) for chunk in new.chunks))
    _write_json(folder / "report.json", new.report)
    rejects = "".join(json.dumps(dict(reject), ensure_ascii=False) + "\n" for reject in new.rejects)
    (folder / "rejects.jsonl").write_text(rejects, encoding="utf-8")
    _write_json(folder / "manifest.json", _manifest(folder, new))
    for path in (*_files(folder), folder / "lexical", folder):
        _sync(path)


def _manifest(folder: Path, new: NewVersion) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "embedder_identity": new.embedder_identity,
        "dim": int(new.vectors.shape[1]),
        "chunks": len(new.chunks),
        "files": {str(path.relative_to(folder)): _sha256(path) for path in _files(folder)},
    }


def _lexical_text(chunk: Chunk) -> str:
    return " ".join((chunk.title, *chunk.heading_path, chunk.text))


def _as_table(new: NewVersion) -> pa.Table:
    columns = {
        name: pa.array([_plain(getattr(chunk, name)) for chunk in new.chunks], type=_TYPES.get(name, pa.string()))
        for name in _FIELDS
    }
    for name, matrix in (("vector", new.vectors), ("question_vector", new.question_vectors)):
        flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1))
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, int(matrix.shape[1]))
    return pa.table(columns)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(**{**row, "heading_path": tuple(row["heading_path"])})


def _matrix(table: pa.Table, name: str, dim: int) -> Vectors:
    flat = table.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    matrix: Vectors = np.asarray(flat, dtype=np.float32).reshape(-1, dim)
    return matrix


# --- checking ---


def _verified(folder: Path, only: Sequence[str] | None = None) -> dict[str, Any]:
    """The manifest, once the files it lists (or `only` those) are what was published."""
    manifest = _read_manifest(folder)
    for name in only or manifest["files"]:
        expected, path = manifest["files"].get(name), folder / name
        if expected is None or not path.is_file():
            raise CorruptVersionError(f"{folder.name}/{name} is missing: restore it or ingest again")
        if _sha256(path) != expected:
            raise CorruptVersionError(f"{folder.name}/{name} is not what was published: restore it or ingest again")
    return manifest


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptVersionError(f"{folder.name}/manifest.json cannot be read ({error!r}): ingest again") from error
    if version != FORMAT:
        raise CorruptVersionError(
            f"{folder.name}/manifest.json is of format {version}, this software reads {FORMAT}: ingest again"
        )
    return manifest


# --- files ---


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One run publishes at a time; the next waits."""
    with (folder / _LOCK).open("w") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _versions(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("v*") if _VERSION.fullmatch(path.name))


def _files(folder: Path) -> list[Path]:
    # tantivy leaves lock files behind, which are not part of an index.
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _sync(path: Path) -> None:
    """To the disk: a file's content, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, content: str) -> None:
    draft = path.with_name(f".{path.name}")
    draft.write_text(content + "\n", encoding="ascii")
    _sync(draft)
    draft.replace(path)
    _sync(path.parent)


def _checked(name: str) -> str:
    """Names become folders: nothing that could leave the root."""
    if not _NAME.fullmatch(name):
        raise StoreError(f"'{name}' is not a name: use lower-case letters, digits, '-' and '_', at most 63")
    return name
