"""The story of one knowledge version: files → documents → chunks → vectors → indexes → published. Wiring only."""

from __future__ import annotations

import atexit
import gc
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ingestion.chunk import Chunk, content_digest
from ingestion.difference import Difference, StoredChunk, compare
from ingestion.embedder_pool import Pool, embed
from ingestion.embedding import Ahead, identity_of, vector_key
from ingestion.errors import (
    CorruptVersionError,
    NothingToIngestError,
    TooManyRejectsError,
    UnknownVersionError,
)
from ingestion.fetch import list_sources
from ingestion.files import open_files
from ingestion.progress import Progress, no_progress
from ingestion.ray_session import RaySession
from ingestion.reading import ReadLimits, read
from ingestion.report import IngestReport, Plan, reject_share
from ingestion.rows import Gathered, Piece, gather
from ingestion.segment import INDEX_FORMAT
from ingestion.store import Changes, KnowledgeStore, Manifest
from ingestion.vectors import VectorBatch, VectorTable, VectorWork
from ingestion.web import WebClient
from models.protocols import EmbedderRecipe

# New objects between looks for garbage among them. An encoder's imports and a collection's chunks stay: looking through
# them, ever again and once more at the end of the process, took a fifth of a small change.
_GC_THRESHOLD = 100_000


@dataclass(frozen=True, slots=True)
class _Survey:
    """What was read, against what is published."""

    files: int
    found: Gathered
    identity: str  # of the embedder
    published: Manifest | None
    base: Manifest | None  # the published version, if it can be built upon
    difference: Difference
    missing: tuple[Chunk, ...]  # one for each text that has to be embedded
    notes: tuple[str, ...]


def plan(
    paths: Sequence[str | Path],
    *,
    root: str | Path,
    tenant: str,
    collection: str,
    encoder: EmbedderRecipe,
    limits: ReadLimits | None = None,
    progress: Progress = no_progress,
) -> Plan:
    """What `ingest` would change. Reads everything, embeds and publishes nothing."""
    store = KnowledgeStore(root)
    store.current_version(tenant, collection)
    with RaySession(1) as session:
        survey = _survey(store, paths, tenant, collection, encoder, limits or ReadLimits(), session, progress, _Clock())
    published = survey.published
    speed = _embedding_speed(store, published) if published else None
    gone, came = _content_change(store, survey)
    return Plan(
        tenant=tenant,
        collection=collection,
        version=published.version if published else None,
        files=survey.files,
        documents=survey.found.documents,
        duplicates=survey.found.duplicates,
        difference=survey.difference,
        to_embed=len(survey.missing),
        embed_s=len(survey.missing) / speed if speed else None,
        rebuilds=published is not None and survey.base is None,
        gone=gone,
        came=came,
        rejects=tuple(survey.found.rejects),
        notes=survey.notes,
    )


