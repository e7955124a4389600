"""Chunks to vectors: which texts are embedded, in which order, and by whom. Knows no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from ingestion.chunk import Chunk
from ingestion.document import digest
from ingestion.errors import EmbedderError
from ingestion.questions import adds_subject
from models.embedder import ModelLoadError
from models.protocols import Embedder, EmbedderRecipe, Vectors


def embedding_text(chunk: Chunk) -> str:
    """What the chunk's vector is made of: a text alone does not say what it is about, nor a question of what."""
    above = (part for part in (chunk.title, *chunk.heading_path) if part and part != chunk.question)
    return "\n".join([" > ".join(above), chunk.text]).strip()


def question_text(chunk: Chunk) -> str:
    """What the vector of a pair's question is made of: on a page about one product it asks about that product.

    "How long is the warranty?" alone would answer customers of all others, too.
    """
    is_new = chunk.question and adds_subject(chunk.title, chunk.question)
    return f"{chunk.title}: {chunk.question}" if is_new else chunk.question


def vector_key(chunk: Chunk) -> str:
    """Of all that its vectors are made of: chunks with equal keys have equal vectors, whatever else differs."""
    return digest(embedding_text(chunk), question_text(chunk))


def embed_texts(embedder: Embedder, texts: Sequence[str], questions: Sequence[str]) -> tuple[Vectors, Vectors]:
    """(n, dim) vectors of the texts, and of their questions; where there is no question ("") the row is zero."""
    asked = [row for row, question in enumerate(questions) if question]
    question_vectors: Vectors = np.zeros((len(questions), embedder.dim), dtype=np.float32)
    question_vectors[asked] = embedder.embed_queries([questions[row] for row in asked])
    return embedder.embed_passages(texts), question_vectors


def identity_of(encoder: EmbedderRecipe) -> str:
    """Raises `EmbedderError`."""
    with _our_error():
        return encoder.identity()


def load(encoder: EmbedderRecipe) -> Embedder:
    """Raises `EmbedderError`."""
    with _our_error():
        return encoder.load()


class Ahead:
    """An encoder that can be loaded beside other work: two seconds, most of them imports."""

    def __init__(self, recipe: EmbedderRecipe) -> None:
        self.recipe = recipe
        self._loaded: Future[Embedder] | None = None

    def begin(self) -> None:
        """Of no effect where it has begun."""
        if self._loaded is None:
            threads = ThreadPoolExecutor(1, thread_name_prefix="encoder-ahead")
            self._loaded = threads.submit(load, self.recipe)
            threads.shutdown(wait=False)

    def get(self) -> Embedder:
        """Raises `EmbedderError`."""
        return load(self.recipe) if self._loaded is None else self._loaded.result()


@contextmanager
def _our_error() -> Iterator[None]:
    try:
        yield
    except (ModelLoadError, OSError) as error:
        raise EmbedderError(f"the encoder failed: {error}") from error
