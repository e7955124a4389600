"""A language model behind an OpenAI-compatible address: a cloud's, or a vLLM somewhere else.

One pool of connections a process, opened before the first question needs one. What the other side answers becomes one
of our errors, by what it says of the engine: a refusal (4xx) says nothing of its health, 429 asks for a pause, all else
is a fault. Speaks HTTP/2 where the package `h2` is installed, HTTP/1.1 otherwise.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.util import find_spec
from math import ceil
from typing import Any

import httpx2
import structlog

from deployments.answering.errors import (
    DeadlineExceededError,
    EngineBusyError,
    EngineDiedError,
    EngineRefusedError,
    RaydeskError,
    RoomUnavailableError,
)
from deployments.engine_wire import call_deltas, wire_messages
from deployments.pace import Pace
from deployments.settings import TierSettings
from models.protocols import FinishReason, Generated, GenerationEnd, GenerationRequest, TextDelta

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 60.0  # an idle connection outlives the pauses between two looks at the tier
MAX_ERROR_BYTES = 2000  # of an error's body that goes to the log
MAX_RETRY_AFTER_S = 3600
_FINISH: dict[str, FinishReason] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


class OpenAIEngine:
    """As `models.protocols.LLM`, for the tenants that may use it."""

    def __init__(
        self,
        tier: TierSettings,
        api_key: str | None,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """api_key: sent as a bearer token, and nowhere else. transport: in place of the network, for tests."""
        if tier.openai is None:
            raise ValueError(f"the {tier.name} tier has no settings 'openai'")
        self._tier = tier
        self._endpoint = tier.openai
        self._pace = Pace(tier.chunk_interval_ms / 1000, tier.chunks_per_s)
        headers = {"accept": "text/event-stream, application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        # The tier's limits are tighter; these hold where nobody set any.
        silence_s = max(tier.first_token_timeout_s, tier.inter_token_timeout_s)
        at_once = self._endpoint.max_connections
        self._client = httpx2.AsyncClient(
            base_url=self._endpoint.base_url,
            headers=headers,
            http2=find_spec("h2") is not None,
            timeout=httpx2.Timeout(silence_s, connect=self._endpoint.connect_timeout_s, pool=silence_s),
            limits=httpx2.Limits(
                max_connections=at_once, max_keepalive_connections=at_once, keepalive_expiry=KEEP_ALIVE_S
            ),
            transport=transport,
        )

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
        if not self._endpoint.may_use(request.tenant):
            raise EngineRefusedError(f"tenant {request.tenant!r} may not use the {self._tier.name} tier")
        async with aclosing(self._pace.kept(self._batches(request))) as batches:
            async for batch in batches:
                for item in batch:
                    yield item

    async def _batches(self, request: GenerationRequest) -> AsyncGenerator[list[Generated], None]:
        body = self._body(request)
        finish_reason: FinishReason | None = None
        usage: Mapping[str, Any] = {}
        pieces = 0
        async with self._answered(body) as response:
            async for event in httpx2.EventSource(response):
                if event.data.strip() == "[DONE]":
                    break
                chunk = _document(event.data)
                usage = chunk.get("usage") or usage
                for choice in chunk.get("choices") or ():
                    delta = choice.get("delta") or {}
                    if text := delta.get("content"):
                        pieces += 1
                        yield [TextDelta(text)]
                    for piece in call_deltas(delta):
                        pieces += 1
                        yield [piece]
                    finish_reason = _finish_reason(choice.get("finish_reason")) or finish_reason
        if finish_reason is None:
            raise EngineDiedError("the stream ended before the answer did")
        input_tokens = int(usage.get("prompt_tokens") or _estimated_tokens(request))
        yield [GenerationEnd(finish_reason, input_tokens, int(usage.get("completion_tokens") or pieces))]

    async def ping(self) -> None:
        """Opens connections, and leaves them open; raises what `generate` would where nobody is there."""
        await asyncio.gather(*(self._look() for _ in range(self._endpoint.warm_connections)))

    async def stop(self) -> None:
        await self._client.aclose()

    async def _look(self) -> None:
        with _ours():
            response = await self._client.get("models")
        # Not all of them list their models; whoever says so is there.
        if response.status_code not in (200, 404, 405):
            raise _refusal(response)

    @asynccontextmanager
    async def _answered(self, body: dict[str, Any]) -> AsyncGenerator[httpx2.Response, None]:
        """A stream that has begun. Leaving the block early closes the connection, which is how the engine is told."""
        with _ours():
            async with self._client.stream("POST", "chat/completions", json=body) as response:
                if response.status_code != 200:
                    said = await _beginning(response)
                    log.warning("engine_refused", tier=self._tier.name, status=response.status_code, said=said)
                    raise _refusal(response)
                yield response

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        endpoint = self._endpoint
        messages = wire_messages(request.messages)
        body: dict[str, Any] = {
            **endpoint.extra_body,
            **request.tools,
            "model": endpoint.model or self._tier.model_id,
            "messages": messages,
            endpoint.max_tokens_field: request.max_output_tokens,
            "temperature": request.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.continuation:
            if not endpoint.continues:
                raise EngineRefusedError(f"the {self._tier.name} tier cannot go on from what was said")
            messages.append({"role": "assistant", "content": request.continuation})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body


class _ours:  # noqa: N801 - reads as a word in a with statement
    """What the HTTP client raises, as one of ours. No message holds the address: it goes to no customer."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        match error:
            case None | RaydeskError():
                return
            case httpx2.PoolTimeout():
                raise EngineBusyError("all connections are in use") from error
            case httpx2.TimeoutException():
                raise DeadlineExceededError(f"the engine was silent: {type(error).__name__}") from error
            case httpx2.ConnectError():
                raise RoomUnavailableError("the engine cannot be reached") from error
            case httpx2.TransportError():
                raise EngineDiedError(f"the connection broke: {type(error).__name__}") from error


