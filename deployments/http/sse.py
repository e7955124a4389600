"""Server-Sent Events: how a frame is written, and how a stream lives until its client has gone.

Own, and small, where sse-starlette would do: the turn's block is entered and left in the request's own task, comments
are sent only while nothing else is, and no server is patched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
from starlette.types import Receive, Send

from deployments.answering.patience import Patience
from deployments.http.json_bytes import json_bytes

HEARTBEAT = b": keep-alive\n"  # no empty line: to some clients that would be an event once there are ids
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-transform",  # what compresses would collect the stream, too
    "x-accel-buffering": "no",  # nginx would otherwise collect the stream
}
# Line separators to some clients' parsers (Python's splitlines), though not to the format: JSON can escape them.
_LINE_BREAKS = tuple((c.encode(), f"\\u{ord(c):04x}".encode()) for c in "\x85\u2028\u2029")


class ClientGoneError(Exception):
    """The client takes no more bytes: it left, or it has not read for too long."""


def frame(data: Any, event: str | None = None, number: int | None = None) -> bytes:
    """One event; `data` as one line of JSON, or a str as it is. Broken Unicode is replaced, never an error.

    number: by which a client that comes back says how far it came.
    """
    text = data.encode("utf-8", "replace") if isinstance(data, str) else json_bytes(data)
    for line_break, escaped in () if text.isascii() else _LINE_BREAKS:
        text = text.replace(line_break, escaped)
    head = b"" if number is None else b"id: %d\n" % number
    if event:
        head += b"event: %b\n" % event.encode()
    return b"%bdata: %b\n\n" % (head, text)


@asynccontextmanager
async def until_disconnected(receive: Receive) -> AsyncIterator[anyio.CancelScope]:
    """Runs the block in this task and cancels it, quietly, as soon as the client has gone."""
    with anyio.CancelScope() as scope:
        watcher = asyncio.create_task(_cancel_on_disconnect(receive, scope))
        try:
            yield scope
        finally:
            watcher.cancel()


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class EventStream:
    """Writes one response of events; every send is limited, silence is filled with comments."""

    def __init__(self, send: Send, scope: anyio.CancelScope, *, heartbeat_s: float, send_timeout_s: float) -> None:
        self._send = send
        self._scope = scope
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._sending = asyncio.Lock()  # a heartbeat and an event never interleave
        self._patience = Patience()
        self._last_write_s = 0.0  # loop time
        self.cut_reason = ""  # why the client was given up, if it was

    @asynccontextmanager
    async def started(self, headers: Mapping[str, str]) -> AsyncIterator[None]:
        """Sends the status; keeps the stream alive within the block and ends it well after the block."""
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in {**HEADERS, **headers}.items()]
        async with self._patience:
            await self._limited({"type": "http.response.start", "status": 200, "headers": raw})
            heartbeat = asyncio.create_task(self._keep_alive())
            try:
                yield
            finally:
                heartbeat.cancel()
            await self._limited({"type": "http.response.body", "body": b"", "more_body": False})

    async def write(self, data: bytes) -> None:
        """Raises `ClientGoneError`."""
        await self._limited({"type": "http.response.body", "body": data, "more_body": True})

    async def _limited(self, message: dict[str, Any]) -> None:
        async with self._sending:
            try:
                await self._patience.wait(self._send(message), self._send_timeout_s)
            except OSError as error:  # TimeoutError is one; the others are how servers say: connection closed
                self.cut_reason = "slow_reader" if isinstance(error, TimeoutError) else "disconnected"
                raise ClientGoneError(self.cut_reason) from error
            self._last_write_s = asyncio.get_running_loop().time()

    async def _keep_alive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            idle_s = loop.time() - self._last_write_s
            if idle_s < self._heartbeat_s:
                await asyncio.sleep(self._heartbeat_s - idle_s)
                continue
            try:
                await self.write(HEARTBEAT)
            except ClientGoneError:
                self._scope.cancel()
                return
