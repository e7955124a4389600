import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from deployments.answering.coalescing import Item, coalesced
from deployments.answering.errors import EngineDiedError
from models.fakes import ScriptedLLM
from models.protocols import ChatMessage, GenerationEnd, GenerationRequest, TextDelta

pytestmark = pytest.mark.unit
SAID = "one two three four five six seven eight nine ten"
REQUEST = GenerationRequest((ChatMessage("user", "Count."),), 100)


async def generated(llm: ScriptedLLM) -> AsyncGenerator[Item, None]:
    async with aclosing(llm.generate(REQUEST)) as items:  # type: ignore[type-var]
        async for item in items:
            yield item


async def test_the_first_piece_is_alone_and_the_others_come_together() -> None:
    llm = ScriptedLLM(SAID, tokens_per_s=1000)
    first, *others, end = [item async for item in coalesced(generated(llm), 0.2)]
    assert isinstance(first, TextDelta)
    assert first.text == "one "
    assert len(others) < 5
    assert "".join(item.text for item in (first, *others) if isinstance(item, TextDelta)) == SAID
    assert end == GenerationEnd("stop", 1, 10)


async def test_an_end_does_not_wait_for_its_time() -> None:
    async with asyncio.timeout(5):
        items = [item async for item in coalesced(generated(ScriptedLLM(SAID)), 60)]
    assert isinstance(items[-1], GenerationEnd)


async def test_without_an_interval_each_piece_comes_by_itself() -> None:
    assert len([item async for item in coalesced(generated(ScriptedLLM(SAID)), 0)]) == 11


async def test_a_failure_comes_behind_what_was_said_before_it() -> None:
    async def failing() -> AsyncGenerator[Item, None]:
        yield TextDelta("a")
        yield TextDelta("b")
        raise EngineDiedError()

    said = ""
    with pytest.raises(EngineDiedError):  # noqa: PT012 - it fails on its way
        async for item in coalesced(failing(), 60):
            said += item.text if isinstance(item, TextDelta) else ""
    assert said == "ab"


async def test_leaving_early_stops_the_model() -> None:
    llm = ScriptedLLM(SAID, tokens_per_s=1)
    items = coalesced(generated(llm), 0.01)
    await anext(items)
    await items.aclose()
    assert (llm.in_flight, len(llm.cancelled)) == (0, 1)
