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
from typing import Any

import redis.asyncio as redis
import structlog

from deployments.answering.errors import DeadlineExceededError, RoomUnavailableError
from deployments.answering.protocols import Held
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
        self._signs: dict[str, asyncio.Task[None]] = {}  # ticket → gives signs of life
        self._values = NewValues(self._redis)
        self._soon: dict[SessionKey, Session] = {}  # on their way
        self._writing: dict[SessionKey, Session] = {}
        self._written = asyncio.Event()  # of the batch that is written next
        self._writer: asyncio.Task[None] | None = None

    async def ping(self) -> None:
        """Raises `RoomUnavailableError` when the store does not answer."""
        await self._answered(self._redis.ping())

    async def stop(self) -> None:
        for task in self._signs.values():
            task.cancel()
        await asyncio.gather(*self._signs.values(), *([self._writer] if self._writer else []), return_exceptions=True)
        await self._scripts.stop()
        await self._redis.aclose()

    async def begin(self, key: SessionKey, wait_s: float) -> Held:
        ticket = self._new_ticket()
        await self._write_first(key)
        try:
            async with asyncio.timeout(wait_s):
                stored = await self._first(key, ticket)
        except TimeoutError as error:
            await self._give_up(key, ticket)
            raise DeadlineExceededError(f"the turn before lasts longer than {wait_s:g} s") from error
        except asyncio.CancelledError:  # the customer has left
            await self._give_up(key, ticket)
            raise
        self._signs[ticket] = asyncio.create_task(self._give_signs(key, ticket))
        return Held(key, ticket, Session() if stored is None else _decode(stored))

    async def end(self, held: Held, session: Session | None) -> None:
        signs = self._signs.pop(held.ticket, None)
        if signs is not None:
            signs.cancel()
        entry = b"" if session is None else self._encode(session)
        arguments: list[Argument] = [held.ticket, entry, self._settings.ttl_s]
        if not await self._answered(self._scripts.run(_LEAVE, _keys(held.key), arguments)) and session is not None:
            raise RoomUnavailableError("another turn has taken over the conversation")

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

    async def _first(self, key: SessionKey, ticket: str) -> bytes | None:
        pause_s = FIRST_PAUSE_S
        while True:
            is_first, stored = await self._sign(key, ticket, may_enter=True)
            if is_first:
                return stored
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _sign(self, key: SessionKey, ticket: str, *, may_enter: bool) -> tuple[bool, bytes | None]:
        arguments: list[Argument] = [ticket, int(self._settings.lease_s * 1000), int(may_enter)]
        is_first, stored = await self._answered(self._scripts.run(_LINE_UP, _keys(key), arguments))
        return bool(is_first), stored

    async def _give_signs(self, key: SessionKey, ticket: str) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 4)
            try:
                await self._sign(key, ticket, may_enter=False)
            except RoomUnavailableError:
                continue  # it may be back before the lease is over; `end` finds out whether it was

    async def _give_up(self, key: SessionKey, ticket: str) -> None:
        try:
            await self._answered(self._scripts.run(_LEAVE, _keys(key), [ticket, b"", 1]))
        except RoomUnavailableError:
            return  # its place is lost without a sign of life

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
