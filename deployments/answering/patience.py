"""A time limit for many waits, one after the other, whose timer is set anew only where it has gone off. Pure.

A limit of its own around every token of a stream costs more than all else that is done with the token here.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class Patience:
    """To be left when nothing is waited for any more. Each wait may be another task's, as those of a generator are."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waits: asyncio.Task[object] | None = None
        self._due_s = math.inf  # loop time at which it has waited for too long
        self._has_ended_it = False
        self._timer: asyncio.Handle | None = None
        self._wakes_s = math.inf  # loop time of the timer; uvloop's cannot tell it where that has passed already

    async def __aenter__(self) -> Patience:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def wait(self, call: Awaitable[T], limit_s: float) -> T:
        """The result of `call`. Raises `TimeoutError` when that takes longer than `limit_s`."""
        task = self._waits = asyncio.current_task()
        assert task is not None, "only a task can wait"
        cancelled_before = task.cancelling()
        self._expect(self._loop.time() + limit_s)
        try:
            result = await call
        except asyncio.CancelledError as error:
            if self._has_ended_it and task.uncancel() <= cancelled_before:
                raise TimeoutError from error
            raise
        finally:
            self._due_s = math.inf
        if self._has_ended_it:  # and the call has made something of it
            task.uncancel()
        return result

    def _expect(self, due_s: float) -> None:
        self._due_s, self._has_ended_it = due_s, False
        if self._timer is not None and due_s < self._wakes_s:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._wake_at(due_s)

    def _wake_at(self, due_s: float) -> None:
        self._wakes_s = due_s
        self._timer = self._loop.call_at(due_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._loop.time() >= self._due_s:
            assert self._waits is not None
            self._has_ended_it = True
            self._waits.cancel()
        elif self._due_s < math.inf:
            self._wake_at(self._due_s)
