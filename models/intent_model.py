"""Encoder and head together: questions to their embeddings and intents, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from models.embedder import BertEmbedder
from models.intent_examples import IntentDataError
from models.intent_head import LinearIntentHead
from models.protocols import Embedder, IntentHead, IntentPrediction, Vectors

if TYPE_CHECKING:
    from models.bert import Layer


class IntentModel:
    def __init__(self, embedder: Embedder, head: IntentHead) -> None:
        """Works the head's changes into the encoder's layers. Raises `IntentDataError` where they do not fit."""
        self.embedder = embedder
        self.head = head
        self._tuned: tuple[BertEmbedder, LinearIntentHead, list[Layer]] | None = None
        if isinstance(head, LinearIntentHead) and head.changes:
            from models.intent_tuning import tuned_layers

            if not isinstance(embedder, BertEmbedder) or embedder.bert is None:
                raise IntentDataError("the head was trained with a tuned BERT, and the encoder is none")
            try:
                self._tuned = (embedder, head, tuned_layers(embedder, head.changes))
            except (KeyError, RuntimeError) as error:
                raise IntentDataError(f"the head's changes do not fit the encoder: {error}") from error

    def understand(self, texts: Sequence[str]) -> tuple[Vectors, list[IntentPrediction]]:
        """(n, dim) embeddings, as the encoder gives them without a head, and n predictions."""
        if self._tuned is None:
            embeddings = self.embedder.embed_queries(texts)
            return embeddings, self.head.predict(texts, embeddings)
        embedder, head, top = self._tuned
        embeddings, vectors = embedder.embed_queries_with(texts, top)
        return embeddings, head.predict(texts, embeddings, vectors)
