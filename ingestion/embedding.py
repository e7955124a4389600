"""Chunks to vectors: which texts are embedded, and the worker that does it. Knows no Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ingestion.chunk import Chunk
from ingestion.document import digest
from models.protocols import Embedder

EmbedderFactory = Callable[[], Embedder]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The encoder, as the service that will answer has it: its identity has to be the same."""

    model: str = ".raydesk/models/multilingual-e5-small"
    query_prefix: str = "query: "
    passage_prefix: str = "passage: "
    pooling: Literal["mean", "cls"] = "mean"
    max_tokens: int = 256
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 1

    def located(self) -> EncoderConfig:
        """With the folder's full path: the process that loads it may work in another folder."""
        folder = Path(self.model)
        return replace(self, model=str(folder.resolve())) if folder.is_dir() else self

    def load(self) -> Embedder:
        from models.embedder import BertEmbedder  # torch: slow to import, and not needed to plan a job

        return BertEmbedder(
            self.model,
            query_prefix=self.query_prefix,
            passage_prefix=self.passage_prefix,
            pooling=self.pooling,
            max_tokens=self.max_tokens,
            precision=self.precision,
            threads=self.threads,
        )


def embedding_text(chunk: Chunk) -> str:
    """What the chunk's vector is made of: a passage alone does not say what it is about."""
    if chunk.kind == "qa":
        return f"{chunk.question}\n{chunk.answer}"
    return "\n".join([" > ".join(part for part in (chunk.title, *chunk.heading_path) if part), chunk.text]).strip()


def vector_key(chunk: Chunk) -> str:
    """Of all that its vectors are made of: chunks with equal keys have equal vectors, whatever else differs."""
    return digest(embedding_text(chunk), chunk.question)


class EmbedChunks:
    """Batches with the columns id, text and question to batches with id, vector and question_vector."""

    def __init__(self, factory: EmbedderFactory) -> None:
        self._embedder = factory()

    def __call__(self, batch: Columns) -> Columns:
        questions = [str(question) for question in batch["question"]]
        asked = [row for row, question in enumerate(questions) if question]
        question_vectors = np.zeros((len(questions), self._embedder.dim), dtype=np.float32)
        question_vectors[asked] = self._embedder.embed_queries([questions[row] for row in asked])
        vectors = self._embedder.embed_passages([str(text) for text in batch["text"]])
        return {"id": batch["id"], "vector": vectors, "question_vector": question_vectors}


def identity_of(factory: EmbedderFactory) -> str:
    return factory().identity
