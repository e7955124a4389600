"""What each kind of failure of an OpenAI-compatible engine does to its tier: which open the breaker, which pause it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
from starlette.responses import JSONResponse

from deployments.answering.errors import DependencyError
from deployments.llm import Tier
from deployments.openai_engine import OpenAIEngine
from models.protocols import ChatMessage, GenerationRequest
from tests.conformance.openai_server import OpenAIServer

pytestmark = pytest.mark.conformance


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer().running() as server:
        yield server


@pytest.fixture
async def tier(server: OpenAIServer) -> AsyncIterator[Tier]:
    settings = server.tier()
    engine = OpenAIEngine(settings, None)
    tier = Tier(settings, engine, engine.ping)
    await tier._look_at_it()
    assert tier.state == "ready"
    yield tier
    await engine.stop()


async def fails(tier: Tier, times: int = 1) -> None:
    request = GenerationRequest((ChatMessage("user", "Count."),), 16, tenant="demo")
    for _ in range(times):
        with pytest.raises(DependencyError):
            async for _ in tier.generate(request):
                pass


def fail_with(server: OpenAIServer, status: int, **headers: str) -> None:
    server.failure = lambda: JSONResponse(
        {"error": {}}, status, headers={k.replace("_", "-"): headers[k] for k in headers}
    )


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_hundred_refusals_say_nothing_of_its_health(tier: Tier, server: OpenAIServer, status: int) -> None:
    fail_with(server, status)
    await fails(tier, times=100)
    assert (tier.state, tier.breaker_state) == ("ready", "closed")


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_five_faults_open_the_breaker_and_four_do_not(tier: Tier, server: OpenAIServer, status: int) -> None:
    fail_with(server, status)
    await fails(tier, times=4)
    assert tier.state == "ready"
    await fails(tier)
    assert (tier.state, tier.breaker_state) == ("down", "open")


async def test_cut_streams_open_it_too(tier: Tier, server: OpenAIServer) -> None:
    server.cut_after = 1
    await fails(tier, times=5)
    assert tier.breaker_state == "open"


async def test_silence_opens_it_too(tier: Tier, server: OpenAIServer) -> None:
    server.llm._ttft_s = 3600
    tier.settings = tier.settings.model_copy(update={"first_token_timeout_s": 0.2})
    await fails(tier, times=5)
    assert tier.breaker_state == "open"


async def test_a_wish_for_a_pause_is_granted_and_the_later_one_holds(tier: Tier, server: OpenAIServer) -> None:
    fail_with(server, 429, retry_after="30")
    await fails(tier)
    fail_with(server, 429, retry_after="1")
    await fails(tier)
    assert (tier.state, tier.breaker_state) == ("down", "closed")
    assert tier._breaker._paused_until_s > time.monotonic() + 20
