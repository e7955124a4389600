"""`/v1/ws`: several turns over one WebSocket.

Every message is a JSON object. The client sends `ask` (an id of its own and the body of `POST /v1/chat`), `cancel`,
`auth` and `pong`; it is sent the events of its turns, each with the id. A receive loop runs beside the turns: whoever
only sends never learns that its peer has left. A peer of which nothing is heard is given up.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Annotated, Any, Literal, assert_never

import anyio
import structlog
from anyio.abc import TaskGroup
from pydantic import BaseModel, Field
from starlette.websockets import WebSocket, WebSocketDisconnect

from deployments.answering.errors import (
    AuthenticationError,
    InternalError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitedError,
)
from deployments.answering.protocols import Turns
from deployments.answering.types import AnswerEvent, ChatRequest, Cited, Delta, Done, Failed, Meta, Principal
from deployments.http.admission import Admission
from deployments.http.auth import Authenticator
from deployments.http.errors import BadRequestError, internal_error, public_error
from deployments.http.json_bytes import json_bytes
from deployments.http.rate import TokenBucket
from deployments.http.schemas import Caller, NativeChat, native_request, parse_json, validated
from deployments.settings import AppSettings
from models.protocols import ToolCall

log = structlog.get_logger(__name__)

PROTOCOL = "raydesk"
KEY_PROTOCOL = "raydesk.key."  # a browser cannot send headers: this, and the key in base64url, as another subprotocol
SILENCE = 2.2  # of the pause between pings: a peer of which nothing is heard for longer is given up
NORMAL, GOING_AWAY, POLICY, TOO_BIG = 1000, 1001, 1008, 1009  # RFC 6455


class _Message(BaseModel, extra="forbid", frozen=True, strict=True):
    pass


TurnName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


class Ask(NativeChat):
    """The body of `POST /v1/chat`, and a name by which the client knows the turn."""

    type: Literal["ask"]
    id: TurnName
    stream: Literal[False] = False  # whoever leaves the socket does not come back for its turns


class Cancel(_Message):
    type: Literal["cancel"]
    id: TurnName


class Auth(_Message):
    type: Literal["auth"]
    key: str


class Pong(_Message):
    type: Literal["pong"]


_MESSAGES: dict[Any, type[Ask | Cancel | Auth | Pong]] = {"ask": Ask, "cancel": Cancel, "auth": Auth, "pong": Pong}


class _CloseError(Exception):
    """The socket is to be closed, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Socket:
    """One connection."""

    def __init__(
        self,
        socket: WebSocket,
        turns: Turns,
        settings: AppSettings,
        authenticator: Authenticator,
        admission: Admission,
        new_id: Callable[[], str],
    ) -> None:
        self._socket = socket
        self._turns = turns
        self._settings = settings
        self._limits = settings.http.socket
        self._authenticator = authenticator
        self._admission = admission
        self._new_id = new_id
        self._principal: Principal | None = None
        self._asked: dict[str, anyio.CancelScope] = {}  # turns at work, by the client's id
        self._sending = asyncio.Lock()
        self._heard_s = 0.0  # loop time

    async def run(self) -> None:
        """Until either side has had enough. Turns that still run then are cancelled."""
        offered = self._socket.scope.get("subprotocols", [])
        try:
            self._principal = self._first_principal(offered)
        except (AuthenticationError, PermissionDeniedError, RateLimitedError) as error:
            await self._socket.close(POLICY, error.code)
            return
        await self._socket.accept(PROTOCOL if PROTOCOL in offered else None)
        self._heard_s = asyncio.get_running_loop().time()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch)
                tasks.start_soon(self._listen, tasks)
        except* _CloseError as group:
            why = group.exceptions[0]
            assert isinstance(why, _CloseError)
            log.info("socket_closed", code=why.code, reason=why.reason)
            await self._close(why)
        except* (WebSocketDisconnect, OSError):
            pass  # it left

    def _first_principal(self, offered: list[str]) -> Principal | None:
        """None where the first message has to say who it is. Raises as `Authenticator` does."""
        headers = self._socket.headers
        for name in offered:
            if name.startswith(KEY_PROTOCOL) and "authorization" not in headers:
                return self._authenticator.of_key(_decoded(name.removeprefix(KEY_PROTOCOL)))
        try:
            return self._authenticator.principal(headers)
        except AuthenticationError:
            if "authorization" in headers:
                raise
            return None

    # --- what comes in ---

    async def _listen(self, tasks: TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        allowed = TokenBucket(self._limits.messages_per_s, 2 * self._limits.messages_per_s)
        if self._principal is not None:
            await self._send("ready", None, {"ping_s": self._limits.ping_s})
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", NORMAL))
            self._heard_s = loop.time()
            text = message.get("text")
            content = message.get("bytes") or b"" if text is None else text.encode("utf-8", "surrogatepass")
            if len(content) > self._limits.max_message_bytes:
                raise _CloseError(TOO_BIG, f"a message has at most {self._limits.max_message_bytes} bytes")
            if not allowed.take(self._heard_s):
                raise _CloseError(POLICY, f"at most {self._limits.messages_per_s:g} messages a second")
            await self._take(content, tasks)

    async def _take(self, content: bytes, tasks: TaskGroup) -> None:
        name: str | None = None
        try:
            values = parse_json(content)
            given = values.get("id")
            name = given if isinstance(given, str) else None
            kind = values.get("type")
            if not isinstance(kind, str) or kind not in _MESSAGES:
                raise BadRequestError(f"'type' is one of {', '.join(_MESSAGES)}.", param="type")
            await self._do(validated(_MESSAGES[kind], values), tasks)
        except (BadRequestError, RateLimitedError, OverloadedError) as error:
            await self._send_error(name, error)

    async def _do(self, message: Ask | Cancel | Auth | Pong, tasks: TaskGroup) -> None:
        match message:
            case Pong():
                pass
            case Auth(key=key):
                await self._authenticate(key)
            case Cancel(id=name):
                if (scope := self._asked.pop(name, None)) is not None:
                    scope.cancel()
                    await self._send("cancelled", name, {})
            case Ask(id=name):
                self._check_may_ask(name, message.conversation_id is not None)
                request = self._request(message)
                self._asked[name] = anyio.CancelScope()
                tasks.start_soon(self._answer, name, request, self._asked[name])
            case _:
                assert_never(message)

    async def _authenticate(self, key: str) -> None:
        if self._asked:
            raise BadRequestError("Who asks is said before anything is asked.", param="type")
        try:
            self._principal = self._authenticator.of_key(key.encode("utf-8", "replace").decode("latin-1"))
        except (AuthenticationError, PermissionDeniedError, RateLimitedError) as error:
            raise _CloseError(POLICY, error.code) from error
        await self._send("ready", None, {"ping_s": self._limits.ping_s})

    def _check_may_ask(self, name: str, is_running: bool) -> None:
        if self._principal is None or not self._authenticator.still_stands(self._principal):  # revoked since
            raise _CloseError(POLICY, AuthenticationError.code)
        if name in self._asked:
            raise BadRequestError("A turn of that id is still running.", param="id")
        if len(self._asked) >= self._limits.max_turns:
            raise RateLimitedError(f"At most {self._limits.max_turns} turns run at once on one socket.")
        self._admission.note(None)
        self._admission.check(self._principal, is_running)

    def _request(self, message: Ask) -> ChatRequest:
        assert self._principal is not None
        caller = Caller(
            principal=self._principal,
            request_id=self._new_id(),
            turn_id=self._new_id(),
            new_conversation_id=self._new_id(),
        )
        return native_request(message, caller, self._settings)

    # --- what goes out ---

    async def _answer(self, name: str, request: ChatRequest, scope: anyio.CancelScope) -> None:
        try:
            with scope, self._admission.at_work:
                await self._send_turn(name, request)
        except (_CloseError, WebSocketDisconnect, OSError):
            raise
        except Exception as error:  # the turn's last catcher here: whatever it was, the other turns go on
            if public_error(error) is None:
                log.exception("turn_broke_off", request_id=request.request_id)
            self._asked.pop(name, None)
            await self._send_error(name, error, request.request_id)

    async def _send_turn(self, name: str, request: ChatRequest) -> None:
        async with self._turns.open(request) as events:
            async for event in events:
                is_last = isinstance(event, Done | Failed)
                if is_last:
                    self._asked.pop(name, None)  # the id is free again as soon as the client knows the end
                await self._send_event(name, event)
                if is_last:
                    return
        raise InternalError

    async def _send_event(self, name: str, event: AnswerEvent) -> None:
        match event:
            case Delta(text):
                await self._send("delta", name, {"text": text})
            case Cited(citation):
                await self._send("citation", name, citation)
            case Meta():
                await self._send("meta", name, event)
            case ToolCall():
                await self._send("tool_call", name, event)
            case Done():
                await self._send("done", name, event)
            case Failed():
                await self._send("error", name, event)
            case _:
                assert_never(event)

    async def _send_error(self, name: str | None, error: Exception, request_id: str = "") -> None:
        answer = public_error(error) or internal_error()
        failed = answer.failed(request_id)
        await self._send("error", name, failed)

    async def _send(self, event: str, name: str | None, data: Any) -> None:
        """Raises `_CloseError` where the peer does not read."""
        content = json_bytes({"id": name, "event": event, "data": data}).decode()
        async with self._sending:
            try:
                async with asyncio.timeout(self._settings.http.send_timeout_s):
                    await self._socket.send_text(content)
            except TimeoutError as error:
                raise _CloseError(GOING_AWAY, "nothing is read") from error
            except RuntimeError as error:  # Starlette's word for a socket that was closed meanwhile
                raise WebSocketDisconnect(GOING_AWAY) from error

    async def _watch(self) -> None:
        """Pings, and gives a silent peer up."""
        loop = asyncio.get_running_loop()
        next_ping_s = loop.time() + self._limits.ping_s
        while True:
            give_up_s = self._heard_s + SILENCE * self._limits.ping_s
            await asyncio.sleep(max(0.0, min(next_ping_s, give_up_s) - loop.time()))
            if loop.time() >= self._heard_s + SILENCE * self._limits.ping_s:
                raise _CloseError(GOING_AWAY, "nothing was heard")
            if loop.time() >= next_ping_s:
                await self._send("ping", None, {})
                next_ping_s = loop.time() + self._limits.ping_s

    async def _close(self, why: _CloseError) -> None:
        try:
            async with asyncio.timeout(1.0):  # a peer that does not read is not waited for
                await self._socket.close(why.code, why.reason)
        except (TimeoutError, RuntimeError, WebSocketDisconnect, OSError):
            log.info("socket_lost", reason=why.reason)


def _decoded(key: str) -> str:
    """As a header would carry it. Raises `AuthenticationError`."""
    try:
        return base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)).decode("latin-1")
    except (binascii.Error, ValueError) as error:
        raise AuthenticationError from error
