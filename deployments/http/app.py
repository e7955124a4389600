"""The Starlette application: which path does what. Everything it needs comes in as an argument; it knows no Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from deployments.answering.errors import InternalError, RoomUnavailableError, UnknownModelError, UpgradeRequiredError
from deployments.answering.protocols import History, Turns
from deployments.http import embeddings, openai_wire, operations
from deployments.http.admission import Admission
from deployments.http.answers import TurnResponse
from deployments.http.auth import Authenticator
from deployments.http.errors import public_error
from deployments.http.json_bytes import json_bytes
from deployments.http.middleware import (
    STATIC_PREFIX,
    Door,
    JsonResponse,
    PlainPaths,
    RequestId,
    error_response,
    request_id_of,
)
from deployments.http.native_wire import NativeWire
from deployments.http.openapi import openapi
from deployments.http.registry import Operation, asking_paths, plain_endpoints, public_paths, routes_of
from deployments.http.schemas import (
    Caller,
    NativeChat,
    OpenAIChat,
    check_content_type,
    native_request,
    openai_request,
    parse_body,
    repeatable,
)
from deployments.http.socket import Socket
from deployments.http.turn_routes import TurnEndpoints
from deployments.http.widget import WIDGET_PATH, Widget
from deployments.settings import AppSettings

WEB = Path(__file__).resolve().parent.parent / "web"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def build_http_app(
    settings: AppSettings,
    turns: Turns,
    *,
    history: History | None = None,
    metrics: Callable[[], bytes] | None = None,
    embed: embeddings.Embed | None = None,
    admission: Admission | None = None,
    authenticator: Authenticator | None = None,
    on_error: Callable[[str, int], None] = lambda code, status: None,
    lifespan: Lifespan | None = None,
    new_id: Callable[[], str],
    now_s: Callable[[], float] = time.time,
    sends_request_id: bool = True,
) -> Starlette:
    """The whole HTTP side. `new_id` gives unique ids (requests, turns, conversations), `now_s` Unix time.

    authenticator: given by who changes its keys. sends_request_id: False behind Ray Serve, which does that itself.
    on_error: is told the code and status of each request that is answered with an error.
    """
    admission = admission or Admission(settings)
    authenticator = authenticator or Authenticator(settings)
    turn_endpoints = TurnEndpoints(settings, turns, history)
    endpoints = Endpoints(
        settings,
        turns,
        turn_endpoints,
        admission,
        authenticator,
        metrics=metrics,
        embed=embed,
        new_id=new_id,
        now_s=now_s,
    )
    offered = endpoints.operations()
    # Serve looks through them for the name of each request's route: first what is asked most.
    routes = routes_of(sorted(offered, key=lambda operation: not operation.asks))
    app = Starlette(
        routes=[*routes, Mount(STATIC_PREFIX.rstrip("/"), StaticFiles(directory=WEB))],
        middleware=[
            *_for_other_pages(settings),
            Middleware(RequestId, new_id=new_id, sends_id=sends_request_id, tells=admission.tells, on_error=on_error),
            Middleware(
                Door,
                settings=settings,
                public_paths=public_paths(offered),
                asking_paths=asking_paths(offered),
                admission=admission,
                authenticator=authenticator,
            ),
            Middleware(PlainPaths, endpoints=plain_endpoints(offered)),
        ],
        exception_handlers={HTTPException: _routing_error},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # "/v1/chat/" is an unknown path, not a redirect that loses the body
    return app


def _for_other_pages(settings: AppSettings) -> list[Middleware]:
    """Outermost, so that a page which may ask can also read why it was refused."""
    if not settings.allowed_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("authorization", "content-type", "idempotency-key", "last-event-id", "x-request-id"),
            expose_headers=("x-request-id", "retry-after"),
        )
    ]


class Endpoints:
    """One method per path; `operations.py` says what each of them takes and gives."""

    def __init__(
        self,
        settings: AppSettings,
        turns: Turns,
        turn_endpoints: TurnEndpoints,
        admission: Admission,
        authenticator: Authenticator,
        *,
        metrics: Callable[[], bytes] | None,
        embed: embeddings.Embed | None,
        new_id: Callable[[], str],
        now_s: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._turns = turns
        self._admission = admission
        self._authenticator = authenticator
        self._turn_endpoints = turn_endpoints
        self._metrics = metrics
        self._embed = embed
        self._new_id = new_id
        self._now_s = now_s
        self._started_s = int(now_s())
        self._widget = Widget(WEB)
        self._document: bytes | None = None  # openapi.json

    def operations(self) -> list[Operation]:
        """All that is offered, in the order of the documentation."""
        found = [
            Operation(method="POST", path="/v1/chat", endpoint=self.chat, **operations.CHAT),
            Operation(method="GET", path="/v1/ws", endpoint=self.not_upgraded, socket=self.socket, **operations.SOCKET),
            Operation(
                method="POST", path="/v1/chat/completions", endpoint=self.chat_completions, **operations.COMPLETIONS
            ),
            Operation(method="POST", path="/v1/embeddings", endpoint=self.embeddings, **operations.EMBEDDINGS),
            *self._turn_endpoints.operations(),
            Operation(method="GET", path="/v1/models", endpoint=self.models, **operations.MODELS),
            Operation(method="GET", path="/v1/models/{model_id:path}", endpoint=self.model, **operations.MODEL),
            Operation(method="GET", path="/healthz", endpoint=self.healthz, **operations.HEALTHZ),
            Operation(method="GET", path="/readyz", endpoint=self.readyz, **operations.READYZ),
            Operation(method="GET", path="/openapi.json", endpoint=self.openapi, **operations.OPENAPI),
            Operation(method="GET", path="/docs", endpoint=self.docs, **operations.DOCS),
            Operation(method="GET", path="/", endpoint=self.page, **operations.PAGE),
            Operation(method="GET", path=WIDGET_PATH, endpoint=self._widget.respond, **operations.WIDGET),
        ]
        if self._metrics is not None:
            found.append(Operation(method="GET", path="/metrics", endpoint=self.metrics, **operations.METRICS))
        return found

    async def chat(self, request: Request) -> Response:
        check_content_type(request.headers)
        content = await request.body()
        body = parse_body(NativeChat, content)
        caller = self._caller(request, content, can_return=body.stream)
        chat_request = native_request(body, caller, self._settings)
        return TurnResponse(
            self._turns.open(chat_request),
            NativeWire(),
            request_id=chat_request.request_id,
            stream=body.stream,
            http=self._settings.http,
        )

    async def socket(self, socket: WebSocket) -> None:
        await Socket(socket, self._turns, self._settings, self._authenticator, self._admission, self._new_id).run()

    async def not_upgraded(self, request: Request) -> Response:
        raise UpgradeRequiredError

    async def chat_completions(self, request: Request) -> Response:
        check_content_type(request.headers)
        content = await request.body()
        body = parse_body(OpenAIChat, content)
        chat_request = openai_request(body, self._caller(request, content), self._settings)
        wire = openai_wire.OpenAIWire(
            completion_id=f"chatcmpl-{chat_request.turn_id}",
            created_s=int(self._now_s()),
            model=body.model,
            include_usage=body.includes_usage,
            stop=body.stop or (),
        )
        headers = {"x-raydesk-ignored": ", ".join(body.ignored)} if body.ignored else {}
        return TurnResponse(
            self._turns.open(chat_request),
            wire,
            request_id=chat_request.request_id,
            stream=bool(body.stream),
            http=self._settings.http,
            headers=headers,
        )

    async def embeddings(self, request: Request) -> Response:
        check_content_type(request.headers)
        body = embeddings.parse(await request.body(), self._settings.http)
        if self._embed is None:
            raise RoomUnavailableError
        vectors = await asyncio.gather(*(self._embed(text) for text in body.input))
        return JsonResponse(embeddings.document(body, vectors))

    async def models(self, request: Request) -> Response:
        return JsonResponse({"object": "list", "data": self._model_cards(request)})

    async def model(self, request: Request) -> Response:
        for card in self._model_cards(request):
            if card["id"] == request.path_params["model_id"]:
                return JsonResponse(card)
        raise UnknownModelError

    async def healthz(self, request: Request) -> Response:
        """The process answers; nothing more."""
        return JsonResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        status = self._turns.status()
        content = {
            "ready": status.is_ready,
            "rooms": dict(status.rooms),
            "tiers": status.tiers,
        }
        return JsonResponse(content, 200 if status.is_ready else 503)

    async def metrics(self, request: Request) -> Response:
        if self._metrics is None:
            raise InternalError
        return Response(self._metrics(), media_type=METRICS_TYPE)

    async def openapi(self, request: Request) -> Response:
        if self._document is None:  # some 100 ms, and few ask
            self._document = json_bytes(openapi(self.operations(), self._settings))
        return Response(self._document, media_type="application/json")

    async def docs(self, request: Request) -> Response:
        return FileResponse(WEB / "docs.html")

    async def page(self, request: Request) -> Response:
        return FileResponse(WEB / "index.html")

    def _model_cards(self, request: Request) -> list[dict[str, Any]]:
        """Without the models that this tenant may not reach."""
        tenant = request.scope["state"]["principal"].tenant
        hidden = {tier.name for tier in self._settings.tiers if not tier.may_use(tenant)}
        tiers = tuple(tier for tier in self._turns.status().tiers if tier.name not in hidden)
        return openai_wire.model_cards(tiers, self._started_s)

    def _caller(self, request: Request, content: bytes, *, can_return: bool = False) -> Caller:
        return Caller(
            principal=request.scope["state"]["principal"],
            request_id=request_id_of(request.scope),
            turn_id=self._new_id(),
            new_conversation_id=self._new_id(),
            repeatable=repeatable(request.headers, request.scope["path"], content),
            can_return=can_return,
        )


async def _routing_error(request: Request, error: Exception) -> Response:
    """Starlette's 404 and 405, in our envelope; OPTIONS is told what the path takes."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405 and request.method == "OPTIONS":
        return PlainTextResponse(status_code=204, headers=headers)
    answer = public_error(error)
    assert answer is not None
    return error_response(answer, request_id_of(request.scope), headers)
