"""Every language model that streams. Factories take the text to be said, which only the fake obeys."""

from __future__ import annotations

import asyncio

import pytest

from models.fakes import ScriptedLLM
from models.protocols import LLM, ChatMessage, GenerationEnd, GenerationRequest, TextDelta

pytestmark = pytest.mark.conformance


def request(max_output_tokens: int = 16) -> GenerationRequest:
    messages = (ChatMessage("system", "You are brief."), ChatMessage("user", "Count from one to nine."))
    return GenerationRequest(messages, max_output_tokens, seed=0, request_id="r-1")


@pytest.fixture(params=["scripted", "scripted-slow"])
def llm(request: pytest.FixtureRequest) -> LLM:
    said = "one two three four five six seven eight nine 完"
    if request.param == "scripted":
        return ScriptedLLM(said)
    return ScriptedLLM(said, ttft_s=0.002, tokens_per_s=1000)


async def test_text_comes_first_and_one_end_last(llm: LLM) -> None:
    items = [item async for item in llm.generate(request())]
    *deltas, end = items
    assert isinstance(end, GenerationEnd)
    assert deltas
    assert all(isinstance(delta, TextDelta) and delta.text for delta in deltas)


async def test_tokens_are_counted(llm: LLM) -> None:
    *_, end = [item async for item in llm.generate(request())]
    assert isinstance(end, GenerationEnd)
    assert end.input_tokens > 0
    assert 0 < end.output_tokens <= 16


async def test_the_length_limit_holds(llm: LLM) -> None:
    *_, end = [item async for item in llm.generate(request(max_output_tokens=3))]
    assert isinstance(end, GenerationEnd)
    assert (end.finish_reason, end.output_tokens) == ("length", 3)


async def test_closing_early_leaves_the_model_usable(llm: LLM) -> None:
    stream = llm.generate(request())
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    *_, end = [item async for item in llm.generate(request())]
    assert isinstance(end, GenerationEnd)


async def test_requests_may_overlap(llm: LLM) -> None:
    async def text() -> str:
        return "".join([item.text async for item in llm.generate(request()) if isinstance(item, TextDelta)])

    first, second = await asyncio.gather(text(), text())
    assert first == second  # temperature 0 and the same seed
