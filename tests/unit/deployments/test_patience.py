"""One limit for many waits. None of these tests waits for longer than some milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
import uvloop

from deployments.answering.patience import Patience

SHORT_S, LONG_S = 0.01, 60.0


async def items_with_patience(pauses_s: list[float], limit_s: float) -> AsyncGenerator[int, None]:
    async with Patience() as patience:
        for number, pause_s in enumerate(pauses_s):
            yield await patience.wait(asyncio.sleep(pause_s, number), limit_s)


async def read(items: AsyncIterator[int]) -> list[int]:
    return [item async for item in items]


async def test_waits_that_are_short_enough_are_as_many_as_they_like() -> None:
    pauses_s = [0.005] * 300  # together longer than the limit, which one alone reaches on no machine
    assert await read(items_with_patience(pauses_s, 1.0)) == list(range(300))


async def test_a_wait_that_is_too_long_ends_what_is_waited_for() -> None:
    items = items_with_patience([0.0, 0.0, LONG_S], SHORT_S)
    assert [await anext(items), await anext(items)] == [0, 1]
    with pytest.raises(TimeoutError):
        await anext(items)


def test_without_any_time_left_what_is_there_already_is_had_on_the_loop_that_serves() -> None:
    async def wait_twice() -> list[int]:
        async with Patience() as patience:
            return [await patience.wait(anext(as_iterator(number)), 0.0) for number in range(2)]

    async def as_iterator(number: int) -> AsyncGenerator[int, None]:
        yield number

    assert uvloop.run(wait_twice()) == [0, 1]


async def test_each_task_that_waits_is_ended_itself() -> None:
    items = items_with_patience([0.0, LONG_S], SHORT_S)
    assert await anext(items) == 0
    reading = asyncio.create_task(read(items))
    with pytest.raises(TimeoutError):
        await reading


async def test_a_shorter_limit_counts_from_when_it_begins() -> None:
    async with Patience() as patience:
        await patience.wait(asyncio.sleep(0), LONG_S)
        with pytest.raises(TimeoutError):
            await patience.wait(asyncio.sleep(LONG_S), SHORT_S)


async def test_between_two_waits_there_is_no_limit() -> None:
    async with Patience() as patience:
        await patience.wait(asyncio.sleep(0), SHORT_S)
        await asyncio.sleep(5 * SHORT_S)
        await patience.wait(asyncio.sleep(0), SHORT_S)


async def test_what_a_call_makes_of_its_end_is_its_result() -> None:
    async def answer() -> str:
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            return "cut"
        return "whole"

    async with Patience() as patience:
        assert await patience.wait(answer(), SHORT_S) == "cut"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_who_is_cancelled_from_outside_is_cancelled() -> None:
    task = asyncio.create_task(read(items_with_patience([LONG_S], LONG_S)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
