"""What every turn log must do. A new one subclasses `TurnLogSuite` and brings the fixture `turn_log`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest

from deployments.answering.protocols import TurnLog
from deployments.answering.types import Citation, TurnRecord

QUESTION = "怎么退款 'quoted' \\ \n?"


def row(turn_id: str, tenant: str, started_at_s: float = 1_800_000_000.25, **changes: Any) -> Mapping[str, Any]:
    record = TurnRecord(turn_id, "r", "c", tenant, "k", "http", "help", started_at_s, QUESTION)
    record.citations = [Citation(1, "c1", "d1", "T", "https://u.example", (), "q", 1.0)]
    record.step_ms = {"search": 1.5}
    for name, value in changes.items():
        setattr(record, name, value)
    return record.row()


@pytest.fixture
def tenant() -> str:
    """Of one test alone: a log outlives it."""
    return f"tenant-{uuid4().hex}"


class TurnLogSuite:
    async def test_rows_come_back_newest_first_as_they_were_written(self, turn_log: TurnLog, tenant: str) -> None:
        written = [row("a", tenant, 1_800_000_000.25), row("b", tenant, 1_800_000_001.5, answer="三天")]
        await turn_log.append(written)
        newest, oldest = await turn_log.recent(tenant, 10)
        assert (oldest, newest) == tuple(dict(one) for one in written)
        assert len(await turn_log.recent(tenant, 1)) == 1

    async def test_turn_that_is_written_twice_counts_once(self, turn_log: TurnLog, tenant: str) -> None:
        await turn_log.append([row("a", tenant), row("b", tenant)])
        await turn_log.append([row("a", tenant)])
        assert await turn_log.count(tenant) == 2

    async def test_tenants_are_apart_and_nothing_is_nothing(self, turn_log: TurnLog, tenant: str) -> None:
        await turn_log.append([])
        await turn_log.append([row("a", tenant)])
        assert await turn_log.count(f"{tenant}' OR 1=1 --") == 0
        assert await turn_log.recent("nobody", 5) == []
        assert await turn_log.count(tenant) == 1
