"""A turn whose every dependency hangs still ends in its time, with something to say."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.answering.errors import RoomUnavailableError
from deployments.answering.phrases import QUOTED, UNREACHABLE
from deployments.answering.types import Done, Evidence, Understanding
from deployments.fakes import InMemoryCache, InMemoryRetriever, InMemorySessions
from models.fakes import HashEmbedder, ScriptedLLM
from tests.unit.deployments.conftest import CHUNKS, Shop
from tests.unit.deployments.test_pipeline import GENERATED, path, text

pytestmark = pytest.mark.unit
TURN_S = 1.0


async def for_ever(*_: Any, **__: Any) -> Any:
    await asyncio.sleep(3600)


class HangingClassifier:
    async def understand(self, text: str, tenant: str = "") -> Understanding:
        return await for_ever()  # type: ignore[no-any-return]


def hanging(room: Any, *methods: str) -> Any:
    for method in methods:
        setattr(room, method, for_ever)
    return room


def retriever(*methods: str) -> Any:
    return hanging(InMemoryRetriever(HashEmbedder(dim=512), CHUNKS), *methods)


def cache(*methods: str) -> Any:
    return hanging(InMemoryCache(similarity_threshold=0.7), *methods)


EVERY_ROOM = {
    "classifier": HangingClassifier(),
    "retriever": lambda: retriever("version", "search", "still_stands"),
    "cache": lambda: cache("lookup_exact", "lookup_semantic", "lease", "put"),
    "sessions": lambda: hanging(InMemorySessions(), "enter", "load", "store", "end"),
}


async def timed(shop: Shop, question: str = GENERATED, timeout_s: float = TURN_S) -> tuple[list[Any], Any, float]:
    begun = time.monotonic()
    events, record = await shop.ask(question, timeout_s=timeout_s)
    return events, record, time.monotonic() - begun


async def test_when_everything_hangs_the_customer_is_told_in_time(tmp_path: Path) -> None:
    rooms = {name: room() if callable(room) else room for name, room in EVERY_ROOM.items()}
    shop = Shop(tmp_path, **rooms)
    events, record, took_s = await timed(shop)
    assert path(events) == "handoff"
    assert text(events) == UNREACHABLE["en"]
    assert events[-1].buttons
    assert {"cache:down", "sessions:down", "intent_classifier:down"} <= set(record.degraded)
    assert took_s < TURN_S + 0.5


@pytest.mark.parametrize("name", sorted(EVERY_ROOM))
async def test_one_room_that_hangs_costs_what_it_gives_and_no_more(tmp_path: Path, name: str) -> None:
    room = EVERY_ROOM[name]
    shop = await Shop(tmp_path, **{name: room() if callable(room) else room}).ready()
    events, record, took_s = await timed(shop, timeout_s=1.0)
    assert isinstance(events[-1], Done)
    assert text(events)
    assert record.degraded
    assert path(events) == ("handoff" if name == "retriever" else "small")
    assert took_s < 1.5


async def test_a_model_that_is_silent_is_replaced_by_the_passage(tmp_path: Path) -> None:
    shop = await Shop(tmp_path, limits={"first_token_timeout_s": 30}).ready()
    shop.llm._ttft_s = 3600
    events, _, took_s = await timed(shop)
    assert path(events) == "passage"
    assert text(events).startswith(QUOTED["en"])
    assert took_s < TURN_S + 0.5


async def test_an_answer_that_is_too_long_for_its_time_is_cut_and_says_so(tmp_path: Path) -> None:
    shop = await Shop(tmp_path, llm=ScriptedLLM("Standard delivery costs 4.95 euros. " * 3)).ready()
    shop.llm._gap_s = 0.1
    events, record, took_s = await timed(shop)
    assert path(events) == "small"
    assert events[-1].finish_reason == "length"
    assert "deadline:cut" in record.degraded
    assert text(events).startswith("Standard delivery")
    assert took_s < TURN_S + 0.5


async def test_a_stored_answer_of_unknown_age_is_better_than_none(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    await shop.ask("How long does a refund take?")
    shop.retriever.publish("v2", CHUNKS)

    async def fails(*_: Any) -> Evidence:
        raise RoomUnavailableError()

    shop.retriever.search = shop.retriever.still_stands = fails
    events, record = await shop.ask("How long does a refund take?")
    assert text(events) == "Five working days."
    assert "cache:stale" in record.degraded


async def test_the_other_tier_writes_where_the_first_is_silent(tmp_path: Path) -> None:
    shop = await Shop(tmp_path, limits={"first_token_timeout_s": 0.2}).ready()
    large = await Shop(tmp_path).ready()
    large.tier.settings = large.tier.settings.model_copy(update={"name": "large"})
    shop.pipeline.models.tiers["large"] = large.tier
    shop.llm._ttft_s = 3600
    events, record = await shop.ask(GENERATED)
    assert path(events) == "large"
    assert record.degraded == ["small:deadline_exceeded"]


async def test_another_tier_goes_on_where_the_first_one_is_gone(tmp_path: Path) -> None:
    shop = await Shop(tmp_path).ready()
    large = await Shop(tmp_path).ready()
    whole, _ = await large.ask(GENERATED)
    large.tier.settings = large.tier.settings.model_copy(update={"name": "large"})
    shop.pipeline.models.tiers["large"] = large.tier
    shop.llm._fail_after = 2
    shop.tier._breaker._settings = shop.tier.settings.breaker.model_copy(update={"failures_in_a_row": 1})
    events, record = await shop.ask(GENERATED)
    assert text(events) == text(whole)
    assert path(events) == "small"
    assert record.degraded == ["small:continued"]
    assert large.llm.requests[-1].continuation == "Standard delivery "


def test_the_caller_may_wish_for_less_time_and_not_for_more(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    request = shop.request(GENERATED)
    assert shop.pipeline.budget(replace(request, timeout_s=2.0)).total_s == 2.0
    assert shop.pipeline.budget(replace(request, timeout_s=900.0)).total_s == 60.0
    assert shop.pipeline.budget(request).total_s == 60.0
