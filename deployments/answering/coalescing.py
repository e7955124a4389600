"""Pieces of a generation, put together by time: the first alone and at once, the others at most so often. Pure.

Every piece walks through filter, grounding, record, queue and wire, and is one frame and one write of a socket. Nobody
reads faster than some thirty times a second; hundreds of streams at once are that much cheaper.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from models.protocols import GenerationEnd, TextDelta

Item = TextDelta | GenerationEnd


async def coalesced(items: AsyncGenerator[Item, None], interval_s: float) -> AsyncGenerator[Item, None]:
    """As `items`, whose failures come where they came, behind all that was said before; 0: each piece by itself."""
    if not interval_s:
        async with aclosing(items):
            async for item in items:
                yield item
        return
    waiting: list[Item] = []
    has_more = asyncio.Event()
    pump = asyncio.create_task(_pumped(items, waiting, has_more))
    pump.add_done_callback(lambda _: has_more.set())
    try:
        while True:
            await has_more.wait()
            has_more.clear()
            ended = pump.done()
            for item in _joined(waiting):
                yield item
            if ended:
                pump.result()
                return
            await asyncio.wait({pump}, timeout=interval_s)  # an end need not wait
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)


async def _pumped(items: AsyncGenerator[Item, None], waiting: list[Item], has_more: asyncio.Event) -> None:
    async with aclosing(items):
        async for item in items:
            waiting.append(item)
            has_more.set()


def _joined(waiting: list[Item]) -> list[Item]:
    """What waits, its text in one piece; takes it away."""
    text = "".join(item.text for item in waiting if isinstance(item, TextDelta))
    ends = [item for item in waiting if isinstance(item, GenerationEnd)]
    waiting.clear()
    return [TextDelta(text), *ends] if text else [*ends]
