"""`Turns` that play a script: events to give, pauses to make, exceptions to raise."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from starlette.testclient import TestClient

from deployments.answering.errors import NotFoundError
from deployments.answering.protocols import AppStatus, ReadyEvents, TierStatus
from deployments.answering.types import (
    AnswerEvent,
    Button,
    ChatRequest,
    Citation,
    Cited,
    Delta,
    Done,
    Failed,
    Link,
    Meta,
    Principal,
)
from deployments.settings import AppSettings
from models.fakes import HashEmbedder
from models.protocols import Vectors

READY = AppStatus(
    rooms={"intent_classifier": "ready", "retriever": "ready"},
    tiers=(TierStatus("small", "smollm2-135m", "ready"), TierStatus("large", "org/big-7b", "starting")),
)
CITATION = Citation(
    index=1,
    chunk_id="c1",
    document_id="d1",
    title="Returns",
    url="https://help.example/returns",
    heading_path=("Orders", "Returns"),
    quote="You may return an item within 30 days.",
    support=0.75,
    page=2,
)

Step = AnswerEvent | BaseException | float  # a float is a pause in seconds
Script = Sequence[Step]
ClientMaker = Callable[..., TestClient]  # of the `make_client` fixture


def meta(request: ChatRequest, **changes: Any) -> Meta:
    values: dict[str, Any] = {
        "turn_id": request.turn_id,
        "request_id": request.request_id,
        "conversation_id": request.conversation_id,
        "collection": request.collection,
        "language": request.language or "en",
        "path": "small",
        "route_reason": "evidence",
        "degraded": (),
        "knowledge_version": "v1",
    }
    return Meta(**(values | changes))


def answer(request: ChatRequest) -> Script:
    """A plain generated answer of two deltas and a citation."""
    return (
        meta(request),
        Delta("Within "),
        Delta("30 days.\u2028 是"),
        Cited(CITATION),
        Done(
            path="small",
            finish_reason="stop",
            grounded=True,
            input_tokens=11,
            output_tokens=4,
            ttft_ms=12.5,
            duration_ms=40.0,
            degraded=("large:starting",),
            buttons=(Button("Start a return", "How do I start a return?"),),
            links=(Link("Returns", "https://help.example/returns"),),
        ),
    )


def failed(request: ChatRequest, code: str = "engine_died", retry_after_s: int | None = 5) -> Failed:
    return Failed(code, "The model stopped.", True, request.request_id, retry_after_s)


class ScriptedTurns:
    """Every turn plays `script(request)`; what came in and how each block was left is kept."""

    def __init__(self, script: Callable[[ChatRequest], Script] = answer, status: AppStatus = READY) -> None:
        self.script = script
        self.refusal: BaseException | None = None  # raised on entering
        self.requests: list[ChatRequest] = []
        self.opened = asyncio.Event()
        self.endings: list[str] = []  # "complete" or "left"
        self._status = status

    def status(self) -> AppStatus:
        return self._status

    @asynccontextmanager
    async def open(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[AnswerEvent]]:
        self.requests.append(request)
        self.opened.set()
        if self.refusal is not None:
            raise self.refusal
        given: list[AnswerEvent] = []
        try:
            yield self._play(request, given)
        finally:
            is_complete = bool(given) and isinstance(given[-1], Done | Failed)
            self.endings.append("complete" if is_complete else "left")

    @asynccontextmanager
    async def resume(self, principal: Principal, turn_id: str, after: int) -> AsyncIterator[AsyncIterator[AnswerEvent]]:
        """Of the turns that were played; each is over."""
        yield ReadyEvents((await self.events_so_far(principal, turn_id))[after:])

    async def events_so_far(self, principal: Principal, turn_id: str) -> Sequence[AnswerEvent]:
        for request in self.requests:
            if request.turn_id == turn_id and request.principal == principal:
                return [step for step in self.script(request) if isinstance(step, AnswerEvent)]
        raise NotFoundError

    async def cancel(self, principal: Principal, turn_id: str) -> None:
        await self.events_so_far(principal, turn_id)

    async def _play(self, request: ChatRequest, given: list[AnswerEvent]) -> AsyncIterator[AnswerEvent]:
        for step in self.script(request):
            if isinstance(step, float | int):
                await asyncio.sleep(step)
            elif isinstance(step, BaseException):
                raise step
            else:
                given.append(step)
                yield step


def settings(**branches: Any) -> AppSettings:
    tiers = (
        {"name": "small", "model_id": "smollm2-135m", "model_source": "x"},
        {"name": "large", "model_id": "org/big-7b", "model_source": "x"},
    )
    return AppSettings(**({"tiers": tiers} | branches))


async def embed(text: str) -> Vectors:
    return HashEmbedder(8).embed_queries([text])[0]


def counting_ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"id-{next(numbers)}"
