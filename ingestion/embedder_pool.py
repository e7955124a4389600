"""Chunks to vectors on Ray: a pool of embedders, each loaded once in a process of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import ray
import ray.data
from ray.exceptions import RayError, RayTaskError

from ingestion.chunk import Chunk
from ingestion.embedding import EmbedChunks, EmbedderFactory, embedding_text, identity_of
from ingestion.errors import EmbedderError
from ingestion.progress import Progress
from models.protocols import Embedder, Vectors

VectorPairs = dict[str, tuple[Vectors, Vectors]]  # chunk id → (vector, question vector)

_BATCH = 64
_NICENESS = 10
_IDENTITY_CPUS = 0.5  # beside a running application there may be little left
_COLUMNS = ("id", "vector", "question_vector")


def start_identity(factory: EmbedderFactory) -> Any:
    """Begins to find out the embedder's identity, beside other work; `fetch_identity` waits for it."""
    return ray.remote(num_cpus=_IDENTITY_CPUS)(identity_of).remote(factory)


def embed(
    chunks: Sequence[Chunk], factory: EmbedderFactory, concurrency: int, gpus: float, progress: Progress
) -> VectorPairs:
    progress("embed", 0, len(chunks))
    if not chunks:
        return {}
    items = [{"id": chunk.id, "text": embedding_text(chunk), "question": chunk.question} for chunk in chunks]
    embedded = ray.data.from_items(items, override_num_blocks=math.ceil(len(items) / _BATCH)).map_batches(
        EmbedChunks,
        fn_constructor_args=(partial(_load_politely, factory),),
        batch_size=_BATCH,
        compute=ray.data.ActorPoolStrategy(size=concurrency),
        num_cpus=1,
        num_gpus=gpus or None,
    )
    vectors: VectorPairs = {}
    try:
        for batch in embedded.iter_batches(batch_size=None, batch_format="numpy"):
            for key, vector, question_vector in zip(*(batch[name] for name in _COLUMNS), strict=True):
                vectors[str(key)] = (vector, question_vector)
            progress("embed", len(vectors), len(chunks))
    except RayError as error:
        raise _embedder_error(error) from error
    return vectors


def _load_politely(factory: EmbedderFactory) -> Embedder:
    """In the embedder's own process: customers who are answered on the same machine go first."""
    os.nice(_NICENESS)
    return factory()


def fetch_identity(reference: Any) -> str:
    try:
        return cast(str, ray.get(reference))
    except RayError as error:
        raise _embedder_error(error) from error


def _embedder_error(error: RayError) -> EmbedderError:
    """Without Ray's traceback, which stays in the cause."""
    reason = error.cause if isinstance(error, RayTaskError) else error
    return EmbedderError(f"the encoder failed: {reason}")
