"""The real engine behind a Serve handle passes the suite that the shipped fake passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.environment import ray_client_environment
from cluster.instance import Instance
from tests.e2e.conftest import ROOT, Desk

pytestmark = pytest.mark.e2e


def test_the_engine_keeps_the_contract_of_its_fake(writing_desk: Desk) -> None:
    """In a process of its own: Ray reads where and how to join when it is imported."""
    address = writing_desk.running.ray_address
    assert address is not None
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(Path(__file__).with_name("engine_suite.py"))],
        cwd=ROOT,
        env=writing_desk.environment | ray_client_environment(Instance(writing_desk.state), address),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert "5 passed" in done.stdout
