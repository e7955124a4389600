"""The real engine behind a Serve handle passes the suite that the shipped fake passes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import ray

from cluster.environment import ray_client_environment
from cluster.instance import Instance
from deployments.app import tier_llm
from models.protocols import LLM
from tests.conformance.llm_suite import LLMSuite
from tests.e2e.conftest import Desk

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def joined(writing_desk: Desk) -> Iterator[None]:
    """This process is a client of the desk's Ray."""
    address = writing_desk.running.ray_address
    assert address is not None
    before = dict(os.environ)
    os.environ.update(ray_client_environment(Instance(writing_desk.state), address))
    ray.init(log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("joined")
class TestEngine(LLMSuite):
    @pytest.fixture
    def llm(self) -> LLM:
        return tier_llm("raydesk", "small", "raydesk-small")
