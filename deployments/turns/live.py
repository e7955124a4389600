"""A turn that runs in this process: what it has said so far, for as many readers as there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from deployments.answering.errors import RaydeskError, TurnCancelledError
from deployments.answering.types import AnswerEvent, ChatRequest, Done, Failed


class LiveTurn:
    """Readers have a place each and no buffer: one that is slow holds nothing up and costs no memory."""

    def __init__(self, request: ChatRequest, reader: str) -> None:
        self.request = request
        self.reader = reader  # opaque name of its principal
        self.events: list[AnswerEvent] = []  # an answer has at most `max_output_tokens` of them, and its citations
        self.readers = 0
        self.ended_by: type[RaydeskError] = TurnCancelledError  # what readers are told of a turn that is cancelled
        self.task: asyncio.Task[None] | None = None
        self.farewell: asyncio.Task[None] | None = None  # waits for a reader to return
        self._news = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Done | Failed)

    @property
    def can_return(self) -> bool:
        """Whether a reader that left may be back: it knows which turn it was, and how far it came."""
        return self.request.repeatable is not None or (self.request.can_return and bool(self.events))

    def say(self, event: AnswerEvent) -> None:
        self.events.append(event)
        self._news.set()
        self._news = asyncio.Event()

    def cancel(self, why: type[RaydeskError] = TurnCancelledError) -> None:
        if self.task is not None and not self.is_over and not self.task.cancelling():
            self.ended_by = why
            self.task.cancel()

    async def read(self, after: int) -> AsyncIterator[AnswerEvent]:
        """The events after number `after`, to the last one."""
        place = after
        while True:
            news = self._news
            while place < len(self.events):
                place += 1
                yield self.events[place - 1]
            if self.is_over:
                return
            await news.wait()
