"""What every language model that streams must do. A new one subclasses `LLMSuite` and brings the fixture `llm`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

from models.protocols import (
    LLM,
    ChatMessage,
    GenerationEnd,
    GenerationRequest,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallsMessage,
    ToolResultMessage,
)

PARAMETERS = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
TOOLS = {"tools": [{"type": "function", "function": {"name": "find_order", "parameters": PARAMETERS}}]}


def request(max_output_tokens: int = 16) -> GenerationRequest:
    messages = (ChatMessage("system", "You are brief."), ChatMessage("user", "Count from one to nine."))
    return GenerationRequest(messages, max_output_tokens, seed=0, request_id="r-1")


class LLMSuite:
    async def test_text_comes_first_and_one_end_last(self, llm: LLM) -> None:
        items = [item async for item in llm.generate(request())]
        *deltas, end = items
        assert isinstance(end, GenerationEnd)
        assert deltas
        assert all(isinstance(delta, TextDelta) and delta.text for delta in deltas)

    async def test_tokens_are_counted(self, llm: LLM) -> None:
        *_, end = [item async for item in llm.generate(request())]
        assert isinstance(end, GenerationEnd)
        assert end.input_tokens > 0
        assert 0 < end.output_tokens <= 16

    async def test_the_length_limit_holds(self, llm: LLM) -> None:
        *_, end = [item async for item in llm.generate(request(max_output_tokens=3))]
        assert isinstance(end, GenerationEnd)
        assert (end.finish_reason, end.output_tokens) == ("length", 3)

    async def test_closing_early_leaves_the_model_usable(self, llm: LLM) -> None:
        stream = llm.generate(request())
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        *_, end = [item async for item in llm.generate(request())]
        assert isinstance(end, GenerationEnd)

    async def test_requests_may_overlap(self, llm: LLM) -> None:
        async def text() -> str:
            return "".join([item.text async for item in llm.generate(request()) if isinstance(item, TextDelta)])

        first, second = await asyncio.gather(text(), text())
        assert first == second  # temperature 0 and the same seed

    async def test_it_goes_on_from_what_was_said(self, llm: LLM) -> None:
        async def text(max_output_tokens: int, continuation: str = "") -> str:
            items = llm.generate(replace(request(max_output_tokens), continuation=continuation))
            return "".join([item.text async for item in items if isinstance(item, TextDelta)])

        said = await text(3)
        assert said + await text(5, said) == await text(8)


class ToolSuite:
    """What a model must do besides that takes functions: call one where it is told to, and read what that returned.

    The fixture's model calls `find_order`.
    """

    async def test_a_call_comes_with_its_arguments_and_its_result_is_taken(self, llm: LLM) -> None:
        tools = TOOLS | {"tool_choice": {"type": "function", "function": {"name": "find_order"}}}
        asked = replace(request(64), tools=tools)
        items = [item async for item in llm.generate(asked)]
        pieces = [item for item in items if isinstance(item, ToolCallDelta)]
        assert {piece.index for piece in pieces} == {0}
        call = ToolCall(*("".join(getattr(piece, name) for piece in pieces) for name in ("id", "name", "arguments")))
        assert (bool(call.id), call.name, list(json.loads(call.arguments))) == (True, "find_order", ["order"])
        assert isinstance(items[-1], GenerationEnd)
        assert items[-1].finish_reason in ("tool_calls", "stop")
        told = (ToolCallsMessage("assistant", "", (call,)), ToolResultMessage("tool", "It is in Cologne.", call.id))
        answer = replace(request(), messages=(*asked.messages, *told), tools=TOOLS)
        text = [item.text async for item in llm.generate(answer) if isinstance(item, TextDelta)]
        assert "".join(text).strip()
