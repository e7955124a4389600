"""A thin, typed client of the HTTP interface: `Raydesk`, and `AsyncRaydesk` for async code.

    with Raydesk("http://127.0.0.1:8000") as desk:
        print(desk.ask("How much does express delivery cost?").text)

A question is sent under an Idempotency-Key, so that it is asked once however often it has to be sent; a stream that
breaks off goes on after its last event. What the service refuses is an `ApiError`, never tried again by itself: the
error says whether that makes sense, and when.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2
import msgspec

from deployments.answering.protocols import ConversationSummary, Rating
from deployments.answering.types import Button, Citation, Delta, Done, Failed, Language, Link, Meta
from models.protocols import ChatMessage

# The service is never silent for more than 5 s (`http.heartbeat_s`): nothing for so long is a dead connection.
TIMEOUT = httpx2.Timeout(15.0, connect=5.0)  # seconds
FIRST_PAUSE_S = 0.5  # doubled with each try
MOST_TRIES = 6  # without any progress: half a minute together

Event = Meta | Delta | Citation | Done
_KINDS: dict[str, Any] = {"meta": Meta, "delta": Delta, "citation": Citation, "done": Done, "error": Failed}
T = TypeVar("T")


class ApiError(Exception):
    """The service refused, or ended a turn that had begun."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        retry_after_s: int | None = None,
        request_id: str = "",
    ) -> None:
        """status: HTTP's; None for a turn that had begun. retryable: whether asking again may help."""
        super().__init__(f"{code}: {message}" + (f" (request {request_id})" if request_id else ""))
        self.code = code
        self.message = message
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class ConnectionLostError(Exception):
    """The service could not be reached for half a minute; the same question under the same key may be sent again."""

    def __init__(self, idempotency_key: str) -> None:
        super().__init__("the service cannot be reached")
        self.idempotency_key = idempotency_key


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete turn."""

    meta: Meta
    text: str
    citations: tuple[Citation, ...]
    done: Done

    @property
    def turn_id(self) -> str:
        """For `rate`."""
        return self.meta.turn_id

    @property
    def conversation_id(self) -> str:
        """For the next question."""
        return self.meta.conversation_id

    @property
    def path(self) -> str:
        return self.done.path

    @property
    def buttons(self) -> tuple[Button, ...]:
        return self.done.buttons

    @property
    def links(self) -> tuple[Link, ...]:
        return self.done.links


@dataclass(slots=True)
class _Stream:
    """One question and how far its answer has come, without any input or output: both clients drive it."""

    body: Mapping[str, Any]
    idempotency_key: str
    turn_id: str = ""
    last_event: str = ""
    is_over: bool = False
    tries: int = 0

    def request(self) -> dict[str, Any]:
        """The next request, as arguments of httpx2."""
        if self.last_event:
            headers = {"last-event-id": self.last_event}
            return {"method": "GET", "url": f"/v1/turns/{self.turn_id}/events", "headers": headers}
        headers = {"idempotency-key": self.idempotency_key}
        return {"method": "POST", "url": "/v1/chat", "headers": headers, "json": self.body}

    def take(self, sse: httpx2.ServerSentEvent) -> Event | None:
        """None for what is no event of ours, or only the beginning of one. Raises `ApiError`."""
        kind = _KINDS.get(sse.event)
        if kind is None:
            return None
        try:
            event: Event | Failed = msgspec.json.decode(sse.data.encode(), type=kind)
        except msgspec.DecodeError:
            return None  # cut off in the middle: it comes again
        if isinstance(event, Failed):
            raise ApiError(
                event.code,
                event.message,
                retryable=event.retryable,
                retry_after_s=event.retry_after_s,
                request_id=event.request_id,
            )
        if isinstance(event, Meta):
            self.turn_id = event.turn_id
        self.last_event, self.tries = sse.id, 0
        self.is_over = isinstance(event, Done)
        return event

    def pause_s(self, error: Exception | None = None) -> float:
        """How long to wait before the next try. Raises `ConnectionLostError` where there is none."""
        can_go_on = self.last_event or not self.turn_id  # an event without a number cannot be named
        if not can_go_on or self.tries >= MOST_TRIES:
            raise ConnectionLostError(self.idempotency_key) from error
        self.tries += 1
        return FIRST_PAUSE_S * 2.0 ** (self.tries - 1) * random.uniform(0.75, 1.25)  # noqa: S311


@dataclass(slots=True)
class _Collected:
    meta: Meta | None = None
    words: list[str] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    done: Done | None = None

    def add(self, event: Event) -> None:
        match event:
            case Meta():
                self.meta = event
            case Delta(text):
                self.words.append(text)
            case Citation():
                self.citations.append(event)
            case Done():
                self.done = event

    def answer(self) -> Answer:
        assert self.meta is not None  # a stream ends with its `Done`, and begins with its `Meta`
        assert self.done is not None
        return Answer(self.meta, "".join(self.words), tuple(self.citations), self.done)


Question = str | Sequence[ChatMessage]


class Raydesk:
    """For code that waits. Use it as a context manager, or close it."""

    def __init__(self, base_url: str, api_key: str | None = None, *, http: httpx2.Client | None = None) -> None:
        """http: a client of your own, with its proxies and limits; base address and key are yours to set there."""
        self._http = http or httpx2.Client(base_url=base_url, headers=_headers(api_key), timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def ask(self, question: Question, **options: Any) -> Answer:
        """The whole answer; options and errors as of `stream`."""
        collected = _Collected()
        for event in self.stream(question, **options):
            collected.add(event)
        return collected.answer()

    def stream(
        self,
        question: Question,
        *,
        conversation_id: str | None = None,
        collection: str | None = None,
        language: Language | None = None,
        idempotency_key: str | None = None,
    ) -> Iterator[Event]:
        """The answer as it comes: one `Meta`, any number of `Delta` and `Citation`, one `Done`.

        question: a text, or the whole conversation with it as the last message. conversation_id: of an earlier answer,
        where the service remembers what was said. Raises `ApiError`, `ConnectionLostError`.
        """
        stream = _stream(question, conversation_id, collection, language, idempotency_key)
        while True:
            lost: Exception | None = None
            try:
                with self._http.stream(**stream.request()) as response:
                    if response.status_code >= 400:
                        response.read()
                        _check(response)
                    for sse in httpx2.EventSource(response):
                        if (event := stream.take(sse)) is not None:
                            yield event
                        if stream.is_over:
                            return
            except httpx2.TransportError as error:
                lost = error
            time.sleep(stream.pause_s(lost))

    def rate(self, turn_id: str, rating: Rating, comment: str = "") -> None:
        """Whether an answer helped: "up" or "down". The last word counts. Raises `ApiError`."""
        self._send("POST", "/v1/feedback", json={"turn_id": turn_id, "rating": rating, "comment": comment})

    def cancel(self, turn_id: str) -> None:
        """Ends a turn that nobody wants any longer. Raises `ApiError`."""
        self._send("POST", "/v1/cancel", json={"turn_id": turn_id})

    def conversations(self, limit: int = 20) -> list[ConversationSummary]:
        """Those of this key that are remembered, the newest first; limit 1 to 100. Raises `ApiError`."""
        return _conversations(self._send("GET", "/v1/conversations", params={"limit": limit}))

    def conversation(self, conversation_id: str) -> list[ChatMessage]:
        """What is remembered of one, oldest first. Raises `ApiError`: "not_found", also for another key's."""
        return _messages(self._send("GET", f"/v1/conversations/{conversation_id}"))

    def forget(self, conversation_id: str) -> None:
        """Raises `ApiError`."""
        self._send("DELETE", f"/v1/conversations/{conversation_id}")

    def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return _check(self._http.request(method, path, **options))


