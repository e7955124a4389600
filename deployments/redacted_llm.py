"""A language model that never sees personal data: replaced in what it is told, put back in what it says."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import structlog

from deployments.answering.redaction import Redaction, Restoring
from models.protocols import (
    LLM,
    ChatMessage,
    Generated,
    GenerationEnd,
    GenerationRequest,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallsMessage,
)

log = structlog.get_logger(__name__)
# Of a function's definition: what its author may have put of a customer. All else are names, which have to stay.
_WORDS = frozenset({"title", "description", "enum", "const", "default", "examples"})


class RedactedLLM:
    """As `models.protocols.LLM`, around one."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
        redaction = Redaction(request.private)
        safe = replace(
            request,
            messages=tuple(_message(message, redaction) for message in request.messages),
            private=(),
            continuation=redaction.redacted(request.continuation),
            tools=_definitions(request.tools, redaction),
        )
        if redaction.count:
            log.info("redacted", request_id=request.request_id, replaced=redaction.count)
        restoring = redaction.restoring()
        arguments: defaultdict[int, Restoring] = defaultdict(redaction.restoring)  # by the call's place
        async with aclosing(self._llm.generate(safe)) as items:  # type: ignore[type-var]  # all of ours are generators
            async for item in items:
                match item:
                    case TextDelta(text):
                        if text := restoring.feed(text):
                            yield replace(item, text=text)
                    case ToolCallDelta():
                        yield replace(item, arguments=arguments[item.index].feed(item.arguments, in_json=True))
                    case GenerationEnd():
                        for index, waiting in arguments.items():
                            yield ToolCallDelta(index, arguments=waiting.rest(in_json=True))
                        if text := restoring.rest():
                            yield TextDelta(text)
                        yield item


def _message(message: ChatMessage, redaction: Redaction) -> ChatMessage:
    message = replace(message, content=redaction.redacted(message.content))
    if isinstance(message, ToolCallsMessage):
        return replace(message, calls=tuple(_call(call, redaction) for call in message.calls))
    return message


def _call(call: ToolCall, redaction: Redaction) -> ToolCall:
    return replace(call, arguments=json.dumps(_values(json.loads(call.arguments), redaction), ensure_ascii=False))


def _values(value: Any, redaction: Redaction) -> Any:
    """The same, each text and number without what is personal; one that held any is a text then."""
    match value:
        case dict():
            return {name: _values(one, redaction) for name, one in value.items()}
        case list():
            return [_values(one, redaction) for one in value]
        case str():
            return redaction.redacted(value)
        case int() | float() if not isinstance(value, bool):
            written = redaction.redacted(str(value))
            return value if written == str(value) else written
        case _:
            return value


def _definitions(value: Any, redaction: Redaction) -> Any:
    match value:
        case Mapping():
            return {name: (_values if name in _WORDS else _definitions)(one, redaction) for name, one in value.items()}
        case list():
            return [_definitions(one, redaction) for one in value]
        case _:
            return value
