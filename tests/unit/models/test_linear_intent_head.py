"""Training, saving, loading and the errors of the intent head, on the hash embedder and on made-up vectors."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from models.fakes import HashEmbedder
from models.intent_head import IntentDataError, LinearIntentHead, fit_intent_head, load_examples, train_intent_head
from models.protocols import OUT_OF_SCOPE, Vectors

pytestmark = pytest.mark.unit

NOUNS = ["order", "parcel", "invoice", "jacket", "phone", "lamp"]
EXAMPLES = {
    "refund": [f"refund the {noun} give money back" for noun in NOUNS],
    "tracking": [f"where is the {noun} track delivery" for noun in NOUNS],
    "password": [f"reset password login account {noun}" for noun in NOUNS],
}
EMBEDDER = HashEmbedder(512)


@pytest.fixture(scope="module")
def head() -> LinearIntentHead:
    return train_intent_head(EMBEDDER, EXAMPLES)


def clouds(spread: float, per_label: int = 200, labels: int = 4, dim: int = 16) -> tuple[Vectors, np.ndarray]:
    """Overlapping Gaussian clouds on the unit sphere, so that the truth is uncertain by construction."""
    rng = np.random.default_rng(7)
    centres = np.eye(labels, dim) + 1.0
    targets = np.repeat(np.arange(labels), per_label)
    points = centres[targets] + rng.normal(0, spread, (len(targets), dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), targets


def test_new_sentences_get_their_label(head: LinearIntentHead) -> None:
    questions = ["please refund my lamp", "track my lamp delivery", "login password lost"]
    predictions = head.predict(EMBEDDER.embed_queries(questions))
    assert [prediction.label for prediction in predictions] == ["refund", "tracking", "password"]


def test_out_of_scope_is_always_a_label(head: LinearIntentHead) -> None:
    assert head.labels == (OUT_OF_SCOPE, "password", "refund", "tracking")


def test_out_of_scope_examples_are_learned() -> None:
    examples = {**EXAMPLES, OUT_OF_SCOPE: [f"weather in {city} sunny today" for city in "abcdef"]}
    head = train_intent_head(EMBEDDER, examples)
    assert head.predict(EMBEDDER.embed_queries(["sunny weather today"]))[0].label == OUT_OF_SCOPE


def test_far_questions_are_out_of_scope() -> None:
    points, targets = clouds(spread=0.1)
    head = fit_intent_head(points, targets, ["a", "b", "c", "d"], "made-up")
    (far,) = head.predict(-points[:1])
    assert far.label == OUT_OF_SCOPE
    assert far.confidence > 0.89
    assert OUT_OF_SCOPE not in {prediction.label for prediction in head.predict(points[::40])}


@pytest.mark.parametrize("spread", [0.3, 0.6])
def test_confidence_is_as_high_as_accuracy_on_new_points(spread: float) -> None:
    points, targets = clouds(spread)
    labels = np.array(["a", "b", "c", "d"])
    head = fit_intent_head(points[::2], targets[::2], list(labels), "made-up")
    predictions = head.predict(points[1::2])
    accuracy = np.mean([p.label == truth for p, truth in zip(predictions, labels[targets[1::2]], strict=True)])
    assert np.mean([p.confidence for p in predictions]) == pytest.approx(accuracy, abs=0.06)


def test_two_intents_are_enough() -> None:
    head = train_intent_head(EMBEDDER, {label: EXAMPLES[label] for label in ("refund", "password")})
    assert head.predict(EMBEDDER.embed_queries(["reset password"]))[0].label == "password"


def test_same_seed_gives_same_head(head: LinearIntentHead) -> None:
    questions = EMBEDDER.embed_queries(["refund", "where is it"])
    assert train_intent_head(EMBEDDER, EXAMPLES).predict(questions) == head.predict(questions)


def test_one_prediction_is_fast(head: LinearIntentHead) -> None:
    question = EMBEDDER.embed_queries(["refund my order"])
    durations_s = []
    for _ in range(50):
        started = time.perf_counter()
        head.predict(question)
        durations_s.append(time.perf_counter() - started)
    assert min(durations_s) < 0.2e-3


def test_a_saved_head_predicts_the_same(head: LinearIntentHead, tmp_path: Path) -> None:
    head.save(tmp_path / "head")
    loaded = LinearIntentHead.load(tmp_path / "head", EMBEDDER.identity)
    questions = EMBEDDER.embed_queries(["refund", "sunny weather"])
    assert loaded.predict(questions) == head.predict(questions)
    assert loaded.labels == head.labels


def test_another_embedders_head_is_refused(head: LinearIntentHead, tmp_path: Path) -> None:
    head.save(tmp_path)
    with pytest.raises(IntentDataError, match=r"trained on 'hash-512'.*'hash-64'"):
        LinearIntentHead.load(tmp_path, "hash-64")


def test_a_missing_head_says_how_to_train_one(tmp_path: Path) -> None:
    with pytest.raises(IntentDataError, match="no intent head"):
        LinearIntentHead.load(tmp_path, "hash-512")


@pytest.mark.parametrize("content", [b"", b"not a zip file"])
def test_damaged_arrays_are_named(head: LinearIntentHead, tmp_path: Path, content: bytes) -> None:
    head.save(tmp_path)
    (tmp_path / "head.npz").write_bytes(content)
    with pytest.raises(IntentDataError, match=r"head\.npz is missing or damaged"):
        LinearIntentHead.load(tmp_path, EMBEDDER.identity)


def test_another_format_is_refused(head: LinearIntentHead, tmp_path: Path) -> None:
    head.save(tmp_path)
    description = json.loads((tmp_path / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps({**description, "format": 99}))
    with pytest.raises(IntentDataError, match="format 99"):
        LinearIntentHead.load(tmp_path, EMBEDDER.identity)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ({"refund": EXAMPLES["refund"]}, "at least two intents"),
        ({"refund": EXAMPLES["refund"], OUT_OF_SCOPE: EXAMPLES["password"]}, "at least two intents"),
        ({**EXAMPLES, "hours": ["open?"] * 9}, "'hours' has 1 different examples"),
        ({**EXAMPLES, "hours": EXAMPLES["refund"]}, "example of both 'refund' and 'hours'"),
    ],
    ids=["one intent", "one intent besides out_of_scope", "too few examples", "same example twice"],
)
def test_useless_examples_are_refused(examples: dict[str, list[str]], message: str) -> None:
    with pytest.raises(IntentDataError, match=message):
        train_intent_head(EMBEDDER, examples)


def test_examples_are_read_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "intents.yaml"
    file.write_text("intents:\n- name: refund\n  description: money back\n  examples: [怎么退款, refund me]\n", "utf-8")
    assert load_examples(file) == {"refund": ["怎么退款", "refund me"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("intents: [", "not valid YAML"),
        ("rules: []", "needs a list under 'intents'"),
        ("intents:\n- examples: [a]", "intent 1: needs a 'name'"),
        ("intents:\n- name: hours", r"intent 1 \(hours\): needs a list of 'examples'"),
        ("intents:\n- {name: hours, examples: [yes]}", "True is not a text"),
        ("intents:\n- {name: a, examples: [x]}\n- {name: a, examples: [y]}", "two intents named 'a'"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "intents.yaml"
    file.write_text(content)
    with pytest.raises(IntentDataError, match=message):
        load_examples(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IntentDataError, match=r"no file .*intents\.yaml"):
        load_examples(tmp_path / "intents.yaml")
