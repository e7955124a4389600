"""Sources to chunks and rejects: few are read here, many on Ray, by the same code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from ingestion.embedder_pool import Columns
from ingestion.fetch import fetched
from ingestion.isolated import IsolatedParser, Limits
from ingestion.progress import Progress
from ingestion.ray_session import RaySession
from ingestion.rows import Piece, from_row, pieces, to_row
from ingestion.sources import Source, SourceFile, source_from_json, source_to_json
from ingestion.web import WebClient, WebLimits

_SOURCES_PER_TASK = 32  # each task starts a child process: 0.2 s
_READ_CPUS = 0.5  # beside a running application there may be little left
# So little is read here: 72 files in 1.5 s, of which Ray would take 10 s to start, and 37 s beside other work.
_FEW_SOURCES, _FEW_BYTES = 1000, 8_000_000
_READ_TASKS = 4  # at least, so that few sources are read beside one another, too
_BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Of what is fetched, and of what is read."""

    file: Limits = field(default_factory=Limits)
    web: WebLimits = field(default_factory=WebLimits)


def read(
    sources: Sequence[Source], collection: str, limits: ReadLimits, session: RaySession, progress: Progress
) -> Iterator[Piece]:
    """Chunks and rejects; those of a source follow one another."""
    local = [source for source in sources if isinstance(source, SourceFile)]
    few = len(local) == len(sources) <= _FEW_SOURCES and sum(file.size_bytes for file in local) <= _FEW_BYTES
    numbered = enumerate(sources)
    found = _read(numbered, collection, limits) if few else _read_on_ray(numbered, collection, limits, session)
    done: set[int] = set()
    progress("read", 0, len(sources))
    for piece in found:
        if piece.file not in done:
            done.add(piece.file)
            progress("read", len(done), len(sources))
        yield piece


def _read(numbered: Iterable[tuple[int, Source]], collection: str, limits: ReadLimits) -> Iterator[Piece]:
    """One child process reads all of them."""
    client = WebClient(limits.web)
    with IsolatedParser(limits.file) as parser:
        for number, source in numbered:
            with fetched(source, client) as files:
                yield from pieces(number, (found for file in files for found in parser.read(file)), collection)


def _read_on_ray(
    numbered: Iterable[tuple[int, Source]], collection: str, limits: ReadLimits, session: RaySession
) -> Iterator[Piece]:
    session.start()
    import ray.data  # here, because it takes seconds

    items = [{"file": number, "source": source_to_json(source)} for number, source in numbered]
    tasks = min(len(items), max(_READ_TASKS, math.ceil(len(items) / _SOURCES_PER_TASK)))
    read_batch = partial(_read_batch, collection=collection, limits=limits)
    rows = ray.data.from_items(items, override_num_blocks=tasks).map_batches(
        read_batch, batch_size=None, num_cpus=_READ_CPUS
    )
    yield from map(from_row, rows.iter_rows())


def _read_batch(batch: Columns, collection: str, limits: ReadLimits) -> Iterator[dict[str, list[Any]]]:
    pairs = zip(batch["file"], batch["source"], strict=True)
    found = _read(((int(number), source_from_json(str(text))) for number, text in pairs), collection, limits)
    rows = map(to_row, found)
    while part := list(islice(rows, _BATCH_ROWS)):
        yield {key: [row[key] for row in part] for key in part[0]}
