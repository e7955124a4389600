"""A language model that never sees personal data: replaced in what it is told, put back in what it says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import structlog

from deployments.answering.redaction import Redaction
from models.protocols import LLM, ChatMessage, GenerationEnd, GenerationRequest, TextDelta

log = structlog.get_logger(__name__)


class RedactedLLM:
    """As `models.protocols.LLM`, around one."""

    def __init__(self, llm: LLM) -> None:
        self._llm = llm

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
        redaction = Redaction(request.private)
        messages = tuple(ChatMessage(each.role, redaction.redacted(each.content)) for each in request.messages)
        said = redaction.redacted(request.continuation)
        safe = replace(request, messages=messages, private=(), continuation=said)
        if redaction.count:
            log.info("redacted", request_id=request.request_id, replaced=redaction.count)
        restoring = redaction.restoring()
        async with aclosing(self._llm.generate(safe)) as items:  # type: ignore[type-var]  # all of ours are generators
            async for item in items:
                if isinstance(item, TextDelta):
                    if text := restoring.feed(item.text):
                        yield TextDelta(text)
                    continue
                if text := restoring.rest():
                    yield TextDelta(text)
                yield item
