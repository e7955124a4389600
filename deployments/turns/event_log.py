"""The room of turns' events, in Redis or Valkey: for whoever missed some, at any ingress replica. Knows no Ray.

A turn is one stream. An entry holds what was said within some 50 ms; its id is the number of its last event, so that a
reader names the last number that it has. A turn that was said in one piece is one value. Each ingress replica has one
key by which it gives signs of life, and one list in which the others put the ids of turns that are to end. A repeatable
request is a key that names its turn.

Nothing is written on a customer's clock but that key, and reads of one moment share a round trip.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import redis.asyncio as redis
import structlog

from deployments.answering.background import Background
from deployments.answering.errors import RoomUnavailableError
from deployments.answering.protocols import Claim, Page
from deployments.answering.types import AnswerEvent, Done, Failed
from deployments.new_values import NewValues
from deployments.redis_client import connected
from deployments.settings import TurnSettings
from deployments.turns.event_codec import decode_events, encode_events

log = structlog.get_logger(__name__)

KEY = "raydesk:turns:"
BEAT_S = 0.25  # between looks at the list of turns that are to end
RETRY_PAUSE_S = 1.0  # while the store is away
MAX_WAITING = 50_000  # events that wait for a store that is away; then they are dropped
MAX_ENTRIES = 512  # of a turn, in one answer
TTL_EVERY = 64  # events, after which a turn's time to live begins anew: seconds, of the minutes that it is

# KEYS: claim. ARGV: new claim, the one that it may replace (""), time to live in ms. Returns the one that stands.
_CLAIM = """
local stands = redis.call('GET', KEYS[1])
if stands and stands ~= ARGV[2] then return stands end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return ARGV[1]
"""
_UNCLAIM = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


@dataclass(slots=True)
class _Batch:
    """What waits to be written of one turn."""

    reader: str
    first: int
    ttl_s: int
    events: list[AnswerEvent] = field(default_factory=list)


@dataclass(slots=True)
class _Stored:
    """What stands in the store of one running turn."""

    entries: deque[tuple[int, int]] = field(default_factory=deque)  # (id, bytes), oldest first
    bytes: int = 0  # of all of them


@dataclass(frozen=True, slots=True)
class _Read:
    turn_id: str
    reader: str
    after: int
    owner: str
    answer: asyncio.Future[Page | None]


class EventLog:
    def __init__(
        self, settings: TurnSettings, url: str, *, owner: str | None = None, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._now_s = now_s
        self.owner = owner or uuid4().hex
        self.is_up = True
        self._redis = connected(url)
        self._claim = self._redis.register_script(_CLAIM)
        self._unclaim = self._redis.register_script(_UNCLAIM)
        self._values = NewValues(self._redis)
        self._waiting: dict[str, _Batch] = {}  # turn → its next entry
        self._stored: dict[str, _Stored] = {}  # by running turn
        self._whole: dict[str, tuple[str, Sequence[AnswerEvent]]] = {}  # turn → (reader, all of it), not yet encoded
        self._unwritten: dict[str, bytes] = {}  # its name in the store → a whole turn, encoded
        self._expiries: deque[tuple[float, int]] = deque()  # of whole turns in the store: (time, bytes)
        self._whole_bytes = 0  # of all of them
        self._reads: list[_Read] = []
        self._background = Background()
        self._writer: asyncio.Task[None] | None = None
        self._beat: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def ping(self) -> None:
        """Raises `RoomUnavailableError` when the store does not answer."""
        await self._answered(self._redis.ping())

    async def start(self, on_cancel: Callable[[str], None]) -> None:
        self._beat = asyncio.create_task(self._give_signs(on_cancel))

    async def stop(self) -> None:
        self._stopping.set()
        rest = [task for task in (self._beat, self._writer) if task is not None]
        await asyncio.gather(*rest, self._background.ended(), return_exceptions=True)
        await self._redis.aclose()

    # --- writing ---

    def keep(
        self, turn_id: str, reader: str, first: int, events: Sequence[AnswerEvent], *, is_repeatable: bool
    ) -> None:
        batch = self._waiting.get(turn_id)
        if batch is None:
            ttl_s = self._settings.idempotency_ttl_s if is_repeatable else self._settings.ttl_s
            batch = self._waiting[turn_id] = _Batch(reader, first, ttl_s)
        batch.events += events
        self._have_written()

    def keep_whole(self, turn_id: str, reader: str, events: Sequence[AnswerEvent]) -> None:
        if self.is_up:
            self._whole[turn_id] = (reader, events)
            self._have_written()

    def _have_written(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_soon(), context=contextvars.Context())

    async def _write_soon(self) -> None:
        while self._waiting or self._whole or self._unwritten:
            await self._rest(self._settings.flush_interval_s if self.is_up else RETRY_PAUSE_S)
            batches, self._waiting = self._waiting, {}
            try:
                await self._write_whole()
                await self._write(batches)
            except RoomUnavailableError as error:
                log.warning("events_not_kept", turns=len(batches), error=str(error)[:300])
                if self._stopping.is_set():
                    return
                self._wait_longer(batches)

    async def _write_whole(self) -> None:
        """As far as there is room for such."""
        now_s = self._now_s()
        while self._expiries and self._expiries[0][0] <= now_s:
            self._whole_bytes -= self._expiries.popleft()[1]
        turns, self._whole = self._whole, {}
        for turn_id, (reader, events) in turns.items():
            if self._whole_bytes >= self._settings.whole_bytes:
                break
            value = b"%b %b %b" % (reader.encode(), self.owner.encode(), encode_events(events))
            self._unwritten[_whole(turn_id)] = value
            self._whole_bytes += len(value)
            self._expiries.append((now_s + self._settings.ttl_s, len(value)))
        if self._unwritten:
            await self._answered(self._values.write(self._unwritten, self._settings.ttl_s))
            self._unwritten = {}

    async def _write(self, batches: dict[str, _Batch]) -> None:
        if not batches:
            return
        pipe = self._redis.pipeline(transaction=False)
        for turn_id, batch in batches.items():
            self._add(pipe, turn_id, batch)
        # An entry that is there already (the answer to a first try was lost) is an error of that one command.
        await self._answered(pipe.execute(raise_on_error=False))

    def _add(self, pipe: Any, turn_id: str, batch: _Batch) -> None:
        name, last = _stream(turn_id), batch.first + len(batch.events) - 1
        data = encode_events(batch.events)
        is_over = isinstance(batch.events[-1], Done | Failed)
        entry = {"f": batch.first, "o": self.owner, "r": batch.reader, "z": int(is_over), "e": data}
        pipe.xadd(name, entry, id=f"{last}-0")
        stored = self._stored.setdefault(turn_id, _Stored())
        stored.entries.append((last, len(data)))
        stored.bytes += len(data)
        if stored.bytes > self._settings.max_bytes:
            while len(stored.entries) > 1 and stored.bytes > self._settings.max_bytes:
                stored.bytes -= stored.entries.popleft()[1]
            pipe.xtrim(name, minid=f"{stored.entries[0][0]}-0", approximate=False)
        if is_over or batch.first == 1 or last // TTL_EVERY > (batch.first - 1) // TTL_EVERY:
            pipe.pexpire(name, batch.ttl_s * 1000)
        if is_over:
            del self._stored[turn_id]

    def _wait_longer(self, batches: dict[str, _Batch]) -> None:
        """What could not be written goes before what came since, as far as there is room."""
        newer, self._waiting = self._waiting, batches
        for turn_id, batch in newer.items():
            if turn_id in batches:
                batches[turn_id].events += batch.events
            else:
                batches[turn_id] = batch
        waiting = sum(len(batch.events) for batch in batches.values())
        while waiting > MAX_WAITING:
            turn_id = next(iter(batches))
            waiting -= len(batches.pop(turn_id).events)
            self._stored.pop(turn_id, None)

    # --- reading ---

    async def read(self, turn_id: str, reader: str, after: int, owner: str = "") -> Page | None:
        answer: asyncio.Future[Page | None] = asyncio.get_running_loop().create_future()
        self._reads.append(_Read(turn_id, reader, after, owner, answer))
        if len(self._reads) == 1:
            self._background.begin(self._read_all())
        return await answer

    async def _read_all(self) -> None:
        await asyncio.sleep(0)  # readers wake together, and ask together
        reads, self._reads = self._reads, []
        pipe = self._redis.pipeline(transaction=False)
        for read in reads:
            name = _stream(read.turn_id)
            pipe.xrevrange(name, count=1)
            pipe.xrange(name, min=f"({read.after}", count=MAX_ENTRIES)
            pipe.exists(_alive(read.owner))
            pipe.get(_whole(read.turn_id))
        try:
            answers = await self._answered(pipe.execute())
            pages = [_page(read, *answers[4 * at : 4 * at + 4]) for at, read in enumerate(reads)]
        except Exception as error:  # whatever it is, the readers must hear of it
            for read in reads:
                if not read.answer.done():
                    read.answer.set_exception(error)
            return
        for read, page in zip(reads, pages, strict=True):
            if not read.answer.done():  # a reader that has left
                read.answer.set_result(page)

    # --- requests that may be repeated ---

    async def claim(self, name: str, claim: Claim, instead_of: Claim | None = None) -> Claim:
        replaced = "" if instead_of is None else _claim_text(instead_of)
        arguments: list[str | int] = [_claim_text(claim), replaced, self._settings.idempotency_ttl_s * 1000]
        stands: bytes = await self._answered(self._claim(keys=[f"{KEY}claim:{name}"], args=arguments))
        return Claim(*stands.decode().split(" "))

    async def unclaim(self, name: str, claim: Claim) -> None:
        await self._answered(self._unclaim(keys=[f"{KEY}claim:{name}"], args=[_claim_text(claim)]))

    # --- who reads, who is to end, who lives ---

    async def stay(self, turn_id: str) -> None:
        within_ms = max(1, int(self._settings.grace_s * 1000))
        await self._answered(self._redis.set(f"{KEY}read:{turn_id}", b"", px=within_ms))

    async def stays_s(self, turn_id: str) -> float:
        left_ms: int = await self._answered(self._redis.pttl(f"{KEY}read:{turn_id}"))
        return max(0, left_ms) / 1000

    async def ask_to_cancel(self, turn_id: str, owner: str) -> None:
        pipe = self._redis.pipeline(transaction=False)
        pipe.rpush(f"{KEY}end:{owner}", turn_id)
        pipe.expire(f"{KEY}end:{owner}", 60)
        await self._answered(pipe.execute())

    async def is_alive(self, owner: str) -> bool:
        return bool(await self._answered(self._redis.exists(_alive(owner))))

    async def _give_signs(self, on_cancel: Callable[[str], None]) -> None:
        while not self._stopping.is_set():
            pipe = self._redis.pipeline(transaction=False)
            pipe.set(_alive(self.owner), b"", px=int(self._settings.lease_s * 1000))
            pipe.lpop(f"{KEY}end:{self.owner}", 100)
            try:
                _, to_end = await self._answered(pipe.execute())
            except RoomUnavailableError:  # `is_up` says so, and turns tell their customers
                to_end = None
            for turn_id in to_end or ():
                on_cancel(turn_id.decode())
            await self._rest(BEAT_S if self.is_up else RETRY_PAUSE_S)

    async def _rest(self, pause_s: float) -> None:
        """Until the log stops, at most."""
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _answered(self, call: Any) -> Any:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                answer = await call
        except (redis.RedisError, OSError) as error:  # a TimeoutError is an OSError
            if self.is_up:
                log.warning("event_store_away", error=str(error)[:300])
            self.is_up = False
            raise RoomUnavailableError(f"the store of events does not answer: {error}") from error
        self.is_up = True
        return answer


def _stream(turn_id: str) -> str:
    return f"{KEY}events:{turn_id}"


def _whole(turn_id: str) -> str:
    return f"{KEY}whole:{turn_id}"


def _alive(owner: str) -> str:
    return f"{KEY}alive:{owner}"


def _claim_text(claim: Claim) -> str:
    return f"{claim.turn_id} {claim.owner} {claim.body_sha256}"


def _page(read: _Read, newest: list[Any], found: list[Any], is_alive: int, whole: bytes | None) -> Page | None:
    """newest, found: entries, as (id, fields). whole: the turn, where it was said in one piece."""
    if whole is not None:
        return _page_of_whole(read, whole)
    if not newest or newest[0][1][b"r"].decode() != read.reader:
        return None
    number, fields = newest[0]
    events: list[AnswerEvent] = []
    first = read.after + 1
    for _, entry in found:
        begins, said = int(entry[b"f"]), decode_events(entry[b"e"])
        if not events:
            first = max(begins, first)
        at = first + len(events)  # number of the event that comes next
        if begins > at:  # a gap: the reader asks again from there, and finds that it is gone
            break
        events += said[at - begins :]
    last = int(number.partition(b"-")[0])
    is_live = bool(is_alive) or not read.owner
    return Page(first, tuple(events), last, fields[b"z"] == b"1", fields[b"o"].decode(), is_live)


def _page_of_whole(read: _Read, value: bytes) -> Page | None:
    reader, owner, data = value.split(b" ", 2)
    if reader.decode() != read.reader:
        return None
    events = decode_events(data)
    return Page(read.after + 1, tuple(events[read.after :]), len(events), True, owner.decode(), True)
