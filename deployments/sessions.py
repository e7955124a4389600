"""The room of conversations between their turns, in Redis or Valkey. Knows no Ray.

Two kinds of keys a conversation, in one slot of a cluster: its session, and the line of turns that want to hold it.
The first of the line holds the conversation. Who waits and who holds gives signs of life; without them a place in the
line is lost after `lease_s`, so that a replica that died stops nobody for longer. A script stores a session only for
the turn that stands first, so that one which was taken for dead writes nothing over its successor's.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
from contextlib import suppress
from typing import Any

import redis.asyncio as redis
import structlog

from deployments.answering.errors import DeadlineExceededError, RoomUnavailableError
from deployments.answering.protocols import Held, InLine
from deployments.answering.session import FlowState, Session, SessionKey
from deployments.http.json_bytes import json_bytes
from deployments.new_values import NewValues
from deployments.random_ids import RandomIds
from deployments.redis_client import connected
from deployments.settings import SessionSettings
from deployments.shared_trips import Argument, SharedTrips
from models.protocols import ChatMessage

log = structlog.get_logger(__name__)

KEY = "raydesk:session:"
_TAKEN_OVER = "another turn has taken over the conversation"
SOON_S = 0.02  # between two writes of what is stored soon: one costs as much as a quarter of an answer
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.03  # between looks at the line

# KEYS: line (a list of tickets), signs (ticket → Unix ms of its last one), session. ARGV: ticket, lease ms, may enter.
# Enters the line unless it stands there, gives a sign of life, and drops from the front who gave none. Who has held
# the conversation must not enter again: what it knows is old.
# Returns whether the ticket stands first, and the session if so.
_LINE_UP = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lease = tonumber(ARGV[2])
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then
  if ARGV[3] == '0' then return {0, false} end
  redis.call('RPUSH', KEYS[1], ARGV[1])
end
redis.call('HSET', KEYS[2], ARGV[1], now)
while true do
  local first = redis.call('LINDEX', KEYS[1], 0)
  local sign = tonumber(redis.call('HGET', KEYS[2], first) or 0)
  if first == ARGV[1] or now - sign <= lease then break end
  redis.call('LPOP', KEYS[1])
  redis.call('HDEL', KEYS[2], first)
end
redis.call('PEXPIRE', KEYS[1], lease * 4)
redis.call('PEXPIRE', KEYS[2], lease * 4)
if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[1] then return {0, false} end
return {1, redis.call('GET', KEYS[3])}
"""
# ARGV: ticket, session ("" keeps what is there), time to live in s. Leaves the line; returns 1 if the ticket held.
_LEAVE = """
local held = redis.call('LINDEX', KEYS[1], 0) == ARGV[1]
if held and ARGV[2] ~= '' then redis.call('SET', KEYS[3], ARGV[2], 'EX', ARGV[3]) end
redis.call('LREM', KEYS[1], 1, ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return held and 1 or 0
"""


