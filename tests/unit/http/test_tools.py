"""Functions that a caller brings along, over the OpenAI-compatible wire, with the stock client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest

from deployments.answering.types import ChatRequest, Delta, Done
from deployments.http.app import build_http_app
from models.protocols import ChatMessage, ToolCall, ToolCallsMessage, ToolResultMessage
from tests.unit.http.scripted_turns import Script, ScriptedTurns, counting_ids, meta, settings

pytestmark = pytest.mark.unit

PARAMETERS = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
TOOL: Any = {"type": "function", "function": {"name": "find_order", "description": "Où?", "parameters": PARAMETERS}}
OTHER: Any = {"type": "function", "function": {"name": "cancel_order"}}
ASK: Any = [{"role": "user", "content": "Where is order 7?"}]
CALLS = (ToolCall("c-1", "find_order", '{"order": "7"}'), ToolCall("c-2", "find_order", '{"order": "八"}'))
CHOSEN: Any = {"type": "function", "function": {"name": "find_order"}}
TIERS = (
    {"name": "small", "model_id": "able", "model_source": "x", "tool_call_parser": "hermes"},
    {"name": "large", "model_id": "unable", "model_source": "x"},
    {
        "name": "cloud",
        "model_id": "away",
        "openai": {"base_url": "https://models.example/v1", "tenants": ["other"], "takes_tools": True},
    },
)


def calling(request: ChatRequest) -> Script:
    return (meta(request), Delta("One moment."), *CALLS, Done("small", "tool_calls", False, 11, 4))


@pytest.fixture
async def stock(turns: ScriptedTurns) -> AsyncIterator[openai.AsyncOpenAI]:
    turns.script = calling
    app = build_http_app(settings(tiers=TIERS), turns, new_id=counting_ids(), now_s=lambda: 1e9)
    http_client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    async with openai.AsyncOpenAI(
        base_url="http://127.0.0.1:8000/v1", api_key="any", http_client=http_client, max_retries=0
    ) as client:
        yield client


async def test_calls_of_a_document(stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    choice = (await stock.chat.completions.create(model="raydesk", messages=ASK, tools=[TOOL])).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "One moment.")
    called: Any = choice.message.tool_calls
    assert [ToolCall(call.id, call.function.name, call.function.arguments) for call in called] == list(CALLS)
    turns.script = lambda request: [meta(request), CALLS[0], Done("small", "tool_calls", False)]
    choice = (await stock.chat.completions.create(model="raydesk", messages=ASK, tools=[TOOL])).choices[0]
    assert choice.message.content is None


async def test_calls_of_a_stream_are_put_together_by_the_client(stock: openai.AsyncOpenAI) -> None:
    async with stock.chat.completions.stream(model="able", messages=ASK, tools=[TOOL]) as stream:
        completion = await stream.get_final_completion()
    choice = completion.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "One moment.")
    called: Any = choice.message.tool_calls
    assert [ToolCall(call.id, call.function.name, call.function.arguments) for call in called] == list(CALLS)


async def test_the_conversation_reaches_the_turn_whole(stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    async with stock.chat.completions.stream(model="raydesk", messages=ASK, tools=[TOOL]) as stream:
        said: Any = (await stream.get_final_completion()).choices[0].message  # with what the client adds to it
    results: Any = [{"role": "tool", "tool_call_id": call.id, "content": f"order of {call.id}"} for call in CALLS]
    system: Any = {"role": "system", "content": "Obey"}
    await stock.chat.completions.create(
        model="able", messages=[system, *ASK, said, *results], tools=[TOOL, OTHER], tool_choice=CHOSEN,
        parallel_tool_calls=False,
    )  # fmt: skip
    first, second = turns.requests
    question = ChatMessage("user", "Where is order 7?")
    assert first.tool_use is not None
    assert (first.messages, first.tool_use.messages) == ((question,), (question,))
    assert first.tool_use.fields == {"tools": [TOOL]}
    assert second.tool_use is not None
    assert (second.messages, second.model) == ((question,), "small")
    assert second.tool_use.messages == (
        question,
        ToolCallsMessage("assistant", "One moment.", CALLS),
        ToolResultMessage("tool", "order of c-1", "c-1"),
        ToolResultMessage("tool", "order of c-2", "c-2"),
    )
    fields = {"tools": [TOOL, OTHER], "tool_choice": CHOSEN, "parallel_tool_calls": False}
    assert second.tool_use.fields == fields


async def test_what_can_call_nothing_is_an_ordinary_question(stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    await stock.chat.completions.create(model="unable", messages=ASK, tools=[TOOL], tool_choice="none")
    await stock.chat.completions.create(model="unable", messages=ASK, tools=[])
    assert [request.tool_use for request in turns.requests] == [None, None]


@pytest.mark.parametrize(("model", "param"), [("unable", "tools"), ("away", None)])
async def test_a_tier_that_takes_no_tools_says_so(
    model: str, param: str | None, stock: openai.AsyncOpenAI, turns: ScriptedTurns
) -> None:
    """One that this tenant may not use does not exist for it, which the turn says."""
    if param is None:
        await stock.chat.completions.create(model=model, messages=ASK, tools=[TOOL])
        assert turns.requests[0].model == "cloud"
        return
    with pytest.raises(openai.BadRequestError) as refused:
        await stock.chat.completions.create(model=model, messages=ASK, tools=[TOOL])
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", param)
    assert turns.requests == []


RESULT: Any = {"role": "tool", "tool_call_id": "c-1", "content": "x"}
CALLED: Any = {"id": "c-1", "type": "function", "function": {"name": "find_order", "arguments": "{}"}}


def schema(**changes: Any) -> Any:
    return [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"} | changes}}]


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "invalid_request", "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "invalid_request", "tools[0].function.name"),
        ({"tools": [TOOL] * 129}, "invalid_request", "tools"),
        ({"tool_choice": "any"}, "invalid_request", "tool_choice"),
        ({"tool_choice": CHOSEN, "tools": [OTHER]}, "invalid_request", "tool_choice"),
        (
            {"tools": schema(properties={"a": {"items": [{"pattern": "(a+)+$"}]}})},
            "unsupported_parameter",
            "tools[0].function.parameters",
        ),
        ({"tools": schema(patternProperties={})}, "unsupported_parameter", "tools[0].function.parameters"),
        ({"messages": [*ASK, RESULT]}, "invalid_request", "messages[1].tool_call_id"),
        ({"messages": [RESULT]}, "invalid_request", "messages[0].tool_call_id"),
        ({"messages": [*ASK, {"role": "assistant", "tool_calls": [CALLED]}]}, "invalid_request", "messages[1].role"),
        ({"messages": [{"role": "user", "tool_calls": [CALLED]}]}, "invalid_request", "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant"}, *ASK]}, "invalid_request", "messages[0].content"),
        (
            {"messages": [*ASK, {"role": "assistant", "tool_calls": [CALLED]}, RESULT | {"content": "x" * 9000}]},
            "invalid_request",
            "messages[2].content",
        ),
        *[
            (
                {"messages": [*ASK, {"role": "assistant", "tool_calls": [CALLED | {"function": function}]}, RESULT]},
                "invalid_request",
                "messages[1].tool_calls[0].function.arguments",
            )
            for function in ({"name": "f", "arguments": "{"}, {"name": "f", "arguments": "[]"})
        ],
    ],
)
async def test_what_an_engine_could_choke_on_is_refused_at_the_door(
    changes: dict[str, Any], code: str, param: str, stock: openai.AsyncOpenAI, turns: ScriptedTurns
) -> None:
    body = {"model": "raydesk", "messages": ASK, "tools": [TOOL]} | changes
    with pytest.raises(openai.BadRequestError) as refused:
        await stock.post("/chat/completions", body=body, cast_to=object)
    assert (refused.value.code, refused.value.param) == (code, param)
    assert turns.requests == []


async def test_a_property_may_be_called_pattern(stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    tools = schema(properties={"pattern": {"type": "string"}})
    await stock.chat.completions.create(model="raydesk", messages=ASK, tools=tools)
    assert turns.requests[0].tool_use is not None
