"""The shipped fakes. The real engine passes the same suite in tests/e2e/test_tier.py, where it runs anyway."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from deployments.remote import RemoteLLM
from deployments.scripted_engine import ScriptedEngine
from deployments.settings import ScriptSettings, TierSettings
from models.fakes import ScriptedLLM
from models.protocols import LLM
from tests.conformance.llm_suite import LLMSuite, ToolSuite

pytestmark = pytest.mark.conformance


class TestScriptedLLM(LLMSuite):
    @pytest.fixture(params=["scripted", "scripted-slow"])
    def llm(self, request: pytest.FixtureRequest) -> LLM:
        said = "one two three four five six seven eight nine 完"
        if request.param == "scripted":
            return ScriptedLLM(said)
        return ScriptedLLM(said, ttft_s=0.002, tokens_per_s=1000)


async def is_there(_: str) -> bool:
    return True


class _Handle:
    """A Serve handle whose only replica is in this process."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self._engine = engine

    def options(self, **_: Any) -> _Handle:
        return self

    @property
    def generate(self) -> _Handle:
        return self

    def remote(self, body: dict[str, Any], holder: str, generation: str) -> _Response:
        return _Response(self._engine.generate(body, holder, generation))


class _Response:
    def __init__(self, batches: AsyncGenerator[list[dict[str, Any]], None]) -> None:
        self._batches = batches

    def __aiter__(self) -> AsyncGenerator[list[dict[str, Any]], None]:
        return self._batches

    def cancel(self) -> None: ...


class TestScriptedEngine(LLMSuite, ToolSuite):
    @pytest.fixture(params=[0, 20], ids=["by itself", "together"])
    def llm(self, request: pytest.FixtureRequest) -> LLM:
        script = ScriptSettings(tokens=12, tokens_per_s=500)
        tier = TierSettings(name="small", model_id="m", script=script, chunk_interval_ms=request.param)
        return RemoteLLM(_Handle(ScriptedEngine(tier, is_there)), accept_timeout_s=5)
