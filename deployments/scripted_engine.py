"""The replica of a tier without a model: a script at a set speed, behind the wire of `deployments/engine.py`.

For tests and measurements of everything around a model: it starts at once, takes little memory, and hundreds of
streams at a time. What it says depends on the prompt alone, so that an answer which two replicas have made together
can be held against a whole one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from itertools import count, cycle
from typing import Any

from deployments.answering.grounding import split_sentences
from deployments.engine_streams import EngineStreams
from deployments.engine_wire import message_of
from deployments.settings import TierSettings
from models.fakes import ScriptedLLM, tokens_of
from models.protocols import Generated, GenerationRequest, ToolCall

_SOURCE = re.compile(r"<source[^>]*>\s*(.*?)\s*</source>", re.DOTALL)


class ScriptedEngine:
    def __init__(self, tier: TierSettings, is_alive: Callable[[str], Awaitable[bool]]) -> None:
        """tier: with a script. is_alive: of an actor, by its name, that reads a generation."""
        if tier.script is None:
            raise ValueError(f"the {tier.name} tier has no settings 'script'")
        self._script = tier.script
        self._running = 0
        self._streams = EngineStreams(tier, is_alive)

    async def generate(
        self, request: dict[str, Any], holder: str = "", generation: str = ""
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """As `deployments.engine.TierServer.generate`."""
        said = self._generate(request)
        async with aclosing(self._streams.of(said, request["max_tokens"], holder, generation)) as batches:
            async for batch in batches:
                yield batch

    async def renew(self, holder: str, generations: list[str]) -> None:
        self._streams.renew(holder, generations)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return self._streams.stats()

    async def _generate(self, request: dict[str, Any]) -> AsyncGenerator[list[Generated], None]:
        self._running += 1
        try:
            yield []
            async for item in self._llm().generate(_request(request)):
                yield [item]
        finally:
            self._running -= 1

    def running(self) -> tuple[int, int]:
        """(process id, generations at work)."""
        return os.getpid(), self._running

    def _llm(self) -> ScriptedLLM:
        script = self._script
        return ScriptedLLM(
            lambda request: calls_of(request) or script_of(request, script.tokens),
            ttft_s=script.first_token_ms / 1000,
            tokens_per_s=script.tokens_per_s,
        )


def script_of(request: GenerationRequest, tokens: int) -> str:
    """The sentences of the sources in the prompt, numbered, round and round, `tokens` long; without sources those of
    the last message. The numbers make every place in it different from every other."""
    said = request.messages[-1].content
    sentences = [sentence.strip() for source in _SOURCE.findall(said) or [said] for sentence in split_sentences(source)]
    pieces: list[str] = []
    for number, sentence in zip(count(1), cycle(sentences or ["…"])):
        pieces += tokens_of(f"{number}. {sentence}\n")
        if len(pieces) >= tokens:
            break
    return "".join(pieces[:tokens]).rstrip()


def calls_of(request: GenerationRequest) -> tuple[ToolCall, ...]:
    """Of the function that is to be called, or the first: with the customer's words for everything it needs.

    None where nothing is offered, and once it has answered.
    """
    tools, choice = request.tools.get("tools"), request.tools.get("tool_choice")
    last = request.messages[-1]
    if not tools or choice == "none" or last.role == "tool":
        return ()
    named = choice["function"]["name"] if isinstance(choice, dict) else tools[0]["function"]["name"]
    schema = next(tool["function"].get("parameters") for tool in tools if tool["function"]["name"] == named) or {}
    arguments = {name: _SOURCE.sub("", last.content).strip() for name in schema.get("required", ())}
    return (ToolCall(f"call-{len(request.messages)}", named, json.dumps(arguments, ensure_ascii=False)),)


def _request(body: dict[str, Any]) -> GenerationRequest:
    messages = [message_of(message) for message in body["messages"]]
    continuation = messages.pop().content if body.get("continue_final_message") else ""
    return GenerationRequest(
        tuple(messages),
        body["max_tokens"],
        stop=tuple(body.get("stop", ())),
        continuation=continuation,
        tools={name: body[name] for name in ("tools", "tool_choice") if name in body},
    )
