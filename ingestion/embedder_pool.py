"""Chunks to vectors in bulk: by a pool of embedders on Ray, each in a process of its own, or here if they are few."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from numpy.typing import NDArray

from ingestion.chunk import Chunk
from ingestion.embedding import Ahead, embed_texts, embedding_text, question_text, vector_key
from ingestion.errors import EmbedderError
from ingestion.language import width
from ingestion.progress import Progress
from ingestion.ray_session import RaySession
from ingestion.vectors import VectorBatch, VectorTable, VectorWork
from models.protocols import EmbedderRecipe, Vectors

Columns = dict[str, NDArray[Any]]

_FEW = 1000  # chunks that are embedded here: half a minute on two cores, and a pool takes some ten seconds to start
_BATCH, _GPU_BATCH = 64, 1024  # chunks, so that a killed run loses a few seconds of work
_NICENESS = 10  # customers who are answered on the same machine go first


@dataclass(frozen=True, slots=True)
class Pool:
    """One thread each is best: threads that share a pass wait for one another, and on a busy machine for long."""

    concurrency: int = 1  # embedders at work at once
    gpus: float = 0.0  # of each; 0 embeds on the CPU

    @property
    def batch(self) -> int:
        return _GPU_BATCH if self.gpus else _BATCH


@dataclass(frozen=True, slots=True)
class _Text:
    key: str
    text: str
    question: str


def embed(
    chunks: Sequence[Chunk],
    encoder: Ahead,
    table: VectorTable,
    work: VectorWork,
    *,
    pool: Pool,
    session: RaySession,
    progress: Progress,
) -> int:
    """Fills the table with the chunks' vectors: what an earlier run left in `work`, and new ones, which go there, too.

    Returns how many were embedded. Raises `EmbedderError`.
    """
    wanted = {vector_key(chunk): chunk for chunk in chunks}
    for batch in work.read():
        table.fill(batch)
    missing = [
        _Text(key, embedding_text(chunk), question_text(chunk)) for key, chunk in wanted.items() if key not in table
    ]
    done = len(wanted) - len(missing)
    progress("embed", done, len(wanted))
    if not missing:
        return 0
    # Alike ones together, since a batch is padded to its longest; the longest first, so that all finish together.
    missing.sort(key=lambda each: width(each.text), reverse=True)
    here = len(missing) <= _FEW and not pool.gpus
    for batch in _embed_here(missing, encoder, pool) if here else _embed_on_ray(missing, encoder.recipe, pool, session):
        work.add(batch)
        table.fill(batch)
        done += len(batch.keys)
        progress("embed", done, len(wanted))
    return len(missing)


def _embed_here(texts: Sequence[_Text], encoder: Ahead, pool: Pool) -> Iterator[VectorBatch]:
    """By one embedder, which threads share."""
    embedder = encoder.get()

    def embed_part(part: Sequence[_Text]) -> VectorBatch:
        vectors = embed_texts(embedder, [each.text for each in part], [each.question for each in part])
        return VectorBatch([each.key for each in part], *vectors)

    parts = iter(_parts(texts, min(_BATCH, math.ceil(len(texts) / pool.concurrency))))
    with ThreadPoolExecutor(pool.concurrency, initializer=os.nice, initargs=(_NICENESS,)) as threads:
        running = deque(threads.submit(embed_part, part) for part in islice(parts, pool.concurrency))
        while running:
            yield running.popleft().result()
            # Only once the caller has kept it: a run that is killed loses a batch of each thread, and no more.
            running.extend(threads.submit(embed_part, part) for part in islice(parts, 1))


def _embed_on_ray(
    texts: Sequence[_Text], encoder: EmbedderRecipe, pool: Pool, session: RaySession
) -> Iterator[VectorBatch]:
    session.start()
    import ray.data  # here, because it takes seconds
    from ray.exceptions import RayError

    blocks = ray.data.from_arrow([_block(part) for part in _parts(texts, pool.batch)])
    blocks.context.execution_options.preserve_order = False  # keys tell them apart
    embedded = blocks.map_batches(
        _Worker,
        fn_constructor_args=(encoder,),
        batch_size=None,
        compute=ray.data.ActorPoolStrategy(size=pool.concurrency),
        num_cpus=1,
        num_gpus=pool.gpus or None,
    )
    try:
        for batch in embedded.iter_batches(batch_size=None, batch_format="numpy"):
            yield VectorBatch(batch["key"].tolist(), batch["vector"], batch["question_vector"])
    except RayError as error:
        raise _without_traceback(error) from error


def _parts(texts: Sequence[_Text], size: int) -> list[Sequence[_Text]]:
    return [texts[start : start + size] for start in range(0, len(texts), size)]


def _block(texts: Sequence[_Text]) -> Any:
    import pyarrow as pa

    return pa.Table.from_pydict({name: [getattr(each, name) for each in texts] for name in _Text.__slots__})


class _Worker:
    """Batches with the columns key, text and question to batches with key, vector and question_vector."""

    def __init__(self, encoder: EmbedderRecipe) -> None:
        os.nice(_NICENESS)
        self._embedder = encoder.load()

    def __call__(self, batch: Columns) -> dict[str, NDArray[Any] | Vectors]:
        vectors, question_vectors = embed_texts(self._embedder, batch["text"].tolist(), batch["question"].tolist())
        return {"key": batch["key"], "vector": vectors, "question_vector": question_vectors}


def _without_traceback(error: Exception) -> EmbedderError:
    """Ray's traceback stays in the cause."""
    from ray.exceptions import RayTaskError

    return EmbedderError(f"the encoder failed: {error.cause if isinstance(error, RayTaskError) else error}")
