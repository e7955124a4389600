"""A newly trained head takes the place of the old one in the running room; one that cannot be used does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from deployments.intent_classifier import IntentClassifier
from deployments.settings import EncoderSettings, IntentSettings
from models.fakes import HashEmbedder
from models.intent_card import make_card
from models.intent_examples import examples_of
from models.intent_training import train_intent_head
from models.intent_versions import publish_version

pytestmark = pytest.mark.conformance

EMBEDDER = HashEmbedder(256)
NOUNS = ["order", "parcel", "invoice", "jacket", "phone", "lamp"]
EXAMPLES = {
    "refund": [f"refund the {noun} give money back" for noun in NOUNS],
    "tracking": [f"where is the {noun} track delivery" for noun in NOUNS],
}
HOURS = {"hours": [f"when does the {noun} shop open today" for noun in NOUNS]}


def publish(root: Path, examples: dict[str, list[str]], embedder: HashEmbedder = EMBEDDER) -> Path:
    training = train_intent_head(embedder, examples_of(examples))
    return root / publish_version(root, training.head, make_card(training, "a.yaml", 0.99, "2026-11-25 20:00 UTC"))


@pytest.fixture
async def classifier(tmp_path: Path) -> AsyncIterator[IntentClassifier]:
    publish(tmp_path, EXAMPLES)
    room = IntentClassifier(
        EncoderSettings(), IntentSettings(head=str(tmp_path), poll_interval_s=0.02), embedder=EMBEDDER
    )
    yield room
    await room.stop()


async def label_of(classifier: IntentClassifier, question: str) -> str:
    return (await classifier.understand(question, "acme")).prediction.label  # remembered, until a head is published


async def test_a_new_head_is_taken_over_while_questions_are_answered(
    classifier: IntentClassifier, tmp_path: Path
) -> None:
    question = "when does the coat shop open today"
    assert await label_of(classifier, question) != "hours"
    publish(tmp_path, EXAMPLES | HOURS)
    for _ in range(1000):
        if await label_of(classifier, question) == "hours":
            return
        await asyncio.sleep(0.02)
    pytest.fail("the new head was not taken over within 20 s")


@pytest.mark.parametrize("fault", ["damaged", "of another encoder", "missing"])
async def test_a_head_that_cannot_be_used_is_refused_by_name(
    classifier: IntentClassifier, tmp_path: Path, fault: str
) -> None:
    other = HashEmbedder(64) if fault == "of another encoder" else EMBEDDER
    version = publish(tmp_path / "elsewhere", EXAMPLES | HOURS, other)
    if fault == "damaged":
        description = json.loads((version / "head.json").read_text())
        (version / "head.json").write_text(json.dumps(description | {"sha256": "0" * 64}))
    if fault != "missing":
        version.rename(tmp_path / "v000002")
    with structlog.testing.capture_logs() as logs:
        (tmp_path / "pointer").write_text("v000002\n")
        (tmp_path / "pointer").rename(tmp_path / "CURRENT")
        for _ in range(1000):
            if refused := [entry for entry in logs if entry["event"] == "intent_head_refused"]:
                break
            await asyncio.sleep(0.02)
    (entry,) = refused
    assert (entry["kept"], entry["refused"]) == ("v000001", "v000002")
    assert await label_of(classifier, "refund the coat give money back") == "refund"
