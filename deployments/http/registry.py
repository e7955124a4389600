"""What the HTTP side offers: an `Operation` a method and path, of which routes and OpenAPI document are made.

Nothing else makes a route, so neither a path without a description nor one without a policy can be served.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from deployments.answering.errors import (
    DeadlineExceededError,
    DependencyError,
    EngineBusyError,
    EngineDiedError,
    EngineRefusedError,
    OverloadedError,
    RaydeskError,
    RoomUnavailableError,
    UnknownCollectionError,
)

Policy = Literal["public", "key"]  # who may: anybody, or who has a key (on loopback everybody is the demo tenant)
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Endpoint = Callable[[Request], Awaitable[Response]]

# Whatever runs a turn can end like this.
TURN_ERRORS: tuple[type[RaydeskError], ...] = (
    UnknownCollectionError,
    OverloadedError,
    EngineDiedError,
    EngineRefusedError,
    EngineBusyError,
    DependencyError,
    RoomUnavailableError,
    DeadlineExceededError,
)
_CONVERTOR = re.compile(r"\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True, slots=True)
class EventStream:
    """Server-sent events: what stands in each event's data, by the event's name ("" where events have none)."""

    events: Mapping[str, Any]  # name → type of the data
    example: str


@dataclass(frozen=True, slots=True)
class Text:
    """A body that is not JSON."""

    media_type: str


@dataclass(frozen=True, slots=True)
class Reply:
    """One way in which a request succeeds."""

    description: str
    content: Sequence[Any] = ()  # types (a pydantic model, a dataclass: JSON), `EventStream`s, `Text`s; none: no body
    status: int = 200
    example: Any = None  # of the JSON body
    headers: Mapping[str, str] = field(default_factory=dict)  # name → what it says


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of a path, a query or a header. Those of a path are found there; here they get their words and type."""

    name: str
    place: Literal["path", "query", "header"]
    description: str
    kind: Any = str
    required: bool = False
    example: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: Method
    path: str  # as Starlette writes it, e.g. "/v1/models/{model_id:path}"
    endpoint: Endpoint
    name: str  # unique, e.g. "createTurn": the operationId, by which clients are generated
    tag: str
    summary: str  # a few words
    description: str = ""  # Markdown
    policy: Policy = "key"
    body: Any = None  # type of the JSON body
    examples: Mapping[str, Any] = field(default_factory=dict)  # name → such a body
    parameters: Sequence[Parameter] = ()
    replies: Sequence[Reply]
    errors: Sequence[type[RaydeskError]] = ()  # beyond those that policy and body bring along
    asks: bool = False  # whether it makes the desk work, so that it has to be admitted
    socket: Callable[[WebSocket], Awaitable[None]] | None = None  # what the same path does for a WebSocket

    @property
    def public_path(self) -> str:
        """As OpenAPI writes it."""
        return _CONVERTOR.sub(r"{\1}", self.path)

    @property
    def path_names(self) -> list[str]:
        return _CONVERTOR.findall(self.path)


def routes_of(operations: Sequence[Operation]) -> list[BaseRoute]:
    """In the order given; methods of one path become one route each, and a wrong method is told all of them."""
    routes: list[BaseRoute] = []
    for path in dict.fromkeys(operation.path for operation in operations):
        by_method = {one.method: one for one in operations if one.path == path}
        if len(by_method) != sum(one.path == path for one in operations):
            raise ValueError(f"{path}: a method is given twice")
        routes += [WebSocketRoute(path, one.socket) for one in by_method.values() if one.socket is not None]
        endpoint = next(iter(by_method.values())).endpoint if len(by_method) == 1 else _by_method(by_method)
        routes.append(Route(path, endpoint, methods=list(by_method)))
    return routes


def _by_method(operations: Mapping[Method, Operation]) -> Endpoint:
    endpoints: dict[str, Endpoint] = {method: operation.endpoint for method, operation in operations.items()}
    if "GET" in endpoints:
        endpoints["HEAD"] = endpoints["GET"]

    async def endpoint(request: Request) -> Response:
        return await endpoints[request.method](request)

    return endpoint


def plain_endpoints(operations: Sequence[Operation]) -> dict[tuple[str, str], Endpoint]:
    """By method and path, of the paths that are literal: they need not be searched for."""
    return {(each.method, each.path): each.endpoint for each in operations if "{" not in each.path}


def public_paths(operations: Sequence[Operation]) -> frozenset[str]:
    """Paths that need no key; each is literal, since the door compares them before anything is routed."""
    paths = {operation.path for operation in operations if operation.policy == "public"}
    closed = {operation.path for operation in operations if operation.policy == "key"}
    if wrong := sorted(path for path in paths if "{" in path or path in closed):
        raise ValueError(f"a public path must be literal, and public for every method: {', '.join(wrong)}")
    return frozenset(paths)


def asking_paths(operations: Sequence[Operation]) -> frozenset[str]:
    return frozenset(operation.path for operation in operations if operation.asks)
