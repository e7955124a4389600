"""One suite over the shipped fake and the real ClickHouse engine, embedded.

chDB allows one folder a process, and must not be forked after: the real one lives in a child process of its own,
which is also how the application runs it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deployments.answering.types import Citation, TurnRecord
from deployments.fakes import InMemoryTurnLog
from deployments.settings import TurnLogSettings
from deployments.turn_log import TurnLog

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


@pytest.fixture(params=["fake", "real"])
def turn_log(request: pytest.FixtureRequest) -> Any:
    return InMemoryTurnLog() if request.param == "fake" else request.getfixturevalue("real")


def row(turn_id: str, tenant: str, started_at_s: float = 1_800_000_000.25, **changes: Any) -> Any:
    record = TurnRecord(turn_id, "r", "c", tenant, "k", "http", "help", started_at_s, "怎么退款 'quoted' \\ \n?")
    record.citations = [Citation(1, "c1", "d1", "T", "https://u.example", (), "q", 1.0)]
    record.step_ms = {"search": 1.5}
    for name, value in changes.items():
        setattr(record, name, value)
    return record.row()


async def test_rows_come_back_newest_first_as_they_were_written(turn_log: Any, request: Any) -> None:
    tenant = f"order-{request.node.name}"
    await turn_log.append([row("a", tenant, 1_800_000_000.25), row("b", tenant, 1_800_000_001.5, answer="三天")])
    newest, oldest = await turn_log.recent(tenant, 10)
    assert (newest["turn_id"], oldest["turn_id"]) == ("b", "a")
    assert newest["answer"] == "三天"
    assert oldest["question"] == "怎么退款 'quoted' \\ \n?"
    assert list(oldest["citation_urls"]) == ["https://u.example"]
    assert oldest["step_ms"] == {"search": 1.5}
    assert oldest["started_at"].timestamp() == 1_800_000_000.25
    assert len(await turn_log.recent(tenant, 1)) == 1


async def test_turn_that_is_written_twice_counts_once(turn_log: Any, request: Any) -> None:
    tenant = f"twice-{request.node.name}"
    await turn_log.append([row("a", tenant), row("b", tenant)])
    await turn_log.append([row("a", tenant)])
    assert await turn_log.count(tenant) == 2


async def test_tenants_are_apart_and_nothing_is_nothing(turn_log: Any, request: Any) -> None:
    tenant = f"apart-{request.node.name}"
    await turn_log.append([])
    await turn_log.append([row("a", tenant)])
    assert await turn_log.count(f"{tenant}' OR 1=1 --") == 0
    assert await turn_log.recent("nobody", 5) == []
    assert await turn_log.count(tenant) == 1
