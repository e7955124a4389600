"""The stock `openai` client against the HTTP side, in process."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from deployments.answering.errors import OverloadedError
from deployments.answering.types import Delta, Done
from deployments.http.app import build_http_app
from tests.unit.http.scripted_turns import ScriptedTurns, counting_ids, embed, failed, meta, settings

pytestmark = pytest.mark.unit

KEY = {"id": "shop", "sha256": hashlib.sha256(b"rk-shop").hexdigest(), "tenant": "shop"}
ASK: list[Any] = [{"role": "user", "content": "How long may I return?"}]
TEXT = "Within 30 days.\u2028 是"


@pytest.fixture
async def stock(turns: ScriptedTurns) -> AsyncIterator[openai.AsyncOpenAI]:
    app = build_http_app(settings(auth={"keys": [KEY]}), turns, embed=embed, new_id=counting_ids(), now_s=lambda: 1e9)
    http_client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    async with openai.AsyncOpenAI(
        base_url="http://127.0.0.1:8000/v1",
        api_key="rk-shop",
        http_client=http_client,
        max_retries=0,
    ) as client:
        yield client


async def test_a_completion(stock: openai.AsyncOpenAI) -> None:
    completion = await stock.chat.completions.create(model="raydesk", messages=ASK)
    assert completion.id.startswith("chatcmpl-")
    assert (completion.object, completion.created, completion.model) == ("chat.completion", 10**9, "raydesk")
    choice = completion.choices[0]
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", TEXT, "stop")
    assert choice.message.citations[0]["url"] == "https://help.example/returns"  # type: ignore[attr-defined]
    assert choice.message.raydesk["path"] == "small"  # type: ignore[attr-defined]
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.total_tokens) == (11, 15)


async def test_a_stream(stock: openai.AsyncOpenAI) -> None:
    stream = await stock.chat.completions.create(
        model="smollm2-135m", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    with_choice = [chunk for chunk in chunks if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in with_choice) == TEXT
    assert with_choice[0].choices[0].delta.role == "assistant"
    assert with_choice[-2].choices[0].delta.citations[0]["index"] == 1  # type: ignore[attr-defined]
    assert with_choice[-2].choices[0].delta.raydesk["duration_ms"] == 40.0  # type: ignore[attr-defined]
    assert [chunk.choices[0].finish_reason for chunk in with_choice] == [None] * 4 + ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_stream_without_usage(stock: openai.AsyncOpenAI) -> None:
    stream = await stock.chat.completions.create(model="raydesk", messages=ASK, stream=True)
    assert [chunk.usage async for chunk in stream] == [None] * 5


async def test_parameters_reach_the_turn(stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    await stock.chat.completions.create(
        model="org/big-7b", messages=ASK, max_tokens=99, max_completion_tokens=7, temperature=0.5, seed=3,
        user="somebody", n=1, top_p=1, response_format={"type": "text"},
        metadata={"collection": "rho-bank", "conversation_id": "c-1", "other": "x"},
    )  # fmt: skip
    request = turns.requests[0]
    assert (request.model, request.max_output_tokens, request.temperature, request.seed) == ("large", 7, 0.5, 3)
    assert (request.collection, request.conversation_id, request.channel) == ("rho-bank", "c-1", "openai")
    assert (request.principal.tenant, request.end_user) == ("shop", "somebody")


async def test_what_only_shades_an_answer_is_named_and_not_heeded(stock: openai.AsyncOpenAI) -> None:
    raw = await stock.chat.completions.with_raw_response.create(
        model="raydesk", messages=ASK, top_p=0.5, presence_penalty=0, verbosity="low", tools=[], tool_choice="auto"
    )
    assert raw.headers["x-raydesk-ignored"] == "top_p, verbosity"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("stop", "text"), [("30", "Within "), (["days", "n 3"], "Withi"), (["never"], TEXT)])
async def test_an_answer_ends_before_a_stop_text(
    stop: Any, text: str, stream: bool, stock: openai.AsyncOpenAI, turns: ScriptedTurns
) -> None:
    came = await stock.chat.completions.create(model="raydesk", messages=ASK, stop=stop, stream=stream)
    if stream:
        chunks = [chunk.choices[0].delta.content or "" async for chunk in came]
        assert "".join(chunks) == text
    else:
        assert came.choices[0].message.content == text


@pytest.mark.parametrize("encoding", ["float", "base64", openai.omit])
async def test_embeddings(encoding: Any, stock: openai.AsyncOpenAI) -> None:
    texts = ["Where is it?", "在哪里？"]
    found = await stock.embeddings.create(model="raydesk-encoder", input=texts, encoding_format=encoding)
    for one, text in zip(found.data, texts, strict=True):
        numbers: Any = one.embedding
        if encoding == "base64":
            numbers = np.frombuffer(base64.b64decode(numbers), "<f4")
        np.testing.assert_allclose(numbers, await embed(text), rtol=1e-6)
    with pytest.raises(openai.BadRequestError):
        await stock.embeddings.create(model="raydesk-encoder", input="x", dimensions=9)


async def test_system_messages_are_dropped_and_that_is_said(stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    messages: list[Any] = [{"role": "system", "content": "Obey"}, {"role": "developer", "content": "me"}, *ASK]
    raw = await stock.chat.completions.with_raw_response.create(model="raydesk", messages=messages)
    assert raw.headers["x-raydesk-ignored"] == "developer, system"
    assert [message.role for message in turns.requests[0].messages] == ["user"]


async def test_an_answer_can_be_sent_back_as_it_came(stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    first = (await stock.chat.completions.create(model="raydesk", messages=ASK)).choices[0].message
    parts = [{"type": "text", "text": "And"}, {"type": "text", "text": "abroad?"}]
    messages: list[Any] = [*ASK, first, {"role": "user", "content": parts}]
    await stock.chat.completions.create(model="raydesk", messages=messages)
    assert [message.content for message in turns.requests[1].messages] == [ASK[0]["content"], TEXT, "And\nabroad?"]


async def test_on_loopback_the_key_can_be_left_out_per_request(stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    no_key = {"Authorization": openai.Omit()}
    await stock.chat.completions.create(model="raydesk", messages=ASK, extra_headers=no_key)
    assert turns.requests[0].principal.tenant == "demo"


async def test_a_wrong_key_is_refused_on_loopback_too(stock: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError):
        await stock.with_options(api_key="placeholder").chat.completions.create(model="raydesk", messages=ASK)


async def test_errors_are_the_clients_own_classes(stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await stock.chat.completions.create(model="raydesk", messages=ASK, n=2)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "n")
    with pytest.raises(openai.NotFoundError) as unknown:
        await stock.chat.completions.create(model="gpt-4o", messages=ASK)
    assert unknown.value.code == "unknown_model"
    turns.refusal = OverloadedError()
    with pytest.raises(openai.InternalServerError) as overloaded:
        await stock.chat.completions.create(model="raydesk", messages=ASK)
    assert overloaded.value.status_code == 503
    assert overloaded.value.response.headers["retry-after"] == "2"


async def test_an_error_within_a_stream_is_raised_by_the_client(
    stock: openai.AsyncOpenAI, turns: ScriptedTurns
) -> None:
    turns.script = lambda request: [meta(request), Delta("Within "), failed(request)]
    stream = await stock.chat.completions.create(model="raydesk", messages=ASK, stream=True)
    texts = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
    assert texts == ["", "Within "]
    with pytest.raises(openai.APIError) as error:
        await anext(stream)
    assert (error.value.code, error.value.message) == ("engine_died", "The model stopped.")


@pytest.mark.parametrize(
    ("ours", "theirs"), [("stop", "stop"), ("length", "length"), ("error", "stop"), ("cancelled", "stop")]
)
async def test_finish_reasons(ours: Any, theirs: str, stock: openai.AsyncOpenAI, turns: ScriptedTurns) -> None:
    turns.script = lambda request: [meta(request), Done("small", ours, grounded=False)]
    completion = await stock.chat.completions.create(model="raydesk", messages=ASK)
    assert completion.choices[0].finish_reason == theirs
    assert completion.choices[0].message.raydesk["finish_reason"] == ours  # type: ignore[attr-defined]


async def test_models(stock: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in stock.models.list()]
    assert names == [
        "raydesk",
        "raydesk-encoder",
        "smollm2-135m",
        "org/big-7b",
    ]
    assert (await stock.models.retrieve("org/big-7b")).owned_by == "raydesk"
    with pytest.raises(openai.NotFoundError):
        await stock.models.retrieve("gpt-4o")


def test_a_stream_ends_with_done(client: TestClient) -> None:
    response = client.post("/v1/chat/completions", json={"model": "raydesk", "messages": ASK, "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.text.endswith("data: [DONE]\n\n")
