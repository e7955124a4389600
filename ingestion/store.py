"""Published knowledge: owns the format, publishes atomically, opens versions. Imports no Ray.

<root>/<tenant>/<collection>/CURRENT            the published version and its manifest's checksum; replaced as a whole
    versions/v000002/manifest.json              segments, checksums of all files, lineage; a version never changes
        tombstones.json                         rows of the segments that are no longer part of the knowledge
        report.json  rejects.jsonl              how it was made
    segments/v000001-base-…/                    see segment.py; shared by the versions that refer to it
    segments/v000002-delta-…/

A version is a base, at most one delta beside it, and tombstones. Few changes write a new delta, which holds all that
was added since the base; many, or `compact`, write a new base. A base may be in several parts, for a collection that is
more than one machine should hold.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.chunk import Chunk, Origin, content_digest
from ingestion.dense_index import Device
from ingestion.difference import StoredChunk, VersionChange
from ingestion.errors import CorruptVersionError, StoreError, UnknownVersionError
from ingestion.files import Files, open_files
from ingestion.segment import (
    CHUNK_FIELDS,
    CHUNKS_FILE,
    INDEX_FORMAT,
    Mask,
    Segment,
    chunk_table,
    read_table,
    table_chunks,
    table_vectors,
    write_segment,
)
from ingestion.version import KnowledgeVersion, Part, alive_mask
from models.protocols import Vectors

FORMAT = 4
KEPT_VERSIONS = 10
KEPT_BASES = 3  # each may be as large as the whole knowledge
DELTA_SHARE = 0.1  # of the base: what a delta and the tombstones may come to before a new base is written …
DELTA_ROWS = 1000  # … or this many rows, whichever is more

MadeBy = Literal["apply", "edit", "compact"]
Kind = Literal["base", "delta"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_VERSION = re.compile(r"v\d{6}")
_MANIFEST, _TOMBSTONES, _REPORT, _REJECTS = "manifest.json", "tombstones.json", "report.json", "rejects.jsonl"


@dataclass(frozen=True, slots=True)
class Changes:
    """From one version to the next. A chunk that is added takes the place of one with its id.

    vectors: (added, dim); question_vectors: (pairs among them, dim). removed: ids of chunks.
    replaces_all: nothing of the published version stays, which need not even be readable.
    """

    embedder_identity: str
    added: Sequence[Chunk]
    vectors: Vectors
    question_vectors: Vectors
    removed: frozenset[str] = frozenset()
    replaces_all: bool = False
    made_by: MadeBy = "apply"
    report: Mapping[str, Any] = field(default_factory=dict)
    rejects: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Shard:
    """Which of how many retrievers this is, that share a collection."""

    index: int
    count: int


WHOLE = Shard(0, 1)


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    key: str
    rows: int
    files: Mapping[str, Mapping[str, Any]]  # name → {"sha256", "size" in bytes}
    index: Mapping[str, Any]  # what the dense index is: a `DenseIndexInfo`

    @property
    def kind(self) -> Kind:
        return "delta" if "-delta-" in self.key else "base"


@dataclass(frozen=True, slots=True)
class Manifest:
    tenant: str
    collection: str
    version: str
    parent: str | None
    made_by: MadeBy
    made_at: str  # ISO 8601, UTC
    embedder_identity: str
    dim: int
    chunks: int  # that can be found
    pairs: int  # of these
    segments: tuple[SegmentInfo, ...]  # the parts of the base, then the delta
    files: Mapping[str, Mapping[str, Any]]  # beside the manifest
    index_format: int = INDEX_FORMAT
    checksum: str = ""  # sha256 of all that stands above

    @property
    def rows(self) -> int:
        """With those that can no longer be found."""
        return sum(segment.rows for segment in self.segments)

    @property
    def delta_rows(self) -> int:
        return sum(segment.rows for segment in self.segments if segment.kind == "delta")

    @property
    def bytes(self) -> int:
        """Of everything that it refers to."""
        parts = (self.files, *(segment.files for segment in self.segments))
        return sum(int(entry["size"]) for files in parts for entry in files.values())


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    id: str
    title: str  # or its question
    source: str
    audience: str
    origin: Origin
    chunks: int


class KnowledgeStore:
    def __init__(self, root: str | Path, cache: Path | None = None, parts: int = 1, device: Device = "cpu") -> None:
        """root: a folder or an URI, see `open_files`. cache: for copies of what lies in object storage.

        parts: of a base that is written, for as many retrievers that each hold one. device: see `DenseIndex`.
        """
        self._device = device
        self._files: Files = open_files(root, cache)
        self._parts = parts

    # --- what there is ---

    def collections(self, tenant: str) -> list[str]:
        """Collections with a published version, sorted."""
        folder = _checked(tenant)
        return [name for name in self._files.names(folder) if "CURRENT" in self._files.names(f"{folder}/{name}")]

    def current_version(self, tenant: str, collection: str) -> str | None:
        """Reads one small file: 0.03 ms where it is one."""
        pointer = self._pointer(_place(tenant, collection))
        return pointer[0] if pointer else None

    def versions(self, tenant: str, collection: str) -> list[str]:
        """Kept versions, oldest first."""
        return _version_names(self._files, _place(tenant, collection))

    def manifest(self, tenant: str, collection: str, version: str) -> Manifest:
        """Raises `UnknownVersionError` or `CorruptVersionError`."""
        return self._manifest(_place(tenant, collection), version)

    def report(self, tenant: str, collection: str, version: str) -> dict[str, Any]:
        """How the version was made."""
        place = _place(tenant, collection)
        content: dict[str, Any] = json.loads(self._own_file(place, self._manifest(place, version), _REPORT))
        return content

    # --- reading ---

    def open(
        self,
        tenant: str,
        collection: str,
        version: str,
        held: Mapping[str, Segment] | None = None,
        shard: Shard = WHOLE,
    ) -> KnowledgeVersion:
        """Every file is compared with its checksum before it is loaded. held: segments that are in memory already.

        shard: opens only every n-th segment, for a retriever that has n - 1 others beside it.

        Raises `UnknownVersionError` or `CorruptVersionError`.
        """
        place = _place(tenant, collection)
        manifest = self._pointed_at(place, version)
        if manifest.index_format != INDEX_FORMAT:
            raise CorruptVersionError(
                f"the indexes of {version} were made by another release: 'raydesk ingest compact' builds them anew"
            )
        dead = self._dead_rows(place, manifest)
        parts = []
        mine = manifest.segments[shard.index :: shard.count]
        for info in mine:
            segment = (held or {}).get(info.key) or Segment(self._verified_segment(place, info), info.key, self._device)
            if segment.size != info.rows or not segment.tenants <= {tenant}:
                raise CorruptVersionError(f"segments/{info.key} is not what {version} of '{collection}' refers to")
            parts.append(Part(segment, alive_mask(info.rows, dead.get(info.key, ()))))
        self._files.forget(f"{place}/segments", [info.key for info in mine])
        return KnowledgeVersion(version, manifest.checksum, manifest.embedder_identity, manifest.dim, parts)

    def verify(self, tenant: str, collection: str, version: str) -> Manifest:
        """Compares every file of the version with its checksum. Raises as `open` does."""
        place = _place(tenant, collection)
        manifest = self._manifest(place, version)
        for name in manifest.files:
            self._own_file(place, manifest, name)
        for info in manifest.segments:
            self._verified_segment(place, info)
        return manifest

    def stored_chunks(self, tenant: str, collection: str, version: str) -> list[StoredChunk]:
        """What of every chunk has to be known to tell what changes."""
        place = _place(tenant, collection)
        columns = [field.name for field in fields(StoredChunk)]
        table = self._live_table(place, self._manifest(place, version), columns)
        return [StoredChunk(*row) for row in zip(*(table.column(name).to_pylist() for name in columns), strict=True)]

    def documents(self, tenant: str, collection: str, version: str) -> list[DocumentInfo]:
        """In the order of their ids."""
        place = _place(tenant, collection)
        columns = ("document_id", "title", "question", "source", "audience", "origin")
        table = self._live_table(place, self._manifest(place, version), columns)
        counts = Counter(table.column("document_id").to_pylist())
        firsts = {row["document_id"]: row for row in reversed(table.to_pylist())}
        return [
            DocumentInfo(
                key, row["title"] or row["question"], row["source"], row["audience"], row["origin"], counts[key]
            )
            for key, row in sorted(firsts.items())
        ]

    def chunks(self, tenant: str, collection: str, version: str, ids: Iterable[str] | None = None) -> list[Chunk]:
        """All that can be found, or those of these ids."""
        place = _place(tenant, collection)
        table = self._live_table(place, self._manifest(place, version), CHUNK_FIELDS)
        return table_chunks(table if ids is None else table.filter(pa.array(_named(table, ids))))

    def stored_vectors(
        self, tenant: str, collection: str, version: str, vector_keys: Iterable[str]
    ) -> dict[str, tuple[Vectors, Vectors]]:
        """Vector key → (vector, question vector), each (dim,), as far as there are such; a passage's latter is zero."""
        place = _place(tenant, collection)
        manifest = self._manifest(place, version)
        table = self._live_table(place, manifest, ("vector_key", "vector", "question_vector"))
        table = table.filter(pc.is_in(table.column("vector_key"), pa.array(sorted(vector_keys), pa.string())))
        questions = np.zeros((table.num_rows, manifest.dim), dtype=np.float32)
        questions[np.asarray(pc.is_valid(table.column("question_vector")))] = table_vectors(table, "question_vector")
        keys = table.column("vector_key").to_pylist()
        return dict(zip(keys, zip(table_vectors(table), questions, strict=True), strict=True))

    def change(self, tenant: str, collection: str, old: str, new: str) -> VersionChange:
        """What of `old` is not in `new`, and the other way round; segments that both have are not read as a whole.

        old, new: names, also as answers show them ("v000002-1f2e3d4c"). Raises as `open` does.
        """
        place = _place(tenant, collection)
        before, after = self._named_manifest(place, old), self._named_manifest(place, new)
        lost, came = self._rows_apart(place, before, after), self._rows_apart(place, after, before)
        same = set(_index_of(lost)) & set(_index_of(came))
        lost, came = _but(lost, same), _but(came, same)
        was = {(chunk.id, content_digest(chunk)) for chunk in table_chunks(lost)}
        chunks = table_chunks(came)
        keys = [(chunk.id, content_digest(chunk)) for chunk in chunks]
        is_new = np.array([key not in was for key in keys], dtype=bool)
        questions = np.zeros((came.num_rows, after.dim), dtype=np.float32)
        questions[np.asarray(pc.is_valid(came.column("question_vector")))] = table_vectors(came, "question_vector")
        return VersionChange(
            gone=frozenset(was - set(keys)),
            added=tuple(chunk for chunk, new in zip(chunks, is_new, strict=True) if new),
            vectors=table_vectors(came).reshape(-1, after.dim)[is_new],
            question_vectors=questions[is_new],
        )

    # --- writing ---

    def publish(self, tenant: str, collection: str, changes: Changes) -> str:
        """Writes the next version beside the published one, then moves the pointer: readers see the old or the new."""
        place = _place(tenant, collection)
        added = chunk_table(tenant, changes.added, changes.vectors, changes.question_vectors)
        with self._files.locked(place):
            old = None if changes.replaces_all else self._published(place)
            if old is not None and old.embedder_identity != changes.embedder_identity:
                raise StoreError(
                    f"'{collection}' was embedded with {old.embedder_identity}, the changes with "
                    f"{changes.embedder_identity}: ingest all of it again"
                )
            gone = changes.removed | {chunk.id for chunk in changes.added}
            return self._write(place, changes, self._layout(place, old, added, gone), old)

    def compact(self, tenant: str, collection: str) -> str:
        """Folds delta and tombstones into a new base, whose indexes are built from the Parquet alone."""
        place = _place(tenant, collection)
        with self._files.locked(place):
            old = self._published(place)
            if old is None:
                raise UnknownVersionError(f"there is no published collection '{collection}'")
            report = json.loads(self._own_file(place, old, _REPORT))
            none = np.empty((0, old.dim), np.float32)
            changes = Changes(old.embedder_identity, (), none, none, made_by="compact", report=report)
            return self._write(place, changes, _new_base([self._live_table(place, old)], self._parts), old)

    def rollback(self, tenant: str, collection: str, version: str | None = None) -> str:
        """Publishes a kept version again: the given one, or the one that the published one was made from.

        version: its name, also as answers show it ("v000002-1f2e3d4c"). Returns its name.
        Raises `UnknownVersionError` or `CorruptVersionError`.
        """
        place = _place(tenant, collection)
        with self._files.locked(place):
            if version is None:
                current = self._published(place)
                version = current.parent if current else None
                if version is None:
                    raise UnknownVersionError(f"collection '{collection}' has no version before the published one")
            manifest = self.verify(tenant, collection, version.partition("-")[0])
            self._point(place, manifest)
            return manifest.version

    def _layout(self, place: str, old: Manifest | None, added: pa.Table, gone: frozenset[str]) -> _Layout:
        """A delta beside the old base, or, where much has changed, a new base."""
        if old is None:
            return _new_base([added], self._parts)
        bases = [info for info in old.segments if info.kind == "base"]
        dead = {key: set(rows) for key, rows in self._dead_rows(place, old).items()}
        deltas = [info for info in old.segments if info.kind == "delta"]
        since = [_without(self._segment_table(place, info), (), gone) for info in deltas]  # has no dead rows itself
        delta = pa.concat_tables([*since, added])
        pairs = _pairs(delta)
        for base in bases:
            index = self._segment_table(place, base, ["id", "kind"])
            dead[base.key] = dead.get(base.key, set()) | set(np.flatnonzero(_named(index, gone)).tolist())
            pairs += _pairs(_without(index, dead[base.key]))
        gone_rows = sum(len(dead[base.key]) for base in bases)
        is_stale = old.index_format != INDEX_FORMAT
        if is_stale or delta.num_rows + gone_rows > max(DELTA_ROWS, DELTA_SHARE * sum(base.rows for base in bases)):
            tables = [_without(self._segment_table(place, base), dead[base.key]) for base in bases]
            return _new_base([*tables, delta], self._parts)
        new: list[tuple[Kind, pa.Table]] = [("delta", delta)] if delta.num_rows else []
        return _Layout(bases, {base.key: sorted(dead[base.key]) for base in bases if dead[base.key]}, new, pairs)

    def _write(self, place: str, changes: Changes, layout: _Layout, parent: Manifest | None) -> str:
        """Segments first, then the version that refers to them, then the pointer to that."""
        kept = _version_names(self._files, place)
        version = f"v{int(kept[-1][1:]) + 1 if kept else 1:06d}"
        new = [self._write_segment(place, f"{version}-{kind}", table) for kind, table in layout.new]
        segments = [*layout.kept, *new]
        with self._files.draft(place) as folder:
            _write_json(folder / _TOMBSTONES, layout.dead_rows)
            _write_json(folder / _REPORT, changes.report)
            rejects = "".join(json.dumps(dict(reject), ensure_ascii=False) + "\n" for reject in changes.rejects)
            (folder / _REJECTS).write_text(rejects, encoding="utf-8")
            tenant, _, collection = place.partition("/")
            manifest = Manifest(
                tenant=tenant,
                collection=collection,
                version=version,
                parent=parent.version if parent else None,
                made_by=changes.made_by,
                made_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                embedder_identity=changes.embedder_identity,
                dim=int(changes.vectors.shape[1]),
                chunks=sum(segment.rows for segment in segments) - sum(map(len, layout.dead_rows.values())),
                pairs=layout.pairs,
                segments=tuple(segments),
                files=_file_table(folder),
                index_format=INDEX_FORMAT,
            )
            manifest = replace(manifest, checksum=_checksum(manifest))
            _write_json(folder / _MANIFEST, {"format": FORMAT, **asdict(manifest)})
            self._files.add(folder, f"{place}/versions/{version}")
        self._point(place, manifest)
        self._sweep(place, manifest)
        return version

    def _write_segment(self, place: str, name: str, table: pa.Table) -> SegmentInfo:
        key = f"{name}-{uuid.uuid4().hex[:8]}"  # where there is no lock, two writers do not meet
        with self._files.draft(place) as folder:
            index = asdict(write_segment(folder, table))
            info = SegmentInfo(key, table.num_rows, _file_table(folder), index)
            self._files.add(folder, f"{place}/segments/{key}")
        return info

    def _point(self, place: str, manifest: Manifest) -> None:
        self._files.write(f"{place}/CURRENT", f"{manifest.version} {manifest.checksum}\n".encode("ascii"))

    def _sweep(self, place: str, current: Manifest) -> None:
        """Drops versions that are no longer kept, and segments that none refers to (a killed run leaves such)."""
        kept = {current.version: current}
        for name in reversed(_version_names(self._files, place)):
            bases = {manifest.segments[0].key for manifest in kept.values()}
            manifest = kept.get(name) or self._readable(place, name)
            if manifest and len(kept) < KEPT_VERSIONS and len(bases | {manifest.segments[0].key}) <= KEPT_BASES:
                kept[name] = manifest
            elif name not in kept:
                self._files.remove(f"{place}/versions/{name}")
        needed = {segment.key for manifest in kept.values() for segment in manifest.segments}
        for key in self._files.names(f"{place}/segments"):
            if key not in needed:
                self._files.remove(f"{place}/segments/{key}")

    def _readable(self, place: str, version: str) -> Manifest | None:
        try:
            return self._manifest(place, version)
        except CorruptVersionError:
            return None  # nobody can go back to it

    # --- checking ---

    def _pointer(self, place: str) -> tuple[str, str] | None:
        """The published version and its manifest's checksum."""
        try:
            words = self._files.read(f"{place}/CURRENT").decode("ascii", "replace").split()
        except FileNotFoundError:
            return None
        if len(words) != 2 or not _VERSION.fullmatch(words[0]):
            raise CorruptVersionError(f"{place}/CURRENT is damaged: 'raydesk ingest rollback --to' writes it anew")
        return words[0], words[1]

    def _published(self, place: str) -> Manifest | None:
        pointer = self._pointer(place)
        return None if pointer is None else self._pointed_at(place, pointer[0])

    def _pointed_at(self, place: str, version: str) -> Manifest:
        """The version's manifest; if it is the published one, the very one that was published."""
        manifest, pointer = self._manifest(place, version), self._pointer(place)
        if pointer is not None and pointer[0] == version and pointer[1] != manifest.checksum:
            raise CorruptVersionError(
                f"{place}/CURRENT does not belong to {version}: 'raydesk ingest rollback --to' writes it anew"
            )
        return manifest

    def _manifest(self, place: str, version: str) -> Manifest:
        collection = place.rpartition("/")[2]
        if version not in _version_names(self._files, place):
            raise UnknownVersionError(f"collection '{collection}' has no version '{version}'")
        path = f"versions/{version}/{_MANIFEST}"
        try:
            manifest = _read_manifest(self._files.read(f"{place}/{path}"))
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptVersionError(f"{path} cannot be read ({error!r}): ingest again") from error
        if manifest.checksum != _checksum(manifest) or place != f"{manifest.tenant}/{manifest.collection}":
            raise CorruptVersionError(f"{path} is not what was published: ingest again")
        return manifest

    def _named_manifest(self, place: str, version: str) -> Manifest:
        """A name that carries a checksum names that very version: names begin anew where a collection is made again."""
        name, _, checksum = version.partition("-")
        manifest = self._manifest(place, name)
        if not manifest.checksum.startswith(checksum):
            raise UnknownVersionError(f"collection '{place.rpartition('/')[2]}' has no version '{version}'")
        return manifest

    def _rows_apart(self, place: str, manifest: Manifest, other: Manifest) -> pa.Table:
        """Rows that can be found in `manifest` and are not known to be the same in `other`, with their vectors."""
        columns = [*CHUNK_FIELDS, "digest", "vector", "question_vector"]
        dead, dead_there = self._dead_rows(place, manifest), self._dead_rows(place, other)
        shared = {info.key for info in other.segments}
        tables: list[pa.Table] = []
        for info in manifest.segments:
            here = set(dead.get(info.key, ()))
            candidates = dead_there.get(info.key, ()) if info.key in shared else range(info.rows)
            rows = [row for row in candidates if row not in here]
            if rows or not tables:  # one table at least, for its columns
                tables.append(self._segment_table(place, info, columns).take(pa.array(rows, pa.int64())))
        return pa.concat_tables(tables)

    def _own_file(self, place: str, manifest: Manifest, name: str) -> bytes:
        path = f"versions/{manifest.version}/{name}"
        try:
            content = self._files.read(f"{place}/{path}")
        except FileNotFoundError as error:
            raise CorruptVersionError(f"{path} is missing: ingest again") from error
        if hashlib.sha256(content).hexdigest() != manifest.files.get(name, {}).get("sha256"):
            raise CorruptVersionError(f"{path} is not what was published: ingest again")
        return content

    def _dead_rows(self, place: str, manifest: Manifest) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = json.loads(self._own_file(place, manifest, _TOMBSTONES))
        return rows

    def _verified_segment(self, place: str, info: SegmentInfo, only: Sequence[str] | None = None) -> Path:
        """The segment's folder on this machine, once its files (or `only` those) are what was published."""
        path = f"{place}/segments/{info.key}"
        names = list(only or info.files)
        folder = self._files.fetch(path, names)
        for name in names:
            problem = _problem(folder / name, info.files.get(name))
            if problem:
                self._files.forget(f"{place}/segments")  # of a damaged copy a better one may be had
                advice = "ingest again" if name.endswith(".parquet") else "'raydesk ingest compact' builds it anew"
                raise CorruptVersionError(f"segments/{info.key}/{name} {problem}: {advice}")
        return folder

    def _segment_table(self, place: str, info: SegmentInfo, columns: Sequence[str] | None = None) -> pa.Table:
        """All of it is compared with its checksum; of single columns Parquet checks its pages, which takes no time."""
        if columns is None:
            return read_table(self._verified_segment(place, info, [CHUNKS_FILE]))
        return read_table(self._files.fetch(f"{place}/segments/{info.key}", [CHUNKS_FILE]), columns)

    def _live_table(self, place: str, manifest: Manifest, columns: Sequence[str] | None = None) -> pa.Table:
        dead = self._dead_rows(place, manifest)
        tables = [self._segment_table(place, info, columns) for info in manifest.segments]
        return pa.concat_tables(
            _without(table, dead.get(info.key, ())) for table, info in zip(tables, manifest.segments, strict=True)
        )


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a new version consists of: segments that are kept, without their dead rows, and what is written."""

    kept: list[SegmentInfo]
    dead_rows: dict[str, list[int]]  # by the segment's key
    new: list[tuple[Kind, pa.Table]]
    pairs: int  # that can be found


def _new_base(tables: Sequence[pa.Table], parts: int) -> _Layout:
    """In parts of about the same size; a document's chunks are in one."""
    table = pa.concat_tables(tables)
    pairs = _pairs(table)
    if parts == 1:
        return _Layout([], {}, [("base", table)], pairs)
    part_of = np.array([crc32(key.encode()) % parts for key in table.column("document_id").to_pylist()], dtype=np.int64)
    return _Layout([], {}, [("base", table.filter(pa.array(part_of == part))) for part in range(parts)], pairs)


