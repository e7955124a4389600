"""What every intent classifier must do. A new one subclasses `ClassifierSuite` and brings the fixture `classifier`.

It knows at least the intents of `QUESTIONS`, each of which it is sure about.
"""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from deployments.answering.protocols import IntentClassifier
from deployments.answering.types import Understanding

QUESTIONS = {
    "Where is my order?": "track_order",
    "我的快递到哪了": "track_order",
    "Please cancel my order": "cancel_order",
    "I want to talk to a human": "talk_to_human",
}


def assert_same(one: Understanding, other: Understanding) -> None:
    """A pass over many texts rounds otherwise than a pass over one."""
    assert one.embedding @ other.embedding > 0.999
    assert (one.prediction.label, one.prediction.runner_up) == (other.prediction.label, other.prediction.runner_up)
    assert one.prediction.confidence == pytest.approx(other.prediction.confidence, abs=1e-3)
    assert one.prediction.margin == pytest.approx(other.prediction.margin, abs=1e-3)


class ClassifierSuite:
    @pytest.mark.parametrize("question", QUESTIONS)
    async def test_obvious_questions_get_their_intent(self, classifier: IntentClassifier, question: str) -> None:
        prediction = (await classifier.understand(question)).prediction
        assert prediction.label == QUESTIONS[question]
        assert prediction.runner_up != prediction.label
        assert 0 <= prediction.margin <= prediction.confidence <= 1

    @pytest.mark.parametrize("text", ["", "refund " * 2000, "naïve 🙂 \x00 emoji"])
    async def test_any_text_has_a_vector_and_an_intent(self, classifier: IntentClassifier, text: str) -> None:
        understanding = await classifier.understand(text)
        assert understanding.embedding.ndim == 1
        assert understanding.embedding.dtype == np.float32
        assert np.isfinite(understanding.embedding).all()
        assert 0 <= understanding.prediction.confidence <= 1

    async def test_equal_questions_are_nearest(self, classifier: IntentClassifier) -> None:
        first, again, other = [
            await classifier.understand(text) for text in ("Where is my order?", "Where is my order?", "我要退款")
        ]
        assert np.linalg.norm(first.embedding) == pytest.approx(1.0, abs=1e-5)
        assert_same(first, again)
        assert first.embedding @ other.embedding < 0.99

    async def test_questions_that_come_at_once_are_each_answered_as_if_alone(
        self, classifier: IntentClassifier
    ) -> None:
        questions = [*QUESTIONS] * 10  # more than one pass takes
        alone = {question: await classifier.understand(question) for question in QUESTIONS}
        together = await asyncio.gather(*(classifier.understand(question) for question in questions))
        for question, understanding in zip(questions, together, strict=True):
            assert_same(understanding, alone[question])

    async def test_a_customer_who_leaves_takes_nobody_along(self, classifier: IntentClassifier) -> None:
        leaving, *staying = [asyncio.create_task(classifier.understand(question)) for question in QUESTIONS]
        await asyncio.sleep(0)  # it has asked
        leaving.cancel()
        understood = await asyncio.gather(*staying)
        assert [one.prediction.label for one in understood] == list(QUESTIONS.values())[1:]
