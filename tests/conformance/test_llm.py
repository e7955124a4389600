"""The shipped fake. The real engine passes the same suite in tests/e2e/test_tier.py, where it runs anyway."""

from __future__ import annotations

import pytest

from models.fakes import ScriptedLLM
from models.protocols import LLM
from tests.conformance.llm_suite import LLMSuite

pytestmark = pytest.mark.conformance


class TestScriptedLLM(LLMSuite):
    @pytest.fixture(params=["scripted", "scripted-slow"])
    def llm(self, request: pytest.FixtureRequest) -> LLM:
        said = "one two three four five six seven eight nine 完"
        if request.param == "scripted":
            return ScriptedLLM(said)
        return ScriptedLLM(said, ttft_s=0.002, tokens_per_s=1000)
