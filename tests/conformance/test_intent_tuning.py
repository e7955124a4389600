"""Tuning the bundled encoder's highest layers: the intents profit, and retrieval's vectors stay what they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.embedder import BertEmbedder
from models.fakes import HashEmbedder
from models.intent_examples import IntentDataError, examples_of
from models.intent_head import LinearIntentHead
from models.intent_model import IntentModel
from models.intent_training import train_intent_head
from models.intent_tuning import tune, tuned_layers

pytestmark = pytest.mark.conformance

TEXTS = ["I want a refund", "give me my money back", "我要退款", "where is my parcel", "track my order", "查物流"]
TARGETS = np.array([0, 0, 0, 1, 1, 1])


def test_the_tuned_layers_part_the_intents_and_leave_the_embedding_alone(bert: BertEmbedder) -> None:
    lines: list[str] = []
    tuned = tune(bert, TEXTS * 8, np.tile(TARGETS, 8), 2, seed=0, progress=lines.append)
    embeddings, vectors = bert.embed_queries_with(TEXTS, tuned_layers(bert, tuned.changes))
    assert embeddings == pytest.approx(bert.embed_queries(TEXTS), abs=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-4)
    assert ((vectors @ tuned.weights.T + tuned.bias).argmax(axis=1) == TARGETS).all()
    apart, before = vectors @ vectors.T, embeddings @ embeddings.T
    assert apart[0, 1] - apart[0, 3] > before[0, 1] - before[0, 3]
    assert "4 of 4 rounds" in lines[-1]


def test_changes_of_nothing_give_the_encoders_own_vectors(bert: BertEmbedder) -> None:
    embeddings, vectors = bert.embed_queries_with(TEXTS, bert.bert.layers[-4:] if bert.bert else [])
    assert vectors == pytest.approx(embeddings, abs=1e-5)


def test_a_tuned_head_is_kept_with_its_changes(bert: BertEmbedder, tmp_path: Path) -> None:
    examples = {"refund": TEXTS[:3] * 1, "tracking": TEXTS[3:] * 1}
    for label, words in (("refund", "money back"), ("tracking", "parcel now")):
        examples[label] = [*examples[label], *(f"{words} number {number}" for number in range(20))]
    head = train_intent_head(bert, examples_of(examples)).head
    tuned = tune(bert, TEXTS, TARGETS, 3, seed=0, progress=lambda line: None)
    arrays = replace(
        head._arrays,
        share=np.array(0.5),
        tuned_weights=tuned.weights,
        tuned_bias=tuned.bias,
        tuned_centre=np.zeros(bert.dim, dtype=np.float32),
        voters=bert.embed_queries(TEXTS).astype(np.float16),
        voices=1 + TARGETS,
        vote=np.array(0.3),
    )
    changed = LinearIntentHead(head.labels, arrays, bert.identity, tuned.changes)
    changed.save(tmp_path)
    loaded = IntentModel(bert, LinearIntentHead.load(tmp_path, bert.identity))
    for one, other in zip(loaded.understand(TEXTS)[1], IntentModel(bert, changed).understand(TEXTS)[1], strict=True):
        assert (one.label, one.confidence) == (other.label, pytest.approx(other.confidence, abs=1e-4))
    with pytest.raises(IntentDataError, match="tuned BERT"):
        IntentModel(HashEmbedder(64), changed)


def test_an_encoder_that_cannot_be_tuned_says_so() -> None:
    with pytest.raises(IntentDataError, match="cannot be tuned"):
        train_intent_head(HashEmbedder(64), examples_of({"a": ["x", "y"], "b": ["z", "w"]}), fine_tune=True)
