"""Pieces of a generation, put together by time: the first alone and at once, the others at most so often. No Ray.

Every piece is a message from the engine's process, walks through filter, grounding, record, queue and wire, and is one
frame and one write of a socket: a third of a millisecond of a slow core. Nobody reads faster than some thirty times a
second; and where hundreds of streams are written at once, each has fewer and longer pieces, so that what all of them
cost together has a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import groupby

from models.protocols import Generated, TextDelta


class Pace:
    """Of all streams of one engine in this process."""

    def __init__(self, interval_s: float, most_per_s: float) -> None:
        """interval_s: between two pieces of a stream, at least. most_per_s: pieces of all streams together."""
        self._interval_s = interval_s
        self._most_per_s = most_per_s
        self._streams = 0

    @property
    def interval_s(self) -> float:
        return max(self._interval_s, self._streams / self._most_per_s)

    async def kept(self, batches: AsyncGenerator[list[Generated], None]) -> AsyncGenerator[list[Generated], None]:
        """What the batches hold, in fewer ones, text in one piece each.

        An empty batch passes, and what follows it comes at once. A failure comes where it came, behind all that was
        said before it.
        """
        waiting: list[Generated] = []
        has_more = asyncio.Event()
        pump = asyncio.create_task(_pumped(batches, waiting, has_more))
        pump.add_done_callback(lambda _: has_more.set())
        self._streams += 1
        try:
            while True:
                await has_more.wait()
                has_more.clear()
                ended, batch = pump.done(), _joined(waiting)
                waiting.clear()
                if batch or not ended:
                    yield batch
                if ended:
                    pump.result()
                    return
                if batch:
                    await asyncio.wait({pump}, timeout=self.interval_s)  # an end need not wait
        finally:
            self._streams -= 1
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)


async def _pumped(
    batches: AsyncGenerator[list[Generated], None], waiting: list[Generated], has_more: asyncio.Event
) -> None:
    async with aclosing(batches):
        async for batch in batches:
            waiting += batch
            has_more.set()


def _joined(items: Iterable[Generated]) -> list[Generated]:
    """The same, texts that follow one another in one piece."""
    found: list[Generated] = []
    for is_text, group in groupby(items, lambda item: isinstance(item, TextDelta)):
        if is_text:
            texts = [item for item in group if isinstance(item, TextDelta)]
            found.append(TextDelta("".join(text.text for text in texts), sum(text.tokens for text in texts)))
        else:
            found += group
    return found
