"""The story of one knowledge version: files → documents → chunks → vectors → indexes → published. Wiring only."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray.data

from ingestion import rows
from ingestion.chunk import Chunk
from ingestion.embedder_pool import VectorPairs, embed, fetch_identity, start_identity
from ingestion.embedding import Columns, EmbedderFactory, EncoderConfig
from ingestion.errors import (
    CorruptVersionError,
    NothingToIngestError,
    TooManyRejectsError,
    UnknownVersionError,
)
from ingestion.isolated import IsolatedParser, Limits
from ingestion.progress import Progress, no_progress
from ingestion.ray_session import quiet_data, ray_session
from ingestion.report import IngestReport, reject_share
from ingestion.sources import SourceFile, expand
from ingestion.store import KnowledgeStore, NewVersion

_FILES_PER_TASK = 32  # each task starts a child process: 0.2 s
_READ_CPUS = 0.5  # beside a running application there may be little left
_READ_TASKS = 4  # at least, so that few files are read beside one another, too


def ingest(
    paths: Sequence[Path],
    *,
    root: Path,
    tenant: str,
    collection: str,
    encoder: EncoderConfig,
    embedder_factory: EmbedderFactory | None = None,
    max_reject_share: float = 0.2,
    concurrency: int = 1,
    gpus_per_embedder: float = 0.0,
    limits: Limits | None = None,
    progress: Progress = no_progress,
) -> IngestReport:
    """Publishes what the paths hold as the collection's next version, in place of what it held before.

    concurrency: embedders at work at once. Raises `NothingToIngestError`, `TooManyRejectsError` (nothing is published)
    or another `IngestionError`.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    clock = _Clock()
    store = KnowledgeStore(root)
    store.current_version(tenant, collection)  # a name that is none is said now, not after the work
    factory = embedder_factory or encoder.located().load
    files = expand(paths)
    with ray_session(concurrency), quiet_data(show_bars=sys.stderr.isatty() and progress is no_progress):
        identity_ref = start_identity(factory)  # while the files are read
        with clock.stage("read"):
            found = rows.gather(_read(files, collection, limits or Limits(), progress))
        _check(found, max_reject_share)
        with clock.stage("load encoder"):
            identity = fetch_identity(identity_ref)
        stored, notes = _stored_vectors(store, tenant, collection, identity)
        missing = [chunk for chunk in found.chunks if chunk.id not in stored]
        with clock.stage("embed"):
            embedded = embed(missing, factory, concurrency, gpus_per_embedder, progress)
    pairs = sum(chunk.kind == "qa" for chunk in found.chunks)
    report = IngestReport(
        tenant=tenant,
        collection=collection,
        version="",
        embedder_identity=identity,
        started_at=started_at,
        files=len(files),
        documents=found.documents,
        qa_pairs=pairs,
        passages=len(found.chunks) - pairs,
        duplicates=found.duplicates,
        reused_vectors=len(found.chunks) - len(missing),
        embedded=len(missing),
        rejects=tuple(found.rejects),
        notes=notes,
        seconds=clock.seconds,
    )
    with clock.stage("publish"):
        progress("publish", 0, None)
        version = store.publish(tenant, collection, _new_version(found.chunks, stored | embedded, report))
    return replace(report, version=version, seconds={**clock.seconds, "total": clock.total_s})


# --- files to chunks ---


def _read(files: Sequence[SourceFile], collection: str, limits: Limits, progress: Progress) -> Iterator[rows.Row]:
    """Rows of chunks and rejects, in the order of the files."""
    if not files:
        return
    items = [{"file": number, "path": str(file.path), "name": file.name} for number, file in enumerate(files)]
    tasks = min(len(files), max(_READ_TASKS, math.ceil(len(files) / _FILES_PER_TASK)))
    read = (
        ray.data.from_items(items, override_num_blocks=tasks)
        .map_batches(partial(_parse_files, limits=limits), batch_size=None, num_cpus=_READ_CPUS)
        .flat_map(partial(rows.split_row, collection=collection), num_cpus=_READ_CPUS)
    )
    done: set[int] = set()
    progress("read", 0, len(files))
    for row in read.iter_rows():
        if row["file"] not in done:
            done.add(row["file"])
            progress("read", len(done), len(files))
        yield row


def _parse_files(batch: Columns, limits: Limits) -> Iterator[dict[str, list[Any]]]:
    """One child process reads all files of the batch."""
    with IsolatedParser(limits) as parser:
        for number, path, name in zip(batch["file"], batch["path"], batch["name"], strict=True):
            parsed = parser.parse(SourceFile(Path(str(path)), str(name)))
            found = list(rows.of_parsed(int(number), parsed))
            yield {key: [row[key] for row in found] for key in found[0]}


def _check(found: rows.Gathered, max_reject_share: float) -> None:
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


# --- chunks to vectors ---


def _stored_vectors(
    store: KnowledgeStore, tenant: str, collection: str, identity: str
) -> tuple[VectorPairs, tuple[str, ...]]:
    """Of the published version, with a note if there is one that cannot be read: this run then replaces it."""
    try:
        return store.stored_vectors(tenant, collection, identity), ()
    except (CorruptVersionError, UnknownVersionError) as error:
        return {}, (f"the published version could not be read, so everything was embedded again ({error})",)


# --- vectors to a version ---


def _new_version(chunks: Sequence[Chunk], vectors: VectorPairs, report: IngestReport) -> NewVersion:
    return NewVersion(
        chunks=chunks,
        vectors=np.stack([vectors[chunk.id][0] for chunk in chunks]),
        question_vectors=np.stack([vectors[chunk.id][1] for chunk in chunks]),
        embedder_identity=report.embedder_identity,
        report=report.to_json(),
        rejects=[asdict(reject) for reject in report.rejects],
    )


class _Clock:
    def __init__(self) -> None:
        self._begin = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - begin, 3)

    @property
    def total_s(self) -> float:
        return round(time.monotonic() - self._begin, 3)
