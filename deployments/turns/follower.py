"""Reads a turn that another replica runs, or that is over, out of the log of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from deployments.answering.errors import EventsGoneError, RoomUnavailableError, TurnLostError
from deployments.answering.protocols import EventLog, Page
from deployments.answering.types import AnswerEvent, Done, Failed
from deployments.settings import TurnSettings

LOST_AFTER_S = 1.0  # without a sign of life, where one is expected: a store that was restarted knows none for a moment
AWAY_AFTER_S = 10.0  # a store that does not answer for so long is not waited for


class Follower:
    """One reader's place in one turn."""

    def __init__(
        self, log: EventLog, limits: TurnSettings, turn_id: str, reader: str, after: int, owner: str = ""
    ) -> None:
        self._log = log
        self._limits = limits
        self._turn_id = turn_id
        self._reader = reader
        self._place = after  # number of the last event that it has
        self._owner = owner
        self._page: Page | None = None  # read, and not yet given
        self._dead_since_s: float | None = None  # loop time
        self._signed_s = float("-inf")

    @property
    def is_over(self) -> bool:
        """Whether all that is left has been read."""
        page = self._page
        return page is not None and page.is_over and page.first + len(page.events) > page.last

    @property
    def owner(self) -> str:
        """Known once the turn is."""
        return self._owner

    @property
    def found(self) -> tuple[AnswerEvent, ...]:
        return () if self._page is None else self._page.events

    async def look(self) -> bool:
        """Whether the turn is known. Raises `EventsGoneError`, `RoomUnavailableError`."""
        page = await self._log.read(self._turn_id, self._reader, self._place, self._owner)
        if page is None:
            return False
        self._note_life(page.is_owner_alive)
        if page.events and page.first > self._place + 1:
            raise EventsGoneError
        if not page.events and self._place < page.last:  # entries that were cut off, or lost
            raise EventsGoneError
        self._page, self._owner = page, page.owner
        return True

    async def look_for(self, patience_s: float) -> bool:
        """The same, for a turn that may have been written this moment."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while not await self.look():
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await self._pause()
        return True

    async def look_for_begin(self, patience_s: float) -> bool:
        """Waits for a turn that has said nothing yet; False where its owner is gone, or it says nothing for so long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while not await self.look():
            await self._stay()
            self._note_life(await self._log.is_alive(self._owner))
            if self._is_dead or loop.time() >= deadline:
                return False
            await self._pause()
        return True

    async def events(self) -> AsyncIterator[AnswerEvent]:
        """From the place on to the turn's last event. Raises `TurnLostError` where its owner is gone."""
        loop = asyncio.get_running_loop()
        answered_s = loop.time()
        while True:
            page, self._page = self._page, None
            for event in () if page is None else page.events:
                self._place += 1
                yield event
                if isinstance(event, Done | Failed):
                    return
            if page is None or not page.events:
                await self._pause()
            try:
                await self._stay()
                await self.look()
                answered_s = loop.time()
            except RoomUnavailableError:
                if loop.time() - answered_s > AWAY_AFTER_S:
                    raise
            if not self.found and self._is_dead:
                raise TurnLostError

    def _note_life(self, is_alive: bool) -> None:
        now_s = asyncio.get_running_loop().time()
        self._dead_since_s = None if is_alive else self._dead_since_s or now_s

    @property
    def _is_dead(self) -> bool:
        since_s = self._dead_since_s
        return since_s is not None and asyncio.get_running_loop().time() - since_s >= LOST_AFTER_S

    async def _stay(self) -> None:
        """Tells the owner, often enough, that the turn is read."""
        now_s = asyncio.get_running_loop().time()
        if self._limits.grace_s and now_s - self._signed_s >= self._limits.grace_s / 3:
            self._signed_s = now_s
            await self._log.stay(self._turn_id)

    async def _pause(self) -> None:
        """To a moment that all readers of this replica share: so they read in one round trip."""
        interval_s = self._limits.poll_interval_s
        await asyncio.sleep(interval_s - asyncio.get_running_loop().time() % interval_s)
