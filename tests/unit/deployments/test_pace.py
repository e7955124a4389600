import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from deployments.answering.errors import EngineDiedError
from deployments.pace import Pace
from models.fakes import ScriptedLLM
from models.protocols import (
    ChatMessage,
    Generated,
    GenerationEnd,
    GenerationRequest,
    TextDelta,
    ToolCallDelta,
)

pytestmark = pytest.mark.unit
SAID = "one two three four five six seven eight nine ten"
REQUEST = GenerationRequest((ChatMessage("user", "Count."),), 100)
MANY = 1e6  # pieces a second


async def batches_of(llm: ScriptedLLM) -> AsyncGenerator[list[Generated], None]:
    yield []  # it was taken
    async with aclosing(llm.generate(REQUEST)) as items:  # type: ignore[type-var]
        async for item in items:
            yield [item]


async def said_by(pace: Pace, llm: ScriptedLLM) -> list[Generated]:
    return [item async for batch in pace.kept(batches_of(llm)) for item in batch]


async def test_the_first_piece_is_alone_and_the_others_come_together() -> None:
    first, *others, end = await said_by(Pace(0.2, MANY), ScriptedLLM(SAID, tokens_per_s=1000))
    assert first == TextDelta("one ")
    assert len(others) < 5
    texts = [item for item in (first, *others) if isinstance(item, TextDelta)]
    assert "".join(text.text for text in texts) == SAID
    assert sum(text.tokens for text in texts) == 10
    assert end == GenerationEnd("stop", 1, 10)


async def test_that_it_was_taken_comes_before_the_first_piece() -> None:
    async with aclosing(Pace(60, MANY).kept(batches_of(ScriptedLLM(SAID, ttft_s=0.05, tokens_per_s=10)))) as batches:
        assert await anext(batches) == []
        async with asyncio.timeout(5):
            assert await anext(batches) == [TextDelta("one ")]


async def test_of_many_streams_each_has_fewer_pieces() -> None:
    pace, llm = Pace(0, 100), ScriptedLLM(SAID, tokens_per_s=100)  # ten tokens, 10 ms apart
    alone = await said_by(pace, llm)
    among_many = await asyncio.gather(*(said_by(pace, llm) for _ in range(20)))  # a piece each 200 ms
    assert max(map(len, among_many)) <= 4 < len(alone)


async def test_who_has_ended_takes_no_share() -> None:
    pace = Pace(0.01, 10)
    await said_by(pace, ScriptedLLM(SAID))
    assert pace.interval_s == 0.01


async def test_an_end_does_not_wait_for_its_time() -> None:
    async with asyncio.timeout(5):
        items = await said_by(Pace(60, MANY), ScriptedLLM(SAID))
    assert isinstance(items[-1], GenerationEnd)


async def test_a_failure_comes_behind_what_was_said_before_it() -> None:
    async def failing() -> AsyncGenerator[list[Generated], None]:
        yield [TextDelta("a")]
        yield [TextDelta("b")]
        raise EngineDiedError()

    said: list[Generated] = []
    with pytest.raises(EngineDiedError):  # noqa: PT012 - it fails on its way
        async for batch in Pace(60, MANY).kept(failing()):
            said += batch
    assert said == [TextDelta("ab", 2)]


async def test_leaving_early_stops_the_model() -> None:
    llm = ScriptedLLM(SAID, tokens_per_s=1)
    pace = Pace(0.01, MANY)
    batches = pace.kept(batches_of(llm))
    assert [await anext(batches), await anext(batches)] == [[], [TextDelta("one ")]]
    await batches.aclose()
    assert (llm.in_flight, len(llm.cancelled)) == (0, 1)


async def test_only_neighbours_are_joined() -> None:
    async def called() -> AsyncGenerator[list[Generated], None]:
        yield [TextDelta("a"), TextDelta("b"), call, call]
        yield [TextDelta("c"), end]

    call, end = ToolCallDelta(0, "id", "f"), GenerationEnd("stop", 1, 3)
    said = [item async for batch in Pace(60, MANY).kept(called()) for item in batch]
    assert said == [TextDelta("ab", 2), call, call, TextDelta("c"), end]
