"""What every request passes on its way in and out, as pure ASGI: nothing here buffers or outlives a stream.

Outermost first: `RequestId` (ids, security headers, the last catch), then `Door` (headers that are not the client's
to send, loopback guard, authentication, body size), then `PlainPaths` (the shortest way to most endpoints).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.answering.errors import (
    HeadersTooLargeError,
    OverloadedError,
    PayloadTooLargeError,
    RaydeskError,
)
from deployments.answering.types import Principal
from deployments.http.admission import (
    CAME_HEADER,
    CHOSEN_HEADER,
    Admission,
    is_of_a_running_conversation,
    read_chosen,
)
from deployments.http.auth import Authenticator, check_loopback_request
from deployments.http.errors import PublicError, internal_error, public_error
from deployments.http.json_bytes import json_bytes
from deployments.http.registry import Endpoint
from deployments.http.request import DeskRequest, IndexedHeaders
from deployments.http.widget import WIDGET_PATH
from deployments.logs import name_in_log
from deployments.settings import AppSettings

log = structlog.get_logger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
STATIC_PREFIX = "/static/"
# With these a client could switch off Ray Serve's time limit and its handling of disconnects.
STRIPPED_HEADERS = frozenset({b"x-request-timeout-seconds", b"x-request-disconnect-disabled"})
SECURITY_HEADERS: dict[str, str] = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_RAW_SECURITY_HEADERS = {name.encode(): value.encode() for name, value in SECURITY_HEADERS.items()}
# The one file that is for other people's pages.
_RAW_WIDGET_HEADERS = _RAW_SECURITY_HEADERS | {b"cross-origin-resource-policy": b"cross-origin"}


def request_id_of(scope: Scope) -> str:
    return str(scope["state"]["request_id"])


class JsonResponse(Response):
    """JSON with the characters as they are; text that is not valid Unicode is replaced rather than an error."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json_bytes(content)


def error_response(error: PublicError, request_id: str, headers: Mapping[str, str] | None = None) -> JsonResponse:
    return JsonResponse(error.body(request_id), error.status, {**error.headers(), **(headers or {})})


class RequestId:
    """Gives every request an id and every response its common headers; what nobody caught becomes a plain 500.

    tells: further headers of every response, for the door.
    sends_id: False behind Ray Serve, which puts the id that it was sent, or made, on the response itself.
    on_error: is told the code and status of each request that is answered with an error.
    """

    def __init__(
        self,
        app: ASGIApp,
        new_id: Callable[[], str],
        sends_id: bool = True,
        tells: Callable[[], list[tuple[bytes, bytes]]] = list,
        on_error: Callable[[str, int], None] = lambda code, status: None,
    ) -> None:
        self._app = app
        self._new_id = new_id
        self._sends_id = sends_id
        self._tells = tells
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        request_id = self._request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        name_in_log(request_id=request_id)
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if self._sends_id:
                    MutableHeaders(raw=message["headers"])["x-request-id"] = request_id
                message["headers"] = _with_common_headers(message["headers"], scope["path"]) + self._tells()
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:  # while it was still sending its body: nobody is left to answer
            log.info("client_left_while_sending", request_id=request_id, path=scope["path"])
        except Exception as error:
            answer = public_error(error)
            if answer is None or answer.status == 500:
                log.exception("internal_error", request_id=request_id, path=scope["path"])
            elif answer.status > 500 and answer.code != OverloadedError.code:  # of which there are many: counted alone
                log.warning("request_failed", code=answer.code, request_id=request_id, path=scope["path"])
            answer = answer or internal_error()
            self._on_error(answer.code, answer.status)
            if started:  # too late for a status: the server breaks the connection off, as it must
                raise
            await error_response(answer, request_id)(scope, receive, send_with_headers)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except RaydeskError as error:  # the door's, before anything was accepted
            await send({"type": "websocket.close", "code": 1008, "reason": error.code})

    def _request_id(self, headers: Sequence[tuple[bytes, bytes]]) -> str:
        wished = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
        return wished if REQUEST_ID.fullmatch(wished) else self._new_id()