class AsyncRaydesk:
    """The same for async code."""

    def __init__(self, base_url: str, api_key: str | None = None, *, http: httpx2.AsyncClient | None = None) -> None:
        """http: as of `Raydesk`."""
        self._http = http or httpx2.AsyncClient(base_url=base_url, headers=_headers(api_key), timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, question: Question, **options: Any) -> Answer:
        """The whole answer; options and errors as of `stream`."""
        collected = _Collected()
        async for event in self.stream(question, **options):
            collected.add(event)
        return collected.answer()

    async def stream(
        self,
        question: Question,
        *,
        conversation_id: str | None = None,
        collection: str | None = None,
        language: Language | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncIterator[Event]:
        """As `Raydesk.stream`."""
        stream = _stream(question, conversation_id, collection, language, idempotency_key)
        while True:
            lost: Exception | None = None
            try:
                async with self._http.stream(**stream.request()) as response:
                    if response.status_code >= 400:
                        await response.aread()
                        _check(response)
                    async for sse in httpx2.EventSource(response):
                        if (event := stream.take(sse)) is not None:
                            yield event
                        if stream.is_over:
                            return
            except httpx2.TransportError as error:
                lost = error
            await asyncio.sleep(stream.pause_s(lost))

    async def rate(self, turn_id: str, rating: Rating, comment: str = "") -> None:
        """As `Raydesk.rate`."""
        await self._send("POST", "/v1/feedback", json={"turn_id": turn_id, "rating": rating, "comment": comment})

    async def cancel(self, turn_id: str) -> None:
        """As `Raydesk.cancel`."""
        await self._send("POST", "/v1/cancel", json={"turn_id": turn_id})

    async def conversations(self, limit: int = 20) -> list[ConversationSummary]:
        """As `Raydesk.conversations`."""
        return _conversations(await self._send("GET", "/v1/conversations", params={"limit": limit}))

    async def conversation(self, conversation_id: str) -> list[ChatMessage]:
        """As `Raydesk.conversation`."""
        return _messages(await self._send("GET", f"/v1/conversations/{conversation_id}"))

    async def forget(self, conversation_id: str) -> None:
        """As `Raydesk.forget`."""
        await self._send("DELETE", f"/v1/conversations/{conversation_id}")

    async def _send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        return _check(await self._http.request(method, path, **options))


# --- what both do alike ---


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"authorization": f"Bearer {api_key}"}


