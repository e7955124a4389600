"""The same application with every room a deployment of its own, as production runs it; without a language model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Desk, start_desk, stop_desk

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Iterator[Desk]:
    """Shares the knowledge of the first desk, and nothing else."""
    settings = dict.fromkeys(("INTENTS", "RETRIEVER", "CACHE"), "deployment")
    running = start_desk(
        tmp_path_factory.mktemp("scattered"),
        **{f"RAYDESK_{name}__PLACEMENT": placement for name, placement in settings.items()},
        RAYDESK_KNOWLEDGE__ROOT=desk.environment["RAYDESK_KNOWLEDGE__ROOT"],
        RAYDESK_TIERS="[]",
    )
    yield running
    stop_desk(running)


def test_every_room_has_a_process_of_its_own_and_all_answer_together(scattered: Desk) -> None:
    for room in ("ingress", "intent_classifier", "retriever", "semantic_cache", "turn_log"):
        assert scattered.processes(f"ServeReplica:raydesk:{room}"), room
    assert scattered.ask("Where is my order?")["path"] == "rule"
    first = scattered.ask("How much does express delivery cost?")
    assert first["path"] == "faq"
    again = scattered.ask("how much does express delivery cost")
    assert again["path"] == "exact_cache"
    assert again["citations"] == first["citations"]
    without_model = scattered.ask("Can I pick up my parcel from a pick-up point after five days?")
    assert without_model["path"] in ("faq", "passage")
    assert without_model["citations"]


def test_rooms_at_a_distance_keep_the_contracts_of_their_fakes(scattered: Desk) -> None:
    scattered.passes(Path(__file__).with_name("rooms_suite.py"), in_callers_loop=True)