class Sessions:
    def __init__(self, settings: SessionSettings, url: str) -> None:
        self._settings = settings
        self._new_ticket = RandomIds(16)
        self._redis = connected(url)
        self._scripts = SharedTrips(self._redis, settings.timeout_s)
        # ticket → who gives signs of life, or will: most turns are over before the first one is due
        self._signs: dict[str, asyncio.TimerHandle | asyncio.Task[None]] = {}
        self._values = NewValues(self._redis)
        self._soon: dict[SessionKey, Session] = {}  # on their way
        self._writing: dict[SessionKey, Session] = {}
        self._written = asyncio.Event()  # of the batch that is written next
        self._writer: asyncio.Task[None] | None = None

    async def ping(self) -> None:
        """Raises `RoomUnavailableError` when the store does not answer."""
        await self._answered(self._redis.ping())

    async def stop(self) -> None:
        for signs in self._signs.values():
            signs.cancel()
        tasks = [signs for signs in (*self._signs.values(), self._writer) if isinstance(signs, asyncio.Task)]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._scripts.stop()
        await self._redis.aclose()

    async def enter(self, key: SessionKey) -> Held | InLine:
        place = InLine(key, self._new_ticket())
        await self._write_first(key)
        try:
            is_first, stored = await self._sign(place, may_enter=True)
        except asyncio.CancelledError:  # the customer has left
            await self.give_up(place)
            raise
        return self._hold(place, stored) if is_first else place

    async def wait(self, place: InLine, wait_s: float) -> Held:
        try:
            async with asyncio.timeout(wait_s):
                stored = await self._first(place)
        except TimeoutError as error:
            await self.give_up(place)
            raise DeadlineExceededError(f"the turn before lasts longer than {wait_s:g} s") from error
        except asyncio.CancelledError:
            await self.give_up(place)
            raise
        return self._hold(place, stored)

    async def give_up(self, place: InLine) -> None:
        try:
            await self._answered(self._scripts.run(_LEAVE, _keys(place.key), [place.ticket, b"", 1]))
        except RoomUnavailableError:
            return  # its place is lost without a sign of life

    async def begin(self, key: SessionKey, wait_s: float) -> Held:
        place = await self.enter(key)
        return place if isinstance(place, Held) else await self.wait(place, wait_s)

    async def end(self, held: Held, session: Session | None) -> None:
        if not await self._answered(self._leave(held, session)) and session is not None:
            raise RoomUnavailableError(_TAKEN_OVER)

    def end_soon(self, held: Held, session: Session) -> None:
        self._leave(held, session).add_done_callback(_log_loss)

    async def load(self, key: SessionKey) -> Session | None:
        await self._write_first(key)
        stored = await self._answered(self._redis.get(_keys(key)[2]))
        return None if stored is None else _decode(stored)

    async def store(self, key: SessionKey, session: Session) -> None:
        await self._answered(self._redis.set(_keys(key)[2], self._encode(session), ex=self._settings.ttl_s))

    def store_soon(self, key: SessionKey, session: Session) -> None:
        self._soon[key] = session
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_soon(), context=contextvars.Context())

    async def forget(self, key: SessionKey, wait_s: float) -> bool:
        held = await self.begin(key, wait_s)
        try:
            return bool(await self._answered(self._redis.delete(_keys(key)[2])))
        finally:
            await self.end(held, None)

    async def _write_soon(self) -> None:
        """The first at once, then a busy moment's in one round trip. One that is late overwrites no later turn's."""
        while self._soon:
            self._writing, self._soon = self._soon, {}
            try:
                values = {_keys(key)[2]: self._encode(session) for key, session in self._writing.items()}
                await self._answered(self._values.write(values, self._settings.ttl_s))
            except RoomUnavailableError as error:
                log.warning("sessions_not_stored", sessions=len(self._writing), error=str(error)[:300])
            finally:
                written, self._written, self._writing = self._written, asyncio.Event(), {}
                written.set()
            await asyncio.sleep(SOON_S)

    async def _write_first(self, key: SessionKey) -> None:
        """What this conversation's turn before left on its way."""
        while key in self._soon or key in self._writing:
            await self._written.wait()

    async def _first(self, place: InLine) -> bytes | None:
        pause_s = FIRST_PAUSE_S
        while True:
            is_first, stored = await self._sign(place, may_enter=True)
            if is_first:
                return stored
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _sign(self, place: InLine, *, may_enter: bool) -> tuple[bool, bytes | None]:
        arguments: list[Argument] = [place.ticket, int(self._settings.lease_s * 1000), int(may_enter)]
        is_first, stored = await self._answered(self._scripts.run(_LINE_UP, _keys(place.key), arguments))
        return bool(is_first), stored

    def _hold(self, place: InLine, stored: bytes | None) -> Held:
        loop = asyncio.get_running_loop()
        first_s = self._settings.lease_s / 4
        self._signs[place.ticket] = loop.call_later(first_s, self._begin_signs, place, context=contextvars.Context())
        return Held(place.key, place.ticket, Session() if stored is None else _decode(stored))

    def _begin_signs(self, place: InLine) -> None:
        self._signs[place.ticket] = asyncio.get_running_loop().create_task(self._give_signs(place))

    async def _give_signs(self, place: InLine) -> None:
        while True:
            with suppress(RoomUnavailableError):  # it may be back before the lease is over; `end` finds out
                await self._sign(place, may_enter=False)
            await asyncio.sleep(self._settings.lease_s / 4)

    def _leave(self, held: Held, session: Session | None) -> asyncio.Future[Any]:
        """Whether the turn held it until now. session: None keeps what is stored."""
        signs = self._signs.pop(held.ticket, None)
        if signs is not None:
            signs.cancel()
        entry = b"" if session is None else self._encode(session)
        return self._scripts.run(_LEAVE, _keys(held.key), [held.ticket, entry, self._settings.ttl_s])

    async def _answered(self, call: Any) -> Any:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await call
        except (redis.RedisError, OSError) as error:  # a TimeoutError is an OSError
            raise RoomUnavailableError(f"the store of sessions does not answer: {error}") from error

    def _encode(self, session: Session) -> bytes:
        """Within the limits: the oldest turns go first, and a flow only where it alone is too much."""
        limits = self._settings
        turns = min(limits.max_turns, len(session.messages) // 2)
        while turns >= 0:
            entry = _encode(session.bounded(turns, limits.max_bytes // 4))
            if len(entry) <= limits.max_bytes:
                return entry
            turns -= 1
        log.warning("session_too_large", bytes=len(entry), max_bytes=limits.max_bytes)
        return _encode(Session(language=session.language))


def _log_loss(left: asyncio.Future[Any]) -> None:
    """left: as of `Sessions._leave`, done."""
    error = left.exception()
    if error is not None or not left.result():
        log.warning("session_not_stored", error=_TAKEN_OVER if error is None else repr(error)[:300])


def _keys(key: SessionKey) -> list[str]:
    tag = f"{{{hashlib.sha256(key.text().encode('utf-8', 'surrogatepass')).hexdigest()}}}"  # one slot of a cluster
    return [f"{KEY}line:{tag}", f"{KEY}signs:{tag}", f"{KEY}{tag}"]


def _encode(session: Session) -> bytes:
    content = {
        "messages": [(message.role, message.content) for message in session.messages],
        "language": session.language,
        "flow": session.flow,
        "kept": session.kept,
    }
    return json_bytes(content)


def _decode(entry: bytes) -> Session:
    content = json.loads(entry)
    flow = content["flow"]
    return Session(
        messages=tuple(ChatMessage(role, text) for role, text in content["messages"]),
        language=content["language"],
        flow=None if flow is None else FlowState(**flow),
        kept=content["kept"],
    )
