"""A hundred same questions at once: one answer is made, and whoever leaves or fails, the others get theirs."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from deployments.answering.errors import RoomUnavailableError
from deployments.answering.types import AnswerEvent, ChatRequest, Delta, Done, Evidence, Meta, TurnRecord
from deployments.fakes import InMemoryCache
from models.fakes import ScriptedLLM
from tests.unit.deployments.conftest import Shop

pytestmark = pytest.mark.unit
QUESTION = "what does standard delivery to Cologne cost"


async def slow_shop(tmp_path: Path, **changes: Any) -> Shop:
    """Slow enough for all to have asked before it is done, on a busy machine, too."""
    llm = ScriptedLLM("Standard delivery costs 4.95 euros.", ttft_s=1.0, tokens_per_s=100)
    return await Shop(tmp_path, llm=llm, limits={"first_token_timeout_s": 30}, **changes).ready()


def request(shop: Shop, number: int) -> ChatRequest:
    return shop.request(QUESTION, turn_id=f"t{number}", conversation_id=f"c{number}")


async def walk(shop: Shop, number: int, leave_after: int | None = None) -> tuple[list[AnswerEvent], TurnRecord]:
    asked = request(shop, number)
    record = TurnRecord(f"t{number}", "r", f"c{number}", "demo", "k", "http", "help", 0.0, QUESTION)
    events: list[AnswerEvent] = []
    async with aclosing(shop.pipeline.answer(asked, record)) as answer:
        async for event in answer:
            events.append(event)
            if leave_after is not None and len(events) > leave_after:
                break
    return events, record


def generations(shop: Shop) -> int:
    """Without the probes by which a tier is found to be up."""
    return sum(not generation.request_id.startswith("probe") for generation in shop.llm.requests)


def text(events: list[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_a_hundred_at_once_are_one_generation_and_all_stream_it(tmp_path: Path) -> None:
    shop = await slow_shop(tmp_path)
    answers = await asyncio.gather(*(walk(shop, number) for number in range(100)))
    assert generations(shop) == 1
    for number, (events, record) in enumerate(answers):
        assert isinstance(events[0], Meta)
        assert (events[0].turn_id, events[0].conversation_id) == (f"t{number}", f"c{number}")
        assert isinstance(events[-1], Done)
        assert text(events).strip() == record.answer.strip() == "Standard delivery costs 4.95 euros."
        assert record.path == "small"
        assert record.grounded
        assert [citation.chunk_id for citation in record.citations] == ["delivery"]
        assert len([event for event in events if isinstance(event, Delta)]) > 1
    assert sum(record.output_tokens > 0 for _, record in answers) == 1  # one pays for it
    again, _ = await walk(shop, 100)
    assert isinstance(again[0], Meta)
    assert again[0].path == "exact_cache"


async def test_who_leaves_takes_the_answer_from_nobody(tmp_path: Path) -> None:
    shop = await slow_shop(tmp_path)
    leavers = [walk(shop, number, leave_after=1) for number in range(5)]  # the one who began is among them
    stayers = [walk(shop, number) for number in range(5, 10)]
    answers = await asyncio.gather(*leavers, *stayers)
    assert [text(events).strip() for events, _ in answers[5:]] == ["Standard delivery costs 4.95 euros."] * 5
    assert generations(shop) == 1
    assert shop.llm.cancelled == []


async def test_when_all_have_left_the_model_stops(tmp_path: Path) -> None:
    shop = await slow_shop(tmp_path)
    await asyncio.gather(*(walk(shop, number, leave_after=1) for number in range(3)))
    assert len(shop.llm.cancelled) == 1


async def test_where_the_one_who_began_fails_another_begins(tmp_path: Path) -> None:
    shop = await slow_shop(tmp_path)
    search, calls = shop.retriever.search, 0

    async def fails_once(*asked: Any) -> Evidence:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.02)
        if calls == 1:
            raise RoomUnavailableError()
        return await search(*asked)

    shop.retriever.search = fails_once
    answers = await asyncio.gather(*(walk(shop, number) for number in range(10)))
    assert [record.path for _, record in answers].count("handoff") == 1
    said = [text(events).strip() for events, record in answers if record.path != "handoff"]
    assert said == ["Standard delivery costs 4.95 euros."] * 9
    assert calls == 2


async def test_another_replica_waits_for_the_answer_that_is_being_made(tmp_path: Path) -> None:
    cache = InMemoryCache(similarity_threshold=0.7)
    one, other = await slow_shop(tmp_path, cache=cache), await slow_shop(tmp_path, cache=cache)
    answers = await asyncio.gather(walk(one, 1), walk(other, 2))
    assert generations(one) + generations(other) == 1
    assert {record.path for _, record in answers} == {"small", "exact_cache"}


async def test_one_that_waits_too_long_makes_the_answer_itself(tmp_path: Path) -> None:
    cache = InMemoryCache(similarity_threshold=0.7)
    shop = await slow_shop(tmp_path, cache=cache)
    shop.pipeline.settings = shop.settings.model_copy(
        update={"cache": shop.settings.cache.model_copy(update={"lease_wait_s": 0.1})}
    )
    turn = shop.pipeline.turn(request(shop, 1), TurnRecord("t", "r", "c", "demo", "k", "http", "help", 0.0, ""), "v1")
    assert await cache.lease(turn._state.scope, turn._state.query.normalized, "a replica that died")
    _, record = await walk(shop, 2)
    assert record.path == "small"
