"""The remote engine against a real server: the suite of every model, and what becomes of each kind of failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from deployments.answering.errors import (
    DeadlineExceededError,
    EngineBusyError,
    EngineDiedError,
    EngineRefusedError,
    RaydeskError,
    RoomUnavailableError,
)
from deployments.openai_engine import OpenAIEngine
from deployments.redacted_llm import RedactedLLM
from deployments.scripted_engine import calls_of
from models.fakes import ScriptedLLM
from models.protocols import LLM, ChatMessage, GenerationEnd, GenerationRequest, TextDelta
from tests.conformance.llm_suite import LLMSuite, ToolSuite
from tests.conformance.openai_server import API_KEY, OpenAIServer

pytestmark = pytest.mark.conformance

TENANT = "demo"


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer().running() as server:
        yield server


@pytest.fixture
async def engine(server: OpenAIServer) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine(server.tier(), API_KEY)
    yield engine
    await engine.stop()


def request(*texts: str, tenant: str = TENANT, **changes: object) -> GenerationRequest:
    said = tuple(ChatMessage("user", text) for text in texts or ("Count.",))
    return GenerationRequest(said, **({"max_output_tokens": 16, "tenant": tenant} | changes))  # type: ignore[arg-type]


async def text(llm: LLM, asked: GenerationRequest) -> str:
    return "".join([item.text async for item in llm.generate(asked) if isinstance(item, TextDelta)])


class TestOpenAIEngine(LLMSuite):
    @pytest.fixture(params=["plain", "redacted"])
    async def llm(self, request: pytest.FixtureRequest, server: OpenAIServer) -> AsyncIterator[LLM]:
        engine = OpenAIEngine(server.tier(openai={"tenants": ("*",), "continues": True}), API_KEY)
        yield engine if request.param == "plain" else RedactedLLM(engine)
        await engine.stop()


class TestToolsOfAnOpenAIEngine(ToolSuite):
    @pytest.fixture(params=["plain", "redacted"])
    async def llm(self, request: pytest.FixtureRequest) -> AsyncIterator[LLM]:
        async with OpenAIServer(ScriptedLLM(lambda asked: calls_of(asked) or "It is there.")).running() as server:
            engine = OpenAIEngine(server.tier(openai={"tenants": ("*",)}), API_KEY)
            yield engine if request.param == "plain" else RedactedLLM(engine)
            await engine.stop()


async def test_a_provider_that_cannot_go_on_is_not_asked_to(engine: OpenAIEngine, server: OpenAIServer) -> None:
    with pytest.raises(EngineRefusedError):
        await text(engine, request(continuation="one two"))
    assert server.bodies == []


async def test_only_the_key_from_the_environment_is_sent(engine: OpenAIEngine, server: OpenAIServer) -> None:
    await text(engine, request(seed=7, stop=("five",)))
    assert server.authorizations == [f"Bearer {API_KEY}"]
    assert server.bodies[0]["model"] == "m-1"
    assert (server.bodies[0]["seed"], server.bodies[0]["stop"]) == (7, ["five"])
    assert not {"tenant", "private", "user"} & set(server.bodies[0])


async def test_what_the_provider_alone_understands_is_sent_along(server: OpenAIServer) -> None:
    own = {"model": "their-name", "extra_body": {"safety": "high", "model": "not this"}}
    engine = OpenAIEngine(server.tier(openai=own), None)
    await text(engine, request())
    assert (server.bodies[0]["model"], server.bodies[0]["safety"]) == ("their-name", "high")
    assert server.authorizations == [""]
    await engine.stop()


@pytest.mark.parametrize("tenant", ["other", "", "*"])
async def test_nothing_leaves_for_a_tenant_without_permission(
    tenant: str, engine: OpenAIEngine, server: OpenAIServer
) -> None:
    with pytest.raises(EngineRefusedError):
        await text(engine, request(tenant=tenant))
    assert server.bodies == []


def says(status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"message": "no"}}, status, headers)


@pytest.mark.parametrize(
    ("answer", "error", "retry_after_s"),
    [
        (lambda: says(400), EngineRefusedError, None),
        (lambda: says(401), EngineRefusedError, None),
        (lambda: says(403), EngineRefusedError, None),
        (lambda: says(404), EngineRefusedError, None),
        (lambda: says(422), EngineRefusedError, None),
        (lambda: says(302, {"location": "http://127.0.0.1:1/"}), EngineRefusedError, None),
        (lambda: says(429, {"retry-after": "1"}), EngineBusyError, 1),
        (lambda: says(429, {"retry-after": "30"}), EngineBusyError, 30),
        (lambda: says(429, {"retry-after": "0.2"}), EngineBusyError, 1),
        (lambda: says(429, {"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}), EngineBusyError, 1),
        (lambda: says(429, {"retry-after": "soon"}), EngineBusyError, EngineBusyError.retry_after_s),
        (lambda: says(429, {"retry-after": "nan"}), EngineBusyError, EngineBusyError.retry_after_s),
        (lambda: says(429), EngineBusyError, EngineBusyError.retry_after_s),
        (lambda: says(503, {"retry-after": "7"}), EngineBusyError, 7),
        (lambda: says(503), EngineDiedError, EngineDiedError.retry_after_s),
        (lambda: says(500), EngineDiedError, EngineDiedError.retry_after_s),
        (lambda: says(502), EngineDiedError, EngineDiedError.retry_after_s),
        (lambda: Response("<html>" * 100_000, 500), EngineDiedError, EngineDiedError.retry_after_s),
        (lambda: Response("hello", media_type="text/plain"), EngineDiedError, EngineDiedError.retry_after_s),
        (lambda: stream("data: {\n\n"), EngineDiedError, EngineDiedError.retry_after_s),
        (lambda: stream("data: [1]\n\n"), EngineDiedError, EngineDiedError.retry_after_s),
        (lambda: stream("data: [DONE]\n\n"), EngineDiedError, EngineDiedError.retry_after_s),
        (lambda: stream('data: {"error": {"message": "out of memory"}}\n\n'), EngineDiedError, 5),
        (lambda: stream('data: {"choices":[{"finish_reason":"content_filter"}]}\n\n'), EngineRefusedError, None),
    ],
)
async def test_what_the_other_side_says_becomes_one_of_ours(
    answer: object, error: type[RaydeskError], retry_after_s: int | None, engine: OpenAIEngine, server: OpenAIServer
) -> None:
    server.failure = answer  # type: ignore[assignment]
    with pytest.raises(error) as raised:
        await text(engine, request())
    assert type(raised.value) is error
    assert raised.value.retry_after_s == retry_after_s
    assert server.url not in raised.value.message
    server.failure = None
    assert await text(engine, request())  # the next one finds a connection that works


def stream(said: str) -> Response:
    return StreamingResponse(iter([said]), media_type="text/event-stream")


async def test_a_stream_that_is_cut_is_an_engine_that_died(engine: OpenAIEngine, server: OpenAIServer) -> None:
    server.cut_after = 3
    heard = ""
    with pytest.raises(EngineDiedError):  # noqa: PT012 - it dies on its way
        async for item in engine.generate(request()):
            heard += item.text if isinstance(item, TextDelta) else ""
    assert heard.split() == ["one", "two", "three"]


async def test_silence_is_a_deadline_that_passed() -> None:
    async with OpenAIServer(ScriptedLLM("late", ttft_s=30)).running() as server:
        engine = OpenAIEngine(server.tier(first_token_timeout_s=0.2, inter_token_timeout_s=0.1), None)
        with pytest.raises(DeadlineExceededError):
            await text(engine, request())
        await engine.stop()


async def test_nobody_there_is_a_room_that_is_away(server: OpenAIServer) -> None:
    engine = OpenAIEngine(server.tier(openai={"base_url": "http://127.0.0.1:9/v1"}), None)
    with pytest.raises(RoomUnavailableError) as raised:
        await text(engine, request())
    assert "127.0.0.1" not in raised.value.message
    with pytest.raises(RoomUnavailableError):
        await engine.ping()
    await engine.stop()


async def test_leaving_early_stops_the_engine() -> None:
    async with OpenAIServer(ScriptedLLM("word " * 5000, tokens_per_s=200)).running() as server:
        engine = OpenAIEngine(server.tier(), None)
        answer = engine.generate(request(max_output_tokens=5000))
        await anext(answer)
        assert server.llm.in_flight == 1
        await answer.aclose()
        async with asyncio.timeout(5):
            while server.llm.in_flight:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        await engine.stop()


async def test_connections_are_opened_before_they_are_needed(server: OpenAIServer) -> None:
    engine = OpenAIEngine(server.tier(openai={"warm_connections": 3}), None)
    await engine.ping()
    assert server.looks == 3
    server.failure = lambda: says(404)
    await engine.ping()  # lists no models, and is there
    server.failure = lambda: says(401)
    with pytest.raises(EngineRefusedError):
        await engine.ping()
    await engine.stop()


async def test_the_other_side_sees_placeholders_and_the_customer_what_they_stand_for() -> None:
    echo = ScriptedLLM(lambda asked: asked.messages[-1].content)
    async with OpenAIServer(echo).running() as server:
        engine = OpenAIEngine(server.tier(), None)
        asked = "Write to ada@example.org about order NL-2045-8812, 我的手机是13812345678。"
        answer = await text(RedactedLLM(engine), request(asked, max_output_tokens=200, private=("NL-2045-8812",)))
        assert answer == asked
        sent = server.bodies[0]["messages"][0]["content"]
        assert not any(secret in sent for secret in ("ada", "8812", "13812345678"))
        *_, end = [item async for item in RedactedLLM(engine).generate(request(asked))]
        assert isinstance(end, GenerationEnd)
        await engine.stop()
