"""One small shop, whole but for its models: every room is a shipped fake."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deployments.answering.pipeline import Pipeline
from deployments.answering.protocols import ToolCaller
from deployments.answering.rules_file import load_rules
from deployments.answering.types import AnswerEvent, ChatRequest, Principal, TurnRecord
from deployments.fakes import InMemoryCache, InMemoryRetriever, InMemoryTurnLog
from deployments.intent_classifier import IntentClassifier
from deployments.llm import Tier
from deployments.settings import AppSettings, TierSettings
from ingestion.chunk import Chunk
from models.fakes import HashEmbedder, KeywordIntentHead, ScriptedLLM
from models.protocols import ChatMessage

RULES = """
rules:
  - name: hours
    intent: opening_hours
    reply:
      en: {text: We are open from 8 to 20., buttons: [{label: More, message: "Where are you?"}]}
      zh: {text: 我们每天营业。}
  - name: person
    intent: talk_to_human
    reply: {en: {text: I am calling a colleague.}}
    handoff: {reason: asked for a person}
"""
EXAMPLES = {
    "opening_hours": ["opening hours today", "营业时间 几点"],
    "talk_to_human": ["talk human person agent", "人工 客服"],
    "out_of_scope": ["weather joke football", "天气 笑话"],
}


def qa(chunk_id: str, question: str, answer: str, audience: str = "public", language: str = "en") -> Chunk:
    return Chunk(
        id=chunk_id,
        document_id=f"doc-{chunk_id}",
        position=0,
        kind="qa",
        text=f"{question}\n{answer}",
        title=question,
        language=language,
        audience=audience,
        source="faq.csv",
        url=f"https://help.example/{chunk_id}",
        question=question,
        answer=answer,
    )


def passage(chunk_id: str, text: str, audience: str = "public", language: str = "en") -> Chunk:
    return Chunk(chunk_id, f"doc-{chunk_id}", 0, "passage", text, f"About {chunk_id}", language, audience, "a.md")


CHUNKS = [
    qa("refund", "How long does a refund take?", "Five working days."),
    qa("margin", "What is the staff discount margin?", "Twelve percent.", audience="staff"),
    qa("tuikuan", "退款多久到账", "三个工作日。", language="zh"),
    passage("delivery", "Standard delivery costs 4.95 euros and takes four working days to Cologne."),
    passage("descaling", "Descale the Brew One machine every 200 cups with citric acid."),
]


class Shop:
    """Asks the pipeline, and remembers what it said."""

    def __init__(self, tmp_path: Path, **changes: Any) -> None:
        embedder = HashEmbedder(dim=512)
        limits = {"first_token_timeout_s": 0.3} | changes.get("limits", {})
        tier = TierSettings(name="small", model_id="m", model_source="m", **limits)
        self.settings = AppSettings.model_validate(
            {
                "retriever": {
                    "evidence_threshold": {"en": 0.3, "zh": 0.3},
                    "evidence_coverage": 0.6,
                },
                "cache": {"timeout_s": 10, "lease_wait_s": 10},  # the machine may be busy
                "intents": {"confidence_threshold": 0.9, "margin_threshold": 0.3},
                "tiers": [tier.model_dump()],
            }
        )
        rules = tmp_path / "rules.yaml"
        rules.write_text(changes.get("rules", RULES), encoding="utf-8")
        tools: ToolCaller | None = changes.get("tools")
        self.llm = changes.get("llm", ScriptedLLM("Standard delivery costs 4.95 euros."))
        self.tier = Tier(tier, self.llm)
        self.retriever = changes.get("retriever", InMemoryRetriever(embedder, CHUNKS))
        self.cache = changes.get("cache", InMemoryCache(similarity_threshold=0.7))
        self.turn_log = InMemoryTurnLog()
        self.pipeline = Pipeline(
            self.settings,
            classifier=changes.get(
                "classifier",
                IntentClassifier(
                    self.settings.encoder,
                    self.settings.intents,
                    embedder=embedder,
                    head=KeywordIntentHead(embedder, EXAMPLES | changes.get("examples", {}), sharpness=20),
                ),
            ),
            retriever=self.retriever,
            cache=self.cache,
            tiers=[self.tier],
            rules=load_rules(rules, 0.9, 0.3, tools.names if tools else ()),
            sessions=changes.get("sessions"),
            tools=tools,
            now_s=changes.get("now_s", time.time),
        )

    async def ready(self) -> Shop:
        watch = asyncio.create_task(self.tier.watch())
        async with asyncio.timeout(5):
            while self.tier.state != "ready":  # noqa: ASYNC110 - a state is polled, as the application does
                await asyncio.sleep(0.001)
        watch.cancel()
        return self

    async def ask(self, *texts: str, **changes: Any) -> tuple[list[AnswerEvent], TurnRecord]:
        request = self.request(*texts, **changes)
        record = TurnRecord("t", "r", "c", "demo", "k", "http", request.collection, 0.0, request.text)
        return [event async for event in self.pipeline.answer(request, record)], record

    def request(self, *texts: str, audiences: Sequence[str] = ("public",), **changes: Any) -> ChatRequest:
        roles = ("user", "assistant")
        messages = tuple(ChatMessage(roles[i % 2], text) for i, text in enumerate(texts))
        principal = Principal("demo", frozenset(audiences), "loopback")
        return ChatRequest(
            **(
                {"principal": principal, "messages": messages, "collection": "help"}
                | {"request_id": "r", "turn_id": "t", "conversation_id": "c"}
                | changes
            )
        )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
async def ready_shop(tmp_path: Path) -> Shop:
    return await Shop(tmp_path).ready()
