"""A time limit that costs nothing where there is nothing to wait for."""

import asyncio

import pytest

from deployments.answering.in_time import in_time

pytestmark = pytest.mark.unit


class Call:
    """Waits `waits_s` twice; knows how it ended."""

    def __init__(self, waits_s: float | None = None) -> None:
        self._waits_s = waits_s
        self.end = ""

    async def __call__(self) -> str:
        try:
            for _ in range(0 if self._waits_s is None else 2):
                await asyncio.sleep(self._waits_s or 0)
        except BaseException as error:
            self.end = type(error).__name__
            raise
        self.end = "complete"
        return "result"


async def test_call_that_is_ready_at_once_needs_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[float] = []
    loop = asyncio.get_running_loop()
    set_timer = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda when, *rest, **more: (timers.append(when), set_timer(when, *rest))[1])
    assert await in_time(Call()(), 10) == "result"
    assert timers == []
    assert await in_time(Call(0)(), 10) == "result"
    assert len(timers) == 1


@pytest.mark.parametrize("waits_s", [0, 0.001])
async def test_call_that_waits_is_gone_on_with_to_its_end(waits_s: float) -> None:
    assert await in_time(Call(waits_s)(), 10) == "result"


async def test_what_takes_too_long_is_cancelled() -> None:
    call = Call(10)
    with pytest.raises(TimeoutError):
        await in_time(call(), 0.001)
    assert call.end == "CancelledError"


async def test_cancellation_reaches_the_call() -> None:
    call = Call(10)
    task = asyncio.create_task(in_time(call(), 10))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.end == "CancelledError"


@pytest.mark.parametrize("waits", [False, True])
async def test_what_the_call_raises_is_raised(waits: bool) -> None:
    async def failing() -> None:
        if waits:
            await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_time(failing(), 10)


async def test_future_is_a_call_too() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, 1)
    assert await in_time(future, 10) == 1
