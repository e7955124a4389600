import asyncio
from collections.abc import AsyncGenerator

import pytest

from deployments import lease as module
from deployments.lease import LeaseLapsedError, Leases, Renewals

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value_s in (("RENEW_INTERVAL_S", 0.01), ("SWEEP_INTERVAL_S", 0.01), ("SILENCE_S", 0.05)):
        monkeypatch.setattr(module, name, value_s)


class Engine:
    """Generates for ever, slowly."""

    def __init__(self) -> None:
        self.running = 0

    async def generate(self) -> AsyncGenerator[int, None]:
        self.running += 1
        try:
            yield 0
            await asyncio.sleep(3600)
        finally:
            self.running -= 1


async def alive(_: str) -> bool:
    return True


async def gone(_: str) -> bool:
    return False


async def unknown(_: str) -> bool:
    raise ConnectionError("no answer")


async def read(items: AsyncGenerator[int, None]) -> None:
    async for _ in items:
        pass


async def begun(leases: Leases, engine: Engine, name: str = "a", holder: str = "ingress-1") -> asyncio.Task[None]:
    reading = asyncio.create_task(read(leases.held(holder, name, engine.generate())))
    while not engine.running:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    return reading


async def ends(reading: asyncio.Task[None]) -> bool:
    """Lapses within the time of many sweeps."""
    await asyncio.wait({reading}, timeout=0.4)
    if not reading.done():
        return False
    with pytest.raises(LeaseLapsedError):
        reading.result()
    return True


async def test_a_generation_whose_holder_is_gone_ends() -> None:
    engine = Engine()
    leases = Leases(gone)
    assert await ends(await begun(leases, engine))
    assert (engine.running, len(leases)) == (0, 0)


@pytest.mark.parametrize("is_alive", [alive, unknown])
async def test_silence_alone_ends_nothing(is_alive: object) -> None:
    engine = Engine()
    reading = await begun(Leases(is_alive), engine)  # type: ignore[arg-type]
    assert not await ends(reading)
    assert engine.running == 1
    reading.cancel()


async def test_what_its_holder_has_forgotten_ends_at_the_second_message() -> None:
    engine = Engine()
    leases = Leases(alive)
    forgotten, other = await begun(leases, engine, "a"), await begun(leases, engine, "b")
    leases.renew("ingress-1", ["b"])
    await asyncio.sleep(0)
    assert not forgotten.done()
    leases.renew("ingress-2", [])  # somebody else's business
    leases.renew("ingress-1", ["b"])
    assert await ends(forgotten)
    assert not other.done()
    other.cancel()


async def test_one_that_is_named_again_goes_on() -> None:
    engine = Engine()
    leases = Leases(alive)
    reading = await begun(leases, engine)
    for ids in ([], ["a"], [], ["a"]):
        leases.renew("ingress-1", ids)
    assert not await ends(reading)
    reading.cancel()


async def test_who_is_heard_of_is_not_asked_after() -> None:
    engine = Engine()
    leases = Leases(gone)
    reading = await begun(leases, engine)
    for _ in range(30):
        leases.renew("ingress-1", ["a"])
        await asyncio.sleep(0.01)
    assert not reading.done()
    assert await ends(reading)


async def test_without_a_holder_there_is_no_lease() -> None:
    engine = Engine()
    leases = Leases(gone)
    reading = await begun(leases, engine, holder="")
    assert not await ends(reading)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert engine.running == 0


async def test_a_reader_that_leaves_ends_it_at_once() -> None:
    engine = Engine()
    items = Leases(alive).held("ingress-1", "a", engine.generate())
    await anext(items)
    await items.aclose()
    assert engine.running == 0


async def test_an_engines_own_time_out_is_its_own() -> None:
    async def late() -> AsyncGenerator[int, None]:
        yield 0
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await read(Leases(alive).held("ingress-1", "a", late()))


async def test_one_message_names_all_and_after_the_last_there_are_none() -> None:
    sent: list[list[str]] = []

    async def send(ids: list[str]) -> None:
        sent.append(ids)
        if len(sent) == 1:
            raise ConnectionError("once")

    renewals = Renewals(send)
    renewals.add("b")
    renewals.add("a")
    while len(sent) < 3:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.001)
    assert sent[:3] == [["a", "b"]] * 3
    renewals.remove("a")
    renewals.remove("b")
    await asyncio.sleep(0.2)
    assert sent[-2:] == [[], []]
    count = len(sent)
    await asyncio.sleep(0.1)
    assert len(sent) == count
