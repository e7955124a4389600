"""POST over HTTP/1.1 for open loops, where aiohttp's 0.3 ms of a core a question would be what is measured.

httptools parses, as it does in uvicorn. One question at a time on a connection; connections are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import cast
from urllib.parse import urlsplit

import httptools


class Response:
    """Filled while it comes in."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}  # names in lower case


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._on_body: Callable[[bytes], None] = lambda _: None
        self._response = Response()
        self._answered: asyncio.Future[Response] | None = None

    def ask(self, request: bytes, on_body: Callable[[bytes], None]) -> asyncio.Future[Response]:
        assert self._transport is not None
        self._on_body, self._response = on_body, Response()
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.close()
            self._end(ConnectionError(f"no HTTP: {error}"))

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        self._end(ConnectionError("closed before the answer was over"))

    # --- what the parser says ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self._response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._response.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._on_body(body)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.is_open = False
            self.close()
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        answered, self._answered = self._answered, None
        if answered is None or answered.done():
            return
        if error is None:
            answered.set_result(self._response)
        else:
            answered.set_exception(error)


class LeanClient:
    """To one server, over as many connections as there are questions at once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._free: list[_Connection] = []

    async def __aenter__(self) -> LeanClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._free:
            connection.close()

    async def post(self, path: str, body: bytes, on_body: Callable[[bytes], None], timeout_s: float) -> Response:
        """on_body: is given the body, piece by piece. Raises `OSError`s, of which `TimeoutError` is one."""
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\ncontent-type: application/json\r\n"
        request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        async with asyncio.timeout(timeout_s):
            connection = await self._connection()
            try:
                response = await connection.ask(request, on_body)
            except BaseException:
                connection.close()
                raise
        if connection.is_open:
            self._free.append(connection)
        return response

    async def _connection(self) -> _Connection:
        while self._free:
            if (connection := self._free.pop()).is_open:
                return connection
        _, made = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        return made
