"""The suite of the shipped fake over the real engine; test_tier.py runs it in a process that joins the desk's Ray."""

from __future__ import annotations

import pytest

from deployments.app import tier_llm
from deployments.settings import TierSettings
from models.protocols import LLM
from tests.conformance.llm_suite import LLMSuite

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("joined_ray")]


class TestEngine(LLMSuite):
    @pytest.fixture
    async def llm(self) -> LLM:
        return tier_llm("raydesk", TierSettings(name="small", model_id="raydesk-small", model_source="its own"))
