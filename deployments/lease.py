"""A generation is held by the ingress replica that reads it, and ends in the engine when that no longer does. No Ray.

Serve does not tell an engine that its caller was killed, and may lose what a caller says when it leaves. So each
ingress says once a second, in one message for all its streams of a tier, which of them live. What it does not name
twice in a row, it has forgotten. Who says nothing at all is asked after: only of one that is gone the generations end,
since an ingress that is slow, or whose messages do not reach a replica that is being drained, still reads.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import structlog

log = structlog.get_logger(__name__)
T = TypeVar("T")

RENEW_INTERVAL_S = 1.0  # between two messages of an ingress
SWEEP_INTERVAL_S = 0.5
SILENCE_S = 2.5  # after which a holder is asked after
_MOST_MISSES = 2  # messages that do not name a generation; one may have been on its way when it began


class LeaseLapsedError(RuntimeError):
    """Nobody reads this generation any more."""


def new_generation(request_id: str) -> str:
    """A name for one more generation of a request: it may be begun again while the one before it is still ending."""
    return f"{request_id}.{secrets.token_hex(4)}"


def request_of(generation: str) -> str:
    return generation.rpartition(".")[0]


@dataclass(slots=True, eq=False)
class _Lease:
    holder: str
    misses: int = 0
    is_lapsed: bool = False
    limit: asyncio.Timeout | None = None  # of the wait for the next item, while there is one

    def lapse(self) -> None:
        self.is_lapsed = True
        if self.limit is not None:
            self.limit.reschedule(asyncio.get_running_loop().time())


class Leases:
    """Of one engine replica. Used from one event loop."""

    def __init__(self, is_alive: Callable[[str], Awaitable[bool]]) -> None:
        """is_alive: of a holder that has fallen silent; raises where that cannot be told, which ends nothing."""
        self._is_alive = is_alive
        self._leases: dict[str, _Lease] = {}  # by the generation's id
        self._heard_s: dict[str, float] = {}  # holder → loop time
        self._sweeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._leases)

    def renew(self, holder: str, ids: Collection[str]) -> None:
        """All generations of the holder's that live, as it knows them."""
        self._heard_s[holder] = asyncio.get_running_loop().time()
        for name, lease in self._leases.items():
            if lease.holder == holder:
                lease.misses = 0 if name in ids else lease.misses + 1
                if lease.misses >= _MOST_MISSES:
                    self._end(name, lease, "forgotten")

    async def held(self, holder: str, name: str, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        """The items, for as long as the holder reads them; then `LeaseLapsedError`. No holder: for ever."""
        lease = _Lease(holder)
        async with aclosing(items):
            if holder:
                self._leases[name] = lease
                self._heard_s.setdefault(holder, asyncio.get_running_loop().time())
                self._watch()
            try:
                while True:
                    try:
                        async with asyncio.timeout(None) as lease.limit:
                            if lease.is_lapsed:
                                raise TimeoutError
                            item = await anext(items)
                    except StopAsyncIteration:
                        return
                    except TimeoutError as error:
                        if lease.is_lapsed:
                            raise LeaseLapsedError from error
                        raise
                    finally:
                        lease.limit = None
                    yield item
            finally:
                self._leases.pop(name, None)

    def _watch(self) -> None:
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        """While there are generations."""
        loop = asyncio.get_running_loop()
        while self._leases:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            holders = {lease.holder for lease in self._leases.values()}
            for holder in {one for one in holders if loop.time() - self._heard_s[one] > SILENCE_S}:
                if not await self._is_there(holder):
                    for name, lease in self._leases.items():
                        if lease.holder == holder:
                            self._end(name, lease, "holder gone")
            self._heard_s = {one: heard_s for one, heard_s in self._heard_s.items() if one in holders}

    async def _is_there(self, holder: str) -> bool:
        try:
            return await self._is_alive(holder)
        except Exception as error:  # whatever kept us from knowing is no reason to cut an answer off
            log.warning("holder_unknown", holder=holder, error=str(error)[:200])
            return True

    def _end(self, name: str, lease: _Lease, reason: str) -> None:
        log.info("generation_ended", generation=name, holder=lease.holder, reason=reason)
        lease.lapse()


class Renewals:
    """Of one ingress replica for one tier: says which generations it reads, while it reads any."""

    def __init__(self, send: Callable[[list[str]], Awaitable[None]]) -> None:
        """send: tells all replicas of the tier; may fail, the next one comes soon."""
        self._send = send
        self._live: set[str] = set()
        self._sender: asyncio.Task[None] | None = None

    def add(self, name: str) -> None:
        self._live.add(name)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._run())

    def remove(self, name: str) -> None:
        self._live.discard(name)

    async def _run(self) -> None:
        # Once more after the last has ended: an engine that has not heard of that hears it now.
        idle = 0
        while idle <= _MOST_MISSES:
            await asyncio.sleep(RENEW_INTERVAL_S)
            idle = 0 if self._live else idle + 1
            try:
                await self._send(sorted(self._live))
            except Exception as error:  # a tier that is starting, a replica that died
                log.debug("lease_not_renewed", error=str(error)[:200])
