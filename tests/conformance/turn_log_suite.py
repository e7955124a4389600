"""What every turn log must do. A new one subclasses `TurnLogSuite` and brings the fixture `turn_log`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
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

    async def test_turn_is_found_by_its_own_credential_alone(self, turn_log: TurnLog, tenant: str) -> None:
        await turn_log.append([row("a", tenant)])
        assert await turn_log.find(tenant, "k", "a") == dict(row("a", tenant))
        assert await turn_log.find(tenant, "k2", "a") is None
        assert await turn_log.find(f"{tenant}2", "k", "a") is None
        assert await turn_log.find(tenant, "k", "b") is None

    async def test_conversations_are_those_of_the_credential_and_the_newest_first(
        self, turn_log: TurnLog, tenant: str
    ) -> None:
        times = {"a": 1_800_000_000.25, "b": 1_800_000_001.5, "c": 1_800_000_002.0}
        rows = [row(name, tenant, time, conversation_id="c1" if name != "b" else "c2") for name, time in times.items()]
        await turn_log.append([*rows, row("d", tenant, key_id="k2", conversation_id="c3")])
        found = await turn_log.conversations(tenant, "k", 10)
        assert [(name, time.timestamp()) for name, time in found] == [("c1", times["c"]), ("c2", times["b"])]
        assert len(await turn_log.conversations(tenant, "k", 1)) == 1

    async def test_last_word_on_a_turn_counts(self, turn_log: TurnLog, tenant: str) -> None:
        turns = {name: row(name, tenant) for name in "ab"}
        await turn_log.append(list(turns.values()))
        said = {"turn_id": "a", "tenant": tenant, "key_id": "k", "comment": ""}
        early, late = (datetime(2027, 1, 1, 12, minute, tzinfo=UTC) for minute in (0, 1))
        last = said | {"rated_at": late, "rating": "down", "comment": QUESTION}
        await turn_log.rate(said | {"rated_at": early, "rating": "up"})
        await turn_log.rate(last)
        assert await turn_log.rated(tenant, "down", 10) == [dict(turns["a"]) | last]
        assert await turn_log.rated(tenant, "up", 10) == []
        later = said | {"turn_id": "b", "rated_at": late + timedelta(seconds=1), "rating": "down"}
        await turn_log.rate(later)
        assert await turn_log.rated(tenant, "down", 10) == [dict(turns["b"]) | later, dict(turns["a"]) | last]
        assert await turn_log.rated(tenant, "down", 1) == [dict(turns["b"]) | later]
        assert await turn_log.rated(f"{tenant}2", "down", 10) == []
