"""Every intent head: the shipped fake and the linear head, on the fake embedder and on the bundled encoder."""

from __future__ import annotations

import pytest

from models.fakes import HashEmbedder, KeywordIntentHead
from models.intent_examples import examples_of
from models.intent_training import train_intent_head
from models.protocols import Embedder, IntentHead, IntentPrediction

pytestmark = pytest.mark.conformance

EXAMPLES = {
    "refund": ["I want a refund", "refund my order", "please refund me", "我要退款", "申请退款", "how to get a refund"],
    "tracking": ["track my parcel", "where is my parcel", "parcel not here", "查物流", "物流到哪了", "parcel tracking"],
    "password": ["reset my password", "password lost", "forgot password", "忘记密码", "重置密码", "change password"],
}


@pytest.fixture(scope="module", params=["hash", "bert"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "hash":
        return HashEmbedder(256)
    bert: Embedder = request.getfixturevalue("bert")
    return bert


@pytest.fixture(scope="module", params=["keyword", "linear"])
def head(request: pytest.FixtureRequest, embedder: Embedder) -> IntentHead:
    if request.param == "keyword":
        return KeywordIntentHead(embedder, EXAMPLES)
    return train_intent_head(embedder, examples_of(EXAMPLES)).head


def ask(head: IntentHead, embedder: Embedder, *questions: str) -> list[IntentPrediction]:
    return head.predict(questions, embedder.embed_queries(questions))


def test_labels_are_sorted_and_complete(head: IntentHead) -> None:
    assert list(head.labels) == sorted(head.labels)
    assert set(EXAMPLES) <= set(head.labels)


def test_obvious_questions_get_their_label(head: IntentHead, embedder: Embedder) -> None:
    questions = ["a refund please", "my parcel tracking", "I forgot my password", "申请退款", "忘记密码怎么办"]
    labels = [prediction.label for prediction in ask(head, embedder, *questions)]
    assert labels == ["refund", "tracking", "password", "refund", "password"]


def test_predictions_are_probabilities(head: IntentHead, embedder: Embedder) -> None:
    for prediction in ask(head, embedder, "refund", "parcel password", "the weather", ""):
        assert prediction.label in head.labels
        assert prediction.runner_up in head.labels
        assert prediction.runner_up != prediction.label
        assert 1 / len(head.labels) <= prediction.confidence <= 1.0
        assert 0.0 <= prediction.margin <= prediction.confidence


def test_no_questions_give_no_predictions(head: IntentHead, embedder: Embedder) -> None:
    assert ask(head, embedder) == []


def test_a_question_is_judged_alone(head: IntentHead, embedder: Embedder) -> None:
    questions = ["refund", "parcel", "password"]
    for question, together in zip(questions, ask(head, embedder, *questions), strict=True):
        (alone,) = ask(head, embedder, question)
        assert alone.label == together.label
        assert alone.confidence == pytest.approx(together.confidence, abs=1e-3)


def test_typing_mistakes_change_nothing(head: IntentHead, embedder: Embedder) -> None:
    labels = [
        each.label
        for each in ask(head, embedder, "i want a refnud please", "pasword lost reset it", "ＴＲＡＣＫ my parcel")
    ]
    assert labels == ["refund", "password", "tracking"]