def ingest(
    paths: Sequence[str | Path],
    *,
    root: str | Path,
    tenant: str,
    collection: str,
    encoder: EmbedderRecipe,
    parts: int = 1,
    max_reject_share: float = 0.2,
    concurrency: int = 1,
    gpus_per_embedder: float = 0.0,
    limits: ReadLimits | None = None,
    progress: Progress = no_progress,
) -> IngestReport:
    """Publishes what the paths hold as the collection's next version, in place of what earlier runs brought.

    What was put in by hand stays, and so does what was published of a file that cannot be read now. Where nothing has
    changed, nothing is published. concurrency: embedders at work at once. parts: see
    `KnowledgeStore`.

    Raises `NothingToIngestError`, `TooManyRejectsError` (nothing is published) or another `IngestionError`.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    clock = _Clock()
    store = KnowledgeStore(root, parts=parts)
    store.current_version(tenant, collection)  # a name that is none is said now, not after the work
    bars = sys.stderr.isatty() and progress is no_progress
    with _little_garbage(), RaySession(concurrency, show_bars=bars) as session:
        ahead = Ahead(encoder)
        expected = None if gpus_per_embedder else ahead  # there it is embedded by others alone
        survey = _survey(
            store, paths, tenant, collection, encoder, limits or ReadLimits(), session, progress, clock, expected
        )
        _check(survey.found, max_reject_share)
        found, difference = survey.found, survey.difference
        vectors = VectorTable(vector_key(chunk) for chunk in difference.added)
        work = VectorWork(open_files(root), f"{tenant}/{collection}", survey.identity)
        pool = Pool(concurrency, gpus_per_embedder)
        with clock.stage("embed"):
            embedded = embed(survey.missing, ahead, vectors, work, pool=pool, session=session, progress=progress)
    pairs = sum(chunk.kind == "qa" for chunk in found.chunks)
    report = IngestReport(
        tenant=tenant,
        collection=collection,
        version=survey.published.version if survey.published else "",
        embedder_identity=survey.identity,
        started_at=started_at,
        files=survey.files,
        documents=found.documents,
        qa_pairs=pairs,
        passages=len(found.chunks) - pairs,
        duplicates=found.duplicates,
        new_documents=difference.new_documents,
        changed_documents=difference.changed_documents,
        deleted_documents=difference.deleted_documents,
        kept_documents=difference.kept_documents,
        reused_vectors=len(found.chunks) - len(survey.missing),
        embedded=embedded,
        rejects=tuple(found.rejects),
        notes=survey.notes,
        seconds=clock.seconds,
    )
    if survey.base is not None and difference.is_empty:
        work.clear()
        if survey.base.index_format != INDEX_FORMAT:
            version = store.compact(tenant, collection)
            return replace(report, version=version, notes=(*report.notes, "the indexes were built anew"))
        return replace(report, notes=(*report.notes, "nothing has changed, so nothing was published"))
    with clock.stage("publish"):
        progress("publish", 0, None)
        version = store.publish(tenant, collection, _changes(store, survey, vectors, report))
        work.clear()
    return replace(report, version=version, seconds={**clock.seconds, "total": clock.total_s})


def _survey(
    store: KnowledgeStore,
    paths: Sequence[str | Path],
    tenant: str,
    collection: str,
    encoder: EmbedderRecipe,
    limits: ReadLimits,
    session: RaySession,
    progress: Progress,
    clock: _Clock,
    ahead: Ahead | None = None,
) -> _Survey:
    """ahead: begins to load with the first text of a published collection that has no vector yet."""
    with clock.stage("compare"):
        published, notes = _published(store, tenant, collection)
        stored = _stored_chunks(store, published)
        known = {chunk.vector_key for chunk in stored}
    with clock.stage("read"):
        sources = list_sources(paths, WebClient(limits.web))
        pieces = read(sources, collection, limits, session, progress)
        found = gather(pieces if ahead is None or published is None else _watched(pieces, known, ahead))
        identity = identity_of(encoder)
    with clock.stage("compare"):
        unreadable = [reject.source for reject in found.rejects]
        by_hand = {chunk.document_id for chunk in stored if chunk.origin == "edit"}
        chunks = [chunk for chunk in found.chunks if chunk.document_id not in by_hand]
        difference = compare(chunks, stored, lambda chunk: chunk.origin == "apply", unreadable)
        base = published
        if published is not None and published.embedder_identity != identity:
            notes = ("the published version has the vectors of another encoder: everything is embedded again",)
            gone = difference.removed | {chunk.id for chunk in chunks}
            stay = store.chunks(tenant, collection, published.version, {chunk.id for chunk in stored} - gone)
            difference = replace(difference, added=(*chunks, *stay), removed=frozenset(), unchanged=0)
            base, known = None, set()
        wanted = {vector_key(chunk): chunk for chunk in difference.added}
        missing = tuple(chunk for key, chunk in wanted.items() if key not in known)
    return _Survey(len(sources), found, identity, published, base, difference, missing, notes)


def _watched(pieces: Iterator[Piece], known: Collection[str], ahead: Ahead) -> Iterator[Piece]:
    for piece in pieces:
        yield piece
        if isinstance(piece.found, Chunk) and vector_key(piece.found) not in known:
            ahead.begin()
            break
    yield from pieces


def _published(store: KnowledgeStore, tenant: str, collection: str) -> tuple[Manifest | None, tuple[str, ...]]:
    """The version that changes are made to; none, with a note, where it is damaged and this run makes all anew."""
    try:
        version = store.current_version(tenant, collection)
        return (None if version is None else store.verify(tenant, collection, version)), ()
    except (CorruptVersionError, UnknownVersionError) as error:
        return None, (f"the published version could not be read, so everything is embedded again ({error})",)


def _stored_chunks(store: KnowledgeStore, manifest: Manifest | None) -> list[StoredChunk]:
    return [] if manifest is None else store.stored_chunks(manifest.tenant, manifest.collection, manifest.version)


def _content_change(store: KnowledgeStore, survey: _Survey) -> tuple[frozenset[tuple[str, str]], tuple[Chunk, ...]]:
    """As `VersionChange` has it: what is only moved, or has other dates, says what it said."""
    base, difference = survey.base, survey.difference
    if base is None:
        return frozenset(), difference.added
    touched = difference.removed | {chunk.id for chunk in difference.added}
    before = store.chunks(base.tenant, base.collection, base.version, touched)
    was = {(chunk.id, content_digest(chunk)) for chunk in before}
    now = {(chunk.id, content_digest(chunk)): chunk for chunk in difference.added}
    return frozenset(was - now.keys()), tuple(chunk for key, chunk in now.items() if key not in was)


def _embedding_speed(store: KnowledgeStore, published: Manifest) -> float | None:
    """Chunks a second, as the run that made the published version had it; None where it embedded nothing."""
    report = store.report(published.tenant, published.collection, published.version)
    embedded, seconds = report.get("embedded", 0), report.get("seconds", {}).get("embed", 0.0)
    return embedded / seconds if embedded and seconds else None


def _check(found: Gathered, max_reject_share: float) -> None:
    rejects = tuple(found.rejects)
    share = reject_share(found.documents, len(rejects))
    if share > max_reject_share:
        raise TooManyRejectsError(
            f"{len(rejects)} of {found.documents + len(rejects)} documents were rejected ({share:.0%}, allowed are "
            f"{max_reject_share:.0%}): nothing was published",
            rejects,
        )
    if not found.chunks:
        raise NothingToIngestError("there is no document under the given paths: nothing was published")


# --- vectors to a version ---


def _changes(store: KnowledgeStore, survey: _Survey, vectors: VectorTable, report: IngestReport) -> Changes:
    """With the vectors that were made now, and for texts that were there before, those that are stored."""
    added = survey.difference.added
    if survey.base is not None:
        known = {key for key in map(vector_key, added) if key not in vectors}
        stored = store.stored_vectors(report.tenant, report.collection, survey.base.version, known)
        pairs = np.array(list(stored.values()), dtype=np.float32).reshape(len(stored), 2, survey.base.dim)
        vectors.fill(VectorBatch(list(stored), pairs[:, 0], pairs[:, 1]))
    chunk_vectors, question_vectors = vectors.of(added, dim=survey.base.dim if survey.base else 0)
    return Changes(
        embedder_identity=survey.identity,
        added=added,
        vectors=chunk_vectors,
        question_vectors=question_vectors,
        removed=survey.difference.removed,
        replaces_all=survey.base is None,
        report=report.to_json(),
        rejects=[asdict(reject) for reject in report.rejects],
    )


@contextmanager
def _little_garbage() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(_GC_THRESHOLD)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Clock:
    def __init__(self) -> None:
        self._begin = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begin, 3)

    @property
    def total_s(self) -> float:
        return round(time.monotonic() - self._begin, 3)
