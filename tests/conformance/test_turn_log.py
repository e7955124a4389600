"""The shipped fake and the real ClickHouse engine, embedded.

Its remote end passes the same suite in tests/e2e/rooms_suite.py.

chDB allows one folder a process, and must not be forked after: the real one lives in a child process of its own,
which is also how the application runs it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deployments.fakes import InMemoryTurnLog
from deployments.settings import TurnLogSettings
from deployments.turn_log import TurnLog
from tests.conformance.turn_log_suite import TurnLogSuite, tenant

__all__ = ["tenant"]  # a fixture
pytestmark = pytest.mark.conformance
_logs: dict[str, TurnLog] = {}  # of the child process


def _in_child(folder: str, method: str, *args: Any) -> Any:
    if folder not in _logs:
        _logs[folder] = TurnLog(TurnLogSettings(dsn=f"chdb:///{folder}"))
    return asyncio.run(getattr(_logs[folder], method)(*args))


class ChildTurnLog:
    def __init__(self, pool: ProcessPoolExecutor, folder: Path) -> None:
        self._pool = pool
        self._folder = str(folder)

    def __getattr__(self, method: str) -> Any:
        async def call(*args: Any) -> Any:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, _in_child, self._folder, method, *args)

        return call


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildTurnLog]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield ChildTurnLog(pool, tmp_path_factory.mktemp("turn-log"))


class TestTurnLog(TurnLogSuite):
    @pytest.fixture(params=["fake", "real"])
    def turn_log(self, request: pytest.FixtureRequest) -> Any:
        return InMemoryTurnLog() if request.param == "fake" else request.getfixturevalue("real")


def test_a_folder_that_is_not_absolute_is_one_of_the_current_folder(tmp_path: Path) -> None:
    program = (
        "from deployments.settings import TurnLogSettings\n"
        "from deployments.turn_log import TurnLog\n"
        "TurnLog(TurnLogSettings(dsn='chdb:///here/turnlog'))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=120)
    assert list((tmp_path / "here/turnlog").glob("**/turns*"))
