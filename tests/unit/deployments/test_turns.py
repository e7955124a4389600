import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from deployments.answering.errors import OverloadedError, UnknownCollectionError
from deployments.answering.protocols import AppStatus, ReadyEvents
from deployments.answering.session import SessionKey
from deployments.answering.types import Cited, Delta, Done, Failed, Meta, Understanding
from deployments.fakes import InMemorySessions, InMemoryTurnLog
from deployments.turns.recorder import Recorder
from deployments.turns.runner import TurnRunner
from models.fakes import ScriptedLLM
from models.protocols import Generated, GenerationEnd, GenerationRequest, TextDelta
from tests.unit.deployments.conftest import Shop

pytestmark = pytest.mark.unit
GENERATED = "what does standard delivery to Cologne cost"


def runner(shop: Shop, recorder: Recorder, max_turns: int = 8) -> TurnRunner:
    return TurnRunner(
        shop.pipeline,
        recorder,
        max_turns=max_turns,
        turn_timeout_s=5,
        status=lambda: AppStatus({}, ()),
    )


def recorder(shop: Shop, turn_log: Any = None, **changes: Any) -> Recorder:
    settings = shop.settings.turn_log.model_copy(update={"flush_interval_s": 0.01} | changes)
    made = Recorder(turn_log or shop.turn_log, settings, shop.settings.deadlines)
    made.start()
    return made


async def test_every_turn_is_one_row_also_the_ones_that_were_cut(tmp_path: Path) -> None:
    shop = await Shop(tmp_path, llm=ScriptedLLM("Standard delivery costs 4.95 euros.", tokens_per_s=2)).ready()
    turn_recorder = recorder(shop)
    turns = runner(shop, turn_recorder, max_turns=200)

    async def ask(number: int, leave: bool) -> None:
        request = shop.request(
            f"{GENERATED} {number}" if leave else "How long does a refund take?", turn_id=f"t{number}"
        )
        async with turns.open(request) as events:
            async for event in events:
                if leave and isinstance(event, Delta):
                    return

    await asyncio.gather(*(ask(number, leave=number % 5 == 0) for number in range(100)))
    await turns.stop()
    await turn_recorder.stop()
    rows = await shop.turn_log.recent("demo", 200)
    assert len(rows) == 100
    assert sum(row["outcome"] == "disconnected" for row in rows) == 20
    assert len(shop.llm.cancelled) == 20


async def test_broken_answer_becomes_a_failed_event_without_inner_words(tmp_path: Path) -> None:
    shop = await Shop(tmp_path).ready()
    shop.llm._fail_after = 1
    turn_recorder = recorder(shop)
    async with runner(shop, turn_recorder).open(shop.request(GENERATED)) as events:
        seen = [event async for event in events]
    assert isinstance(seen[-1], Failed)
    assert seen[-1].code == "engine_died"
    assert seen[-1].retryable
    await turn_recorder.stop()
    assert (await shop.turn_log.recent("demo", 1))[0]["outcome"] == "failed"


async def test_full_house_and_unknown_collection_are_refused_at_the_door(shop: Shop) -> None:
    turn_recorder = recorder(shop)
    with pytest.raises(OverloadedError):
        async with runner(shop, turn_recorder, max_turns=0).open(shop.request("hi")):
            pass
    with pytest.raises(UnknownCollectionError):
        async with runner(shop, turn_recorder).open(shop.request("hi", collection="nope")):
            pass
    await turn_recorder.stop()


async def test_turn_waits_for_a_slow_reader(tmp_path: Path) -> None:
    shop = await Shop(tmp_path, llm=ScriptedLLM("delivery " * 100)).ready()
    turn_recorder = recorder(shop)
    async with runner(shop, turn_recorder).open(shop.request(GENERATED, max_output_tokens=None)) as events:
        await asyncio.sleep(0.05)
        seen = [event async for event in events]
    assert isinstance(seen[-1], Done)
    await turn_recorder.stop()


async def test_turns_wait_while_the_log_is_away_and_the_oldest_go_first(shop: Shop) -> None:
    class Away(InMemoryTurnLog):
        is_away = True

        async def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
            if self.is_away:
                raise ConnectionError("away")
            await super().append(rows)

    away = Away()
    turn_recorder = recorder(shop, away, queue_size=3)
    turns = runner(shop, turn_recorder)
    for number in range(5):
        async with turns.open(shop.request("How long does a refund take?", turn_id=f"t{number}")) as events:
            async for _ in events:
                pass
    away.is_away = False
    await turn_recorder.stop()
    assert {row["turn_id"] for row in await away.recent("demo", 9)} == {"t2", "t3", "t4"}