def _refusal(response: httpx2.Response) -> RaydeskError:
    status = response.status_code
    what = f"the engine answered {status}"
    if status == 429:
        return EngineBusyError(what, _retry_after_s(response.headers.get("retry-after", "")))
    if status == 503 and (pause_s := _retry_after_s(response.headers.get("retry-after", ""))) is not None:
        return EngineBusyError(what, pause_s)
    return EngineDiedError(what) if status >= 500 or status == 408 else EngineRefusedError(what)


def _retry_after_s(value: str) -> int | None:
    """Whole seconds, of a number or a date (RFC 9110, 10.2.3); None where it says neither."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(1, ceil(seconds)), MAX_RETRY_AFTER_S) if seconds == seconds else None


def _document(data: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise EngineDiedError("the engine sent what is not JSON") from error
    if not isinstance(document, dict):
        raise EngineDiedError("the engine sent what is no completion")
    if (said := document.get("error")) is not None:
        log.warning("engine_broke_off", said=str(said)[:MAX_ERROR_BYTES])
        raise EngineDiedError("the engine broke off")
    return document


def _finish_reason(said: str | None) -> FinishReason | None:
    if said is None:
        return None
    if said not in _FINISH:  # "content_filter": no whole answer
        raise EngineRefusedError(f"the engine ended with {said!r}")
    return _FINISH[said]


async def _beginning(response: httpx2.Response) -> str:
    """Of an error's body; it may be anything, of any length."""
    said = b""
    async for part in response.aiter_bytes():
        said += part
        if len(said) >= MAX_ERROR_BYTES:
            break
    return said[:MAX_ERROR_BYTES].decode("utf-8", "replace")


def _estimated_tokens(request: GenerationRequest) -> int:
    """Where the engine counts none: about four bytes of UTF-8 a token, which is near in English and Chinese."""
    return sum(len(message.content.encode("utf-8", "replace")) for message in request.messages) // 4 + 1
