"""The same question asked many times at once is answered once: all who ask see the same events as they come.

The answer belongs to none of them. Whoever leaves, the others go on; when nobody is left, it ends.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

M = TypeVar("M")  # who makes the events
T = TypeVar("T")


class Flight(Generic[M, T]):
    """One answer in the making, from its first event on."""

    def __init__(self, maker: M, events: AsyncGenerator[T, None], on_end: Callable[[], None]) -> None:
        self.maker = maker
        self._events: list[T] = []
        self._error: BaseException | None = None
        self._is_over = False
        self._news = asyncio.Event()
        self._riders = 0
        # In a context of its own: the request that began it may end first, and Serve cancels what belongs to one.
        self._task = asyncio.get_running_loop().create_task(self._fly(events), context=contextvars.Context())
        self._on_end = on_end
        self._task.add_done_callback(lambda _: on_end())  # also of one that is cancelled before it begins

    async def _fly(self, events: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    self._events.append(event)
                    self._tell()
        except BaseException as error:  # it is raised to those who ride along, and ends this task only if cancelled
            self._error = error
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._is_over = True
            self._on_end()  # before those who ride along hear of a failure and begin anew
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def board(self) -> AsyncGenerator[T, None]:
        """All events from the first on. To be closed by who leaves earlier. Raises what the answer raised."""
        self._riders += 1
        return self._ride()

    async def _ride(self) -> AsyncGenerator[T, None]:
        place = 0
        try:
            while True:
                news = self._news
                while place < len(self._events):
                    place += 1
                    yield self._events[place - 1]
                if self._is_over:
                    break
                await news.wait()
            if self._error is not None:
                raise self._error
        finally:
            self._riders -= 1
            if not self._riders and not self._is_over:
                self._task.cancel()
                await asyncio.wait([self._task])  # what it opened is closed when the last one has left


class Flights(Generic[M, T]):
    """By question: the answers in the making."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight[M, T]] = {}

    def join(
        self, key: str, make: Callable[[], M], begin: Callable[[M], AsyncGenerator[T, None]]
    ) -> tuple[Flight[M, T], bool]:
        """The flight of this key, and whether it was begun by this call."""
        if (flying := self._flights.get(key)) is not None:
            return flying, False
        maker = make()
        flight: Flight[M, T] = Flight(maker, begin(maker), on_end=lambda: self._land(key, flight))
        self._flights[key] = flight
        return flight, True

    def _land(self, key: str, flight: Flight[M, T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