async def test_stored_answer_is_there_at_once_and_is_a_row_like_any_other(tmp_path: Path) -> None:
    shop = await Shop(tmp_path).ready()
    turn_recorder = recorder(shop)
    turns = runner(shop, turn_recorder)
    seen = []
    for turn_id in ("made", "again"):
        async with turns.open(shop.request("How long does a refund take?", turn_id=turn_id)) as events:
            assert isinstance(events, ReadyEvents) == (turn_id == "again")
            seen.append([event async for event in events])
    await turn_recorder.stop()
    again, made = sorted(await shop.turn_log.recent("demo", 2), key=lambda row: str(row["turn_id"]))
    assert (made["path"], again["path"], again["outcome"]) == ("faq", "exact_cache", "answered")
    assert (again["answer"], again["citation_urls"]) == (made["answer"], made["citation_urls"])
    assert [type(event) for event in seen[0]] == [type(event) for event in seen[1]] == [Meta, Delta, Cited, Done]


async def test_a_conversation_that_goes_on_has_its_stored_answer_at_once_and_remembers_it(tmp_path: Path) -> None:
    sessions = InMemorySessions()
    shop = await Shop(tmp_path, sessions=sessions).ready()
    turn_recorder = recorder(shop)
    turns = runner(shop, turn_recorder)
    for number in range(3):
        async with turns.open(shop.request("How long does a refund take?", turn_id=f"t{number}")) as events:
            assert isinstance(events, ReadyEvents) == (number > 0)
            assert isinstance([event async for event in events][-1], Done)
    await turn_recorder.stop()
    session = await sessions.load(SessionKey("demo", "loopback", "c"))
    assert session is not None
    assert [message.role for message in session.messages] == ["user", "assistant"] * 3


async def test_a_stored_answer_waits_for_the_turn_before_it(tmp_path: Path) -> None:
    sessions = InMemorySessions()
    shop = await Shop(tmp_path, sessions=sessions).ready()
    turn_recorder = recorder(shop)
    turns = runner(shop, turn_recorder)
    await shop.ask("How long does a refund take?", conversation_id="another")
    before = await sessions.begin(SessionKey("demo", "loopback", "c"), 1)
    async with turns.open(shop.request("How long does a refund take?")) as events:
        assert not isinstance(events, ReadyEvents)
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.02)
        assert not first.done()
        await sessions.end(before, None)
        assert (await first).path == "exact_cache"
        assert isinstance([event async for event in events][-1], Done)
    await turn_recorder.stop()


async def leave_during_the_look_up(shop: Shop) -> None:
    looks = asyncio.Event()

    async def never(*_: object) -> None:
        looks.set()
        await asyncio.Event().wait()

    shop.pipeline.cache.lookup_exact = never  # type: ignore[union-attr,method-assign,assignment]
    turn_recorder = recorder(shop)

    async def ask() -> None:
        async with runner(shop, turn_recorder).open(shop.request("How long does a refund take?")):
            pass

    asking = asyncio.create_task(ask())
    await looks.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await turn_recorder.stop()


async def test_who_leaves_during_the_look_up_lets_the_next_turn_of_the_conversation_begin(tmp_path: Path) -> None:
    sessions = InMemorySessions()
    await leave_during_the_look_up(await Shop(tmp_path, sessions=sessions).ready())
    await sessions.begin(SessionKey("demo", "loopback", "c"), 1)


async def test_who_leaves_during_the_look_up_is_recorded_as_gone(tmp_path: Path) -> None:
    shop = await Shop(tmp_path).ready()
    await leave_during_the_look_up(shop)
    assert [row["outcome"] for row in await shop.turn_log.recent("demo", 2)] == ["disconnected"]


async def test_it_is_known_how_many_turns_wait_for_parts_of_ours_and_models_are_none(tmp_path: Path) -> None:
    shop = await Shop(tmp_path, llm=ScriptedLLM("warm", ttft_s=0)).ready()
    understands, writes = asyncio.Event(), asyncio.Event()
    understand = shop.pipeline.classifier.understand

    class Slow:
        async def understand(self, text: str, tenant: str = "") -> Understanding:
            await understands.wait()
            return await understand(text)

    async def generate(request: GenerationRequest) -> AsyncIterator[Generated]:
        await writes.wait()
        yield TextDelta("Standard delivery costs 4.95 euros.")
        yield GenerationEnd("stop", 1, 1)

    shop.pipeline.classifier = Slow()
    shop.llm.generate = generate
    turn_recorder = recorder(shop)
    turns = runner(shop, turn_recorder)

    async def ask(number: int, question: str) -> None:
        async with turns.open(shop.request(question, turn_id=f"t{number}")) as events:
            assert [event async for event in events]

    asked = [GENERATED, GENERATED, f"{GENERATED} by express"]  # two that share an answer, and another one
    asking = [asyncio.create_task(ask(number, question)) for number, question in enumerate(asked)]
    async with asyncio.timeout(5):
        while turns.waiting() != (3, 3):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        understands.set()
        while turns.waiting() != (0, 3):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert turns.running == 3  # they wait for the model
    writes.set()
    await asyncio.gather(*asking)
    await turns.stop()
    await turn_recorder.stop()
