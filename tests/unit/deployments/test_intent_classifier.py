"""Which questions are encoded, and which are known already."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from deployments import intent_classifier
from deployments.intent_classifier import IntentClassifier
from deployments.settings import EncoderSettings, IntentSettings
from models.fakes import HashEmbedder, KeywordIntentHead
from models.protocols import Vectors

EXAMPLES = {"order": ["where is my order"], "human": ["talk to a human"]}


class CountingEmbedder(HashEmbedder):
    def __init__(self) -> None:
        super().__init__(64)
        self.passes: list[list[str]] = []

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        self.passes.append([*texts])
        return super().embed_queries(texts)


@pytest.fixture
def embedder() -> CountingEmbedder:
    return CountingEmbedder()


@pytest.fixture
def room(embedder: CountingEmbedder) -> IntentClassifier:
    head = KeywordIntentHead(HashEmbedder(64), EXAMPLES)
    return IntentClassifier(EncoderSettings(max_batch=2), IntentSettings(), embedder=embedder, head=head)


async def test_a_question_is_encoded_once_for_each_tenant(room: IntentClassifier, embedder: CountingEmbedder) -> None:
    first = await room.understand("where is it?", "acme")
    assert await room.understand("where is it?", "acme") is first
    assert embedder.passes == [["where is it?"]]
    await room.understand("where is it?", "other")
    assert len(embedder.passes) == 2


async def test_many_who_ask_the_same_at_once_share_a_place(room: IntentClassifier, embedder: CountingEmbedder) -> None:
    asked = ["one", "two", "one", "three", "one", "two"]
    understood = await asyncio.gather(*(room.understand(text, "acme") for text in asked))
    assert embedder.passes == [["one", "two"], ["three"]]
    assert understood[0] is understood[2] is understood[4]


async def test_what_came_to_be_known_while_it_waited_is_not_encoded_again(
    room: IntentClassifier, embedder: CountingEmbedder
) -> None:
    first = asyncio.create_task(room.understand("one", "acme"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # its pass is running
    assert await room.understand("one", "acme") is await first
    assert embedder.passes == [["one"]]


async def test_the_oldest_is_forgotten(
    room: IntentClassifier, embedder: CountingEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intent_classifier, "MAX_REMEMBERED", 2)
    for text in ("one", "two", "one", "three", "one", "two"):
        await room.understand(text, "acme")
    assert embedder.passes == [["one"], ["two"], ["three"], ["two"]]


async def test_who_asks_as_nobody_sees_the_encoder_work(room: IntentClassifier, embedder: CountingEmbedder) -> None:
    for _ in range(2):
        await room.understand("are you there?")
    assert embedder.passes == [["are you there?"]] * 2