def _index_of(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table.column("id").to_pylist(), table.column("digest").to_pylist(), strict=True))


def _but(table: pa.Table, same: set[tuple[str, str]]) -> pa.Table:
    return table.filter(pa.array([key not in same for key in _index_of(table)], pa.bool_()))


def _pairs(table: pa.Table) -> int:
    return int(pc.sum(pc.equal(table.column("kind"), "qa")).as_py() or 0)


def _named(table: pa.Table, ids: Iterable[str]) -> Mask:
    """Which rows have one of these ids."""
    found: Mask = np.asarray(pc.is_in(table.column("id"), pa.array(sorted(ids), pa.string())))
    return found


def _without(table: pa.Table, dead_rows: Iterable[int], ids: Iterable[str] = ()) -> pa.Table:
    """Without these rows, and without the chunks of these ids."""
    mask = alive_mask(table.num_rows, dead_rows)
    if ids:
        named = _named(table, ids)
        mask = ~named if mask is None else mask & ~named
    return table if mask is None else table.filter(pa.array(mask))


# --- the manifest as JSON ---


def _checksum(manifest: Manifest) -> str:
    """Of everything in the manifest but itself."""
    content = {"format": FORMAT, **asdict(replace(manifest, checksum=""))}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _read_manifest(content: bytes) -> Manifest:
    """Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError` where it is none."""
    raw: dict[str, Any] = json.loads(content)
    written = raw.pop("format")
    if written != FORMAT:
        raise ValueError(f"it is of format {written}, this software reads {FORMAT}")
    return Manifest(**{**raw, "segments": tuple(SegmentInfo(**info) for info in raw["segments"])})


# --- files ---


def _place(tenant: str, collection: str) -> str:
    return f"{_checked(tenant)}/{_checked(collection)}"


def _checked(name: str) -> str:
    """Names become folders: nothing that could leave the root."""
    if not _NAME.fullmatch(name):
        raise StoreError(f"'{name}' is not a name: use lower-case letters, digits, '-' and '_', at most 63")
    return name


def _version_names(files: Files, place: str) -> list[str]:
    return [name for name in files.names(f"{place}/versions") if _VERSION.fullmatch(name)]


def _file_table(folder: Path) -> dict[str, dict[str, Any]]:
    # tantivy leaves lock files behind, which are not part of an index.
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".lock"))
    return {
        path.relative_to(folder).as_posix(): {"sha256": _sha256(path), "size": path.stat().st_size} for path in paths
    }


def _problem(path: Path, expected: Mapping[str, Any] | None) -> str | None:
    if expected is None or not path.is_file():
        return "is missing"
    if path.stat().st_size != expected["size"] or _sha256(path) != expected["sha256"]:
        return "is not what was published"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
