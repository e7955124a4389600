from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cluster.launcher import changes
from cluster.loopback import loopback_address
from cluster.readiness import Readiness, parse

pytestmark = pytest.mark.unit
STARTING = Readiness(True, {"turn_log": "ready"}, {"small": "starting"})
READY = Readiness(True, {"turn_log": "ready"}, {"small": "ready"})


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (STARTING, STARTING, []),
        (STARTING, READY, ["Tier small: ready, it writes answers now"]),
        (READY, Readiness(False, {"turn_log": "down"}, {"small": "ready"}), ["Room turn_log: down"]),
        (READY, Readiness(True, {"turn_log": "ready"}, {"small": "down"}), ["Tier small: down"]),
        (READY, None, ["The application does not answer"]),
        (None, None, []),
        (None, STARTING, ["The application answers again"]),
    ],
)
def test_every_change_is_told_once(before: Readiness | None, after: Readiness | None, lines: list[str]) -> None:
    assert changes(before, after) == lines


def test_readiness_is_read_from_the_answer() -> None:
    body = {"ready": True, "rooms": {"cache": "ready"}, "tiers": [{"name": "small", "model_id": "m", "state": "ready"}]}
    assert parse(200, json.dumps(body).encode()) == Readiness(True, {"cache": "ready"}, {"small": "ready"})
    assert parse(503, json.dumps(body | {"ready": False}).encode()) == Readiness(
        False, {"cache": "ready"}, {"small": "ready"}
    )


@pytest.mark.parametrize("body", [b"Path '/readyz' not found", b"[]", b"{}", b""])
def test_an_answer_that_is_not_ours_is_none(body: bytes) -> None:
    assert parse(404, body) is None


@pytest.mark.parametrize(
    ("asked", "given"),
    [("[::]:0", "127.0.0.1:0"), ("0.0.0.0:5", "127.0.0.1:5"), ("10.0.0.7:5", "10.0.0.7:5")],
)
def test_inner_servers_are_put_on_loopback(asked: str, given: str) -> None:
    assert loopback_address(asked) == given


def test_the_command_line_and_the_launcher_are_quick_to_import() -> None:
    """A warm start has seconds; these would take them before anything is shown."""
    slow = "{'ray', 'torch', 'transformers', 'vllm', 'faiss', 'starlette'}"
    program = f"import sys, cluster.cli, cluster.launcher; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