def _with_common_headers(headers: Sequence[tuple[bytes, bytes]], path: str) -> list[tuple[bytes, bytes]]:
    """headers: names in lower case, as ASGI has them; each once."""
    # The page's files are revalidated on each visit, so that an update arrives; answers are kept by nobody.
    keeping = {b"cache-control": b"no-cache" if _is_page(path) else b"no-store"}
    security = _RAW_WIDGET_HEADERS if path == WIDGET_PATH else _RAW_SECURITY_HEADERS
    return list((keeping | dict(headers) | security).items())


def _is_page(path: str) -> bool:
    return path in ("/", WIDGET_PATH) or path.startswith(STATIC_PREFIX)


class Door:
    """Decides who may come in, and with how much."""

    def __init__(
        self,
        app: ASGIApp,
        settings: AppSettings,
        public_paths: frozenset[str],
        asking_paths: frozenset[str],
        admission: Admission,
        authenticator: Authenticator,
    ) -> None:
        """asking_paths: those whose requests have to be admitted."""
        self._app = app
        self._asking_paths = asking_paths
        self._admission = admission
        self._public_paths = public_paths
        self._limits = settings.http
        self._is_loopback = settings.is_loopback
        self._allowed_origins = frozenset(settings.allowed_origins)
        self._authenticator = authenticator
        self._max_body_bytes = settings.http.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = IndexedHeaders(scope["headers"])
        if headers.has_any_of(STRIPPED_HEADERS):
            scope["headers"] = [item for item in scope["headers"] if item[0].lower() not in STRIPPED_HEADERS]
            headers = IndexedHeaders(scope["headers"])
        scope["state"]["headers"] = headers
        if headers.size > self._limits.max_header_bytes or len(scope["headers"]) > self._limits.max_headers:
            raise HeadersTooLargeError
        if self._is_loopback:
            check_loopback_request(headers, self._allowed_origins)
        if scope["type"] == "websocket":  # it has other ways of saying who it is, and other limits: `socket.py`
            await self._app(scope, receive, send)
            return
        if scope["path"] not in self._public_paths and not scope["path"].startswith(STATIC_PREFIX):
            scope["state"]["principal"] = self._authenticator.principal(headers, scope["path"])
        self._check_announced_length(headers)
        if scope["path"] in self._asking_paths and scope["method"] == "POST":
            receive = await self._admitted(scope["state"]["principal"], headers, receive)
            with self._admission.at_work:
                await self._app(scope, self._limited(receive), send)
            return
        await self._app(scope, self._limited(receive), send)

    async def _admitted(self, principal: Principal, headers: IndexedHeaders, receive: Receive) -> Receive:
        """Raises `RateLimitedError` and `OverloadedError`; else gives back what was looked at."""
        waited_s = self._admission.note(headers.get(CAME_HEADER))
        if (chosen := headers.get(CHOSEN_HEADER)) is not None:  # by the door
            is_running, of = read_chosen(chosen)
            self._admission.check(principal, is_running, waited_s, of)
            return receive
        if not self._admission.chooses:
            self._admission.check(principal, False, waited_s)
            return receive
        first = await receive()  # most bodies come in one piece
        self._admission.check(principal, is_of_a_running_conversation(first.get("body", b"")), waited_s)
        return _replayed(first, receive)

    def _check_announced_length(self, headers: Headers) -> None:
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > self._max_body_bytes:
            raise self._too_large()

    def _limited(self, receive: Receive) -> Receive:
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(f"The request body is larger than {self._max_body_bytes} bytes.")


def _replayed(first: Message, receive: Receive) -> Receive:
    seen = [first]

    async def replayed() -> Message:
        return seen.pop() if seen else await receive()

    return replayed


class PlainPaths:
    """What is asked under a literal path goes straight to its endpoint; the router searches for all else."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        """endpoints: by method and path."""
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        response = await endpoint(DeskRequest(scope, receive))
        await response(scope, receive, send)
