"""Turns whose callers bring functions along: what a model is told, and what becomes of its calls."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.answering.errors import DependencyError, RoomUnavailableError
from deployments.answering.types import AnswerEvent, Cited, Delta, Done, Evidence, Meta, ToolUse, TurnRecord
from deployments.fakes import InMemoryRetriever
from deployments.redacted_llm import RedactedLLM
from models.fakes import HashEmbedder, ScriptedLLM
from models.protocols import (
    ChatMessage,
    Generated,
    GenerationRequest,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallsMessage,
    ToolResultMessage,
)
from tests.unit.deployments.conftest import CHUNKS, Shop

pytestmark = pytest.mark.unit

CALL = ToolCall("c-1", "parcel", '{"order": "NL-20458812"}')
FIELDS = {"tools": [{"type": "function", "function": {"name": "parcel", "parameters": {"type": "object"}}}]}
DELIVERY = "Standard delivery costs 4.95 euros."


async def shop(tmp_path: Path, *script: Any, **changes: Any) -> Shop:
    limits = {"tool_call_parser": "hermes"}
    return await Shop(tmp_path, llm=ScriptedLLM(list(script)), limits=limits, **changes).ready()


async def asked(desk: Shop, *messages: ChatMessage, **changes: Any) -> tuple[list[AnswerEvent], TurnRecord]:
    plain = [message.content for message in messages if type(message) is ChatMessage]
    return await desk.ask(*plain, tool_use=ToolUse(FIELDS, messages), **changes)


@pytest.mark.parametrize("question", ["opening hours today?", "How long does a refund take?", "thanks!"])
async def test_a_model_is_asked_where_another_path_would_answer(question: str, tmp_path: Path) -> None:
    desk = await shop(tmp_path, "warm", (CALL,))
    for _ in range(2):
        events, record = await asked(desk, ChatMessage("user", question))
        assert isinstance(events[0], Meta)
        assert (events[0].path, events[1]) == ("small", CALL)
        assert isinstance(events[2], Done)
        assert (events[2].finish_reason, record.finish_reason, record.answer) == ("tool_calls", "tool_calls", "")
    assert desk.llm.requests[-1].tools == FIELDS


async def test_what_functions_returned_is_told_and_nothing_of_the_answer_is_stored(tmp_path: Path) -> None:
    desk = await shop(tmp_path, "warm", f"Your parcel is in Cologne. {DELIVERY}")
    question = ChatMessage("user", "what does standard delivery to Cologne cost")
    calls, result = ToolCallsMessage("assistant", "", (CALL,)), ToolResultMessage("tool", "In Cologne.", "c-1")
    for _ in range(3):
        events, _ = await asked(desk, question, calls, result)
        assert [event.citation.chunk_id for event in events if isinstance(event, Cited)] == ["delivery"]
        assert any(isinstance(event, Delta) for event in events)
    system, user, *rest = desk.llm.requests[-1].messages
    assert system.role == "system"
    assert user.content.startswith("<source>")
    assert user.content.endswith(question.content)
    assert rest == [calls, result]
    _, record = await desk.ask(question.content)
    assert record.path != "exact_cache"


async def test_without_knowledge_the_functions_are_still_there(tmp_path: Path) -> None:
    class Away(InMemoryRetriever):
        async def search(self, *args: Any) -> Evidence:
            raise DependencyError

    desk = await shop(tmp_path, "warm", (CALL,), retriever=Away(HashEmbedder(dim=512), CHUNKS))
    question = ChatMessage("user", "Where is my parcel?")
    events, record = await asked(desk, question)
    assert CALL in events
    assert record.degraded == ["knowledge:down"]
    assert desk.llm.requests[-1].messages[-1] == question


async def test_where_no_model_can_be_asked_that_is_an_error(tmp_path: Path) -> None:
    able = Shop(tmp_path, limits={"tool_call_parser": "hermes"})  # and not up
    unable = await Shop(tmp_path).ready()
    for desk in (able, unable):
        with pytest.raises(RoomUnavailableError):
            await asked(desk, ChatMessage("user", "How long does a refund take?"))


async def test_a_model_outside_is_told_nothing_personal_and_its_calls_are_made_whole() -> None:
    seen: list[GenerationRequest] = []

    def repeats(request: GenerationRequest) -> tuple[ToolCall, ...]:
        seen.append(request)
        last = request.messages[1]
        assert isinstance(last, ToolCallsMessage)
        return (replace(last.calls[0], id="c-2"), replace(last.calls[1], id="c-3"))

    said = '{"order": "NL-20458812", "note": "the \\"blue\\" box 大", "count": 2, "phone": 13812345678, "gift": true}'
    calls = (ToolCall("c-1", "parcel", said), ToolCall("c-1b", "parcel", '{"who": ["ada@mail.example"]}'))
    tools = {"tools": [{"type": "function", "function": {"name": "parcel_20458812", "description": "of NL-20458812"}}]}
    request = GenerationRequest(
        (ChatMessage("user", "Where is NL-20458812?"), ToolCallsMessage("assistant", "", calls)),
        16,
        tools=tools,
        private=('the "blue" box 大',),
    )
    items: list[Generated] = [item async for item in RedactedLLM(ScriptedLLM(repeats)).generate(request)]
    for secret in ("20458812", "13812345678", "ada@", "blue"):
        assert secret not in str(seen[0].messages)
    assert seen[0].tools["tools"][0]["function"]["name"] == "parcel_20458812"
    assert "20458812" not in seen[0].tools["tools"][0]["function"]["description"]
    pieces = [item for item in items if isinstance(item, ToolCallDelta)]
    assert not any(isinstance(item, TextDelta) for item in items)
    assert [piece.id for piece in pieces if piece.id] == ["c-2", "c-3"]
    whole = said.replace("13812345678", '"13812345678"')  # a number that was replaced comes back as a text
    arguments = ["".join(piece.arguments for piece in pieces if piece.index == index) for index in (0, 1)]
    assert arguments == [whole, '{"who": ["ada@mail.example"]}']