def _stream(
    question: Question,
    conversation_id: str | None,
    collection: str | None,
    language: Language | None,
    idempotency_key: str | None,
) -> _Stream:
    messages = [ChatMessage("user", question)] if isinstance(question, str) else question
    options = {"conversation_id": conversation_id, "collection": collection, "language": language}
    body: dict[str, Any] = {"messages": [{"role": message.role, "content": message.content} for message in messages]}
    body |= {name: value for name, value in options.items() if value is not None}
    return _Stream(body, idempotency_key or secrets.token_hex(16))


def _check(response: httpx2.Response) -> httpx2.Response:
    """The response itself, once read. Raises `ApiError`."""
    if response.status_code < 400:
        return response
    request_id = response.headers.get("x-request-id", "")
    after = response.headers.get("retry-after", "")
    retry_after_s = int(after) if after.isdecimal() else None
    try:
        error = response.json()["error"]
        code, message, retryable = error["code"], error["message"], bool(error["retryable"])
    except (ValueError, KeyError, TypeError):  # a proxy's words, not ours
        code, message, retryable = f"http_{response.status_code}", response.reason_phrase, response.status_code >= 502
    raise ApiError(
        code,
        message,
        status=response.status_code,
        retryable=retryable,
        retry_after_s=retry_after_s,
        request_id=request_id,
    )


def _conversations(response: httpx2.Response) -> list[ConversationSummary]:
    return _decoded(response, "conversations", list[ConversationSummary])


def _messages(response: httpx2.Response) -> list[ChatMessage]:
    return _decoded(response, "messages", list[ChatMessage])


def _decoded(response: httpx2.Response, name: str, kind: type[T]) -> T:
    document = msgspec.json.decode(response.content)
    return msgspec.convert(document[name], kind)
