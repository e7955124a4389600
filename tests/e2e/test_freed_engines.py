"""Customers who leave and ingresses that die free the engines. Needs a desk whose answers take minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Desk, scripted_desk_of, scripted_tier

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def slow_desk(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Iterator[Desk]:
    """One scripted tier of two replicas, 4000 tokens in 200 s, and no grace for who leaves."""
    tier = scripted_tier("small", tokens=4000, tokens_per_s=20) | {"max_output_tokens": 4000, "context_tokens": 8192}
    tier["replicas"]["max_ongoing_requests"] = 1000
    settings = {"RAYDESK_TURNS__GRACE_S": "0", "RAYDESK_DEADLINES__TURN_S": "300"}
    with scripted_desk_of(tmp_path_factory.mktemp("slow"), desk, tier, **settings) as running:
        yield running


def test_an_engine_writes_for_nobody(slow_desk: Desk) -> None:
    slow_desk.passes(Path(__file__).with_name("freed_engines_suite.py"))
