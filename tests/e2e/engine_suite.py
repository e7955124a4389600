"""The suite of the shipped fake over the real engine; test_tier.py runs it in a process that joins the desk's Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from deployments.app import tier_llm
from models.protocols import LLM
from tests.conformance.llm_suite import LLMSuite

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module", autouse=True)
def joined() -> Iterator[None]:
    ray.init(log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


class TestEngine(LLMSuite):
    @pytest.fixture
    def llm(self) -> LLM:
        return tier_llm("raydesk", "small", "raydesk-small")
