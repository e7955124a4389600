"""Training, saving, loading and the errors of the intent head, on the hash embedder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.fakes import HashEmbedder
from models.intent_card import make_card
from models.intent_examples import IntentDataError, examples_of
from models.intent_head import SURE, LinearIntentHead, calibrated, votes
from models.intent_training import Training, _fit_calibration, train_intent_head
from models.intent_versions import current_version, known_labels, load_version, publish_version, read_card
from models.protocols import OUT_OF_SCOPE, IntentPrediction, Vectors

pytestmark = pytest.mark.unit

NOUNS = ["order", "parcel", "invoice", "jacket", "phone", "lamp"]
EXAMPLES = {
    "refund": [f"refund the {noun} give money back" for noun in NOUNS],
    "tracking": [f"where is the {noun} track delivery" for noun in NOUNS],
    "password": [f"reset password login account {noun}" for noun in NOUNS],
}
EMBEDDER = HashEmbedder(512)


def train(examples: dict[str, list[str]], target_precision: float = 0.99) -> Training:
    return train_intent_head(EMBEDDER, examples_of(examples), target_precision)


@pytest.fixture(scope="module")
def training() -> Training:
    return train(EXAMPLES)


@pytest.fixture(scope="module")
def head(training: Training) -> LinearIntentHead:
    return training.head


def ask(head: LinearIntentHead, *questions: str) -> list[IntentPrediction]:
    return head.predict(questions, EMBEDDER.embed_queries(questions))


def many(rng: np.random.Generator, n: int, unclear: float) -> dict[str, list[str]]:
    """Sentences of which a share says nothing of its intent: the truth is uncertain by construction."""
    words = {"refund": "money back refund", "tracking": "where delivery track", "password": "login reset password"}
    examples: dict[str, list[str]] = {label: [] for label in words}
    for _ in range(n):
        label = str(rng.choice(list(words)))
        shown = "please help me" if rng.random() < unclear else words[label]
        some = rng.permutation(shown.split())[: rng.integers(1, 4)]
        examples[label].append(f"{' '.join(some)} {rng.choice(NOUNS)} {rng.integers(10**6)}")
    return examples


def test_new_sentences_get_their_label(head: LinearIntentHead) -> None:
    labels = [
        each.label for each in ask(head, "please refund my lamp", "track my lamp delivery", "login password lost")
    ]
    assert labels == ["refund", "tracking", "password"]


def test_out_of_scope_is_always_a_label(head: LinearIntentHead) -> None:
    assert head.labels == (OUT_OF_SCOPE, "password", "refund", "tracking")


def test_out_of_scope_examples_are_learned() -> None:
    head = train({**EXAMPLES, OUT_OF_SCOPE: [f"weather in {city} sunny today" for city in "abcdef"]}).head
    assert ask(head, "sunny weather today")[0].label == OUT_OF_SCOPE


def test_unrelated_questions_are_out_of_scope_without_examples(head: LinearIntentHead) -> None:
    far, near = ask(head, "quantum chromodynamics explained", "refund the coat give money back")
    assert far.label == OUT_OF_SCOPE
    assert near.label == "refund"


@pytest.mark.parametrize("unclear", [0.1, 0.5])
def test_confidence_is_as_high_as_accuracy_on_new_questions(unclear: float) -> None:
    rng = np.random.default_rng(7)
    head, new = train(many(rng, 200, unclear)).head, many(rng, 600, unclear)
    truths = [label for label, texts in new.items() for _ in texts]
    predictions = ask(head, *(text for texts in new.values() for text in texts))
    accuracy = np.mean([each.label == truth for each, truth in zip(predictions, truths, strict=True)])
    assert np.mean([each.confidence for each in predictions]) == pytest.approx(accuracy, abs=0.1)


def test_the_threshold_reaches_the_target_on_new_questions() -> None:
    rng = np.random.default_rng(3)
    training, new = train(many(rng, 250, 0.2), 0.95), many(rng, 250, 0.2)
    assert training.threshold is not None
    truths = [label for label, texts in new.items() for _ in texts]
    predictions = ask(training.head, *(text for texts in new.values() for text in texts))
    right = [p.label == t for p, t in zip(predictions, truths, strict=True) if p.confidence >= (p.threshold or 0)]
    assert np.mean(right) == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize("aim", [0.8, 0.95, 0.97])
def test_from_sure_on_as_many_are_right_as_was_aimed_at(aim: float) -> None:
    """Also where a confidence of 0.9 is right nine times in ten, as it should be, and those above it 19 of 20 times."""
    rng = np.random.default_rng(5)

    def drawn(count: int) -> tuple[Vectors, NDArray[np.int_]]:
        best = rng.uniform(0.55, 1.0, count)  # of all above 0.96 98 % are right
        is_right = rng.random(count) < best
        rows = np.stack([best, 1.0 - best, np.zeros(count)], axis=1).astype(np.float32)
        return rows, np.where(is_right, 0, 1)

    probabilities, targets = drawn(20_000)
    calibration = _fit_calibration(probabilities, targets, oos=2, target_precision=aim)
    probabilities, targets = drawn(20_000)
    confidence = calibrated(probabilities, calibration).max(axis=1)
    assert np.mean(targets[confidence >= SURE] == 0) == pytest.approx(max(aim, 0.95), abs=0.008)
    order = np.argsort(probabilities.max(axis=1))
    assert (np.diff(confidence[order]) >= 0).all()  # who was surer still is


class Circle:
    """A number of degrees, and whatever is none in the middle. Digits are spelt alike, so spelling says nothing."""

    identity, dim = "circle", 2

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        angles = np.array([np.radians(int(text)) if text.isdigit() else np.nan for text in texts])
        return np.nan_to_num(np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)

    embed_passages = embed_queries


def test_examples_near_by_tell_apart_what_no_straight_line_does() -> None:
    quarters: dict[str, list[str]] = {"even": [], "odd": []}
    for number in range(100, 460, 3):
        quarters["even" if number // 90 % 2 == 0 else "odd"].append(str(number))
    held = train_intent_head(Circle(), examples_of(quarters)).held_out
    assert np.mean([p.label == truth for p, truth in zip(held.predictions, held.truths, strict=True)]) > 0.9


def test_the_nearest_example_has_most_of_the_votes() -> None:
    shares = np.exp(votes(np.array([[0.9, 0.8, 0.0]], dtype=np.float32), np.eye(3, 4, dtype=np.float32)))
    assert shares[0] == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2)), 0, 0], abs=2e-4)


def test_too_few_answers_choose_no_threshold(training: Training) -> None:
    assert training.threshold is None
    assert {each.threshold for each in ask(training.head, "refund my lamp")} == {None}


def test_two_intents_are_enough() -> None:
    head = train({label: EXAMPLES[label] for label in ("refund", "password")}).head
    assert ask(head, "reset password")[0].label == "password"


def test_same_seed_gives_same_head(head: LinearIntentHead) -> None:
    assert ask(train(EXAMPLES).head, "refund", "where is it") == ask(head, "refund", "where is it")


def test_two_examples_are_trained_with_a_warning() -> None:
    training = train({**EXAMPLES, "hours": ["when do you open", "opening hours today"]})
    assert any("'hours' has only 2" in warning for warning in training.warnings)
    assert ask(training.head, "opening hours today")[0].label == "hours"


def test_a_text_with_two_labels_is_left_out_with_a_warning() -> None:
    training = train({**EXAMPLES, "hours": [*(f"open on {day}day" for day in "abcdef"), EXAMPLES["refund"][0].upper()]})
    assert any("is an example of 'refund' and 'hours'" in warning for warning in training.warnings)
    assert len(training.held_out.texts) == 23


def test_nearly_the_same_text_under_two_labels_is_told() -> None:
    training = train(
        {**EXAMPLES, "hours": [*(f"open on {day}day" for day in "abcdef"), "refund the order, give money back"]}
    )
    assert any("nearly the same" in warning for warning in training.warnings)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ({"refund": EXAMPLES["refund"]}, "at least two intents"),
        ({"refund": EXAMPLES["refund"], OUT_OF_SCOPE: EXAMPLES["password"]}, "at least two intents"),
        ({**EXAMPLES, "hours": ["open?"] * 9}, "'hours' has 1 different examples"),
        ({**EXAMPLES, "hours": EXAMPLES["refund"]}, "has 0 different examples"),
    ],
    ids=["one intent", "one intent besides out_of_scope", "one example", "only contradictions"],
)
def test_useless_examples_are_refused(examples: dict[str, list[str]], message: str) -> None:
    with pytest.raises(IntentDataError, match=message):
        train(examples)


# --- versions ---


def publish(root: Path, training: Training) -> str:
    return publish_version(root, training.head, make_card(training, "intents.yaml", 0.99, "2026-11-25 20:00 UTC"))


def test_a_published_head_predicts_the_same(training: Training, tmp_path: Path) -> None:
    assert current_version(tmp_path) is None
    assert known_labels(tmp_path) is None
    version = publish(tmp_path, training)
    assert known_labels(tmp_path) == {*EXAMPLES, OUT_OF_SCOPE}
    loaded = load_version(tmp_path, current_version(tmp_path), EMBEDDER.identity)
    for one, other in zip(ask(loaded, "refund", "sunny"), ask(training.head, "refund", "sunny"), strict=True):
        assert (one.label, one.confidence) == (other.label, pytest.approx(other.confidence, abs=1e-6))
    assert read_card(tmp_path, version)["intents"] == {"password": 6, "refund": 6, "tracking": 6}
    assert "macro-F1" in (tmp_path / version / "card.md").read_text("utf-8")


def test_every_publication_is_a_new_version(training: Training, tmp_path: Path) -> None:
    assert [publish(tmp_path, training) for _ in range(12)][-1] == "v000012" == current_version(tmp_path)
    assert len(list(tmp_path.glob("v*"))) == 10
    assert {each.name[0] for each in tmp_path.iterdir()} == {"v", "C"}


def test_another_embedders_head_is_refused(training: Training, tmp_path: Path) -> None:
    with pytest.raises(IntentDataError, match=r"trained on 'hash-512'.*'hash-64'"):
        load_version(tmp_path, publish(tmp_path, training), "hash-64")


def test_nothing_published_says_how_to_train(tmp_path: Path) -> None:
    with pytest.raises(IntentDataError, match="raydesk intents train"):
        load_version(tmp_path, None, EMBEDDER.identity)


@pytest.mark.parametrize("damage", [b"", b"not a zip file", None])
def test_damaged_arrays_are_named(training: Training, tmp_path: Path, damage: bytes | None) -> None:
    version = publish(tmp_path, training)
    file = tmp_path / version / "head.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"?" if damage is None else damage)
    with pytest.raises(IntentDataError, match=r"head\.npz is damaged"):
        load_version(tmp_path, version, EMBEDDER.identity)


@pytest.mark.parametrize(
    ("change", "message"), [({"format": 99}, "not of format"), ({"labels": ["a", OUT_OF_SCOPE]}, "does not fit")]
)
def test_another_description_is_refused(
    training: Training, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    version = publish(tmp_path, training)
    file = tmp_path / version / "head.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(IntentDataError, match=message):
        load_version(tmp_path, version, EMBEDDER.identity)


def test_a_damaged_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("../../etc")
    with pytest.raises(IntentDataError, match="no version"):
        current_version(tmp_path)
