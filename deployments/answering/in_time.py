"""A time limit that costs nothing where there is nothing to wait for. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

T = TypeVar("T")


async def in_time(call: Awaitable[T], limit_s: float) -> T:
    """The result of `call`. Raises `TimeoutError` where that has to be waited for longer than `limit_s`.

    What is there at once, a stored answer for instance, is given without a timer, which would cost more than it does.
    """
    steps = call.__await__()
    try:
        waits_for = next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    async with asyncio.timeout(limit_s):
        return await _Begun(steps, waits_for)


class _Begun(Awaitable[T]):
    """The rest of a call whose first step is taken. waits_for: what that step waits for."""

    def __init__(self, steps: Generator[Any, Any, T], waits_for: Any) -> None:
        self._steps = steps
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        step: Callable[[Any], Any]
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # a cancellation, the time limit's included, is the call's
                step, argument = self._steps.throw, error
            else:
                step, argument = self._steps.send, sent
            try:
                waits_for = step(argument)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
