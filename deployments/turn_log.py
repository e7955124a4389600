"""The room that writes every turn to ClickHouse: a server, or the engine embedded in this process. Knows no Ray.

The embedded engine (chDB) allows one process a folder and must not be forked: it has a deployment of its own, with
exactly one replica.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import clickhouse_connect

from deployments.answering.protocols import Rating
from deployments.settings import TurnLogSettings

P = ParamSpec("P")
R = TypeVar("R")

# (column, ClickHouse type); the order is the table's. A turn written twice (a retried insert) collapses by its key.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("turn_id", "String"),
    ("request_id", "String"),
    ("conversation_id", "String"),
    ("tenant", "LowCardinality(String)"),
    ("key_id", "LowCardinality(String)"),
    ("channel", "LowCardinality(String)"),
    ("collection", "LowCardinality(String)"),
    ("started_at", "DateTime64(3, 'UTC')"),
    ("question", "String"),
    ("language", "LowCardinality(String)"),
    ("knowledge_version", "LowCardinality(String)"),
    ("intent", "LowCardinality(String)"),
    ("intent_confidence", "Float32"),
    ("intent_margin", "Float32"),
    ("path", "LowCardinality(String)"),
    ("route_reason", "String"),
    ("route_score", "Float32"),
    ("route_features", "Map(String, Float32)"),
    ("answer", "String"),
    ("citation_chunk_ids", "Array(String)"),
    ("citation_urls", "Array(String)"),
    ("evidence_ids", "Array(String)"),
    ("cache_similarity", "Float32"),
    ("finish_reason", "LowCardinality(String)"),
    ("grounded", "Bool"),
    ("degraded", "Array(String)"),
    ("input_tokens", "UInt32"),
    ("output_tokens", "UInt32"),
    ("step_ms", "Map(String, Float32)"),
    ("ttft_ms", "Float32"),
    ("duration_ms", "Float32"),
    ("outcome", "LowCardinality(String)"),
    ("error_code", "LowCardinality(String)"),
)

# What customers say of turns, in a table of its own: it comes later than the turn, and may be said again.
FEEDBACK_COLUMNS: tuple[tuple[str, str], ...] = (
    ("turn_id", "String"),
    ("tenant", "LowCardinality(String)"),
    ("key_id", "LowCardinality(String)"),
    ("rated_at", "DateTime64(3, 'UTC')"),
    ("rating", "LowCardinality(String)"),  # up, down
    ("comment", "String"),
)

_EMBEDDED = "chdb:///"


class TurnLog:
    def __init__(self, settings: TurnLogSettings) -> None:
        # One thread: chDB is used from one thread at a time, and a slow insert must not block the event loop.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="turn-log")
        self._client: Any = self._executor.submit(_connect, settings.dsn).result()

    async def ping(self) -> None:
        """Answers when this room and its engine are up."""
        await self._run(self._client.command, "SELECT 1")

    async def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows:
            await self._run(self._insert, rows)

    async def recent(self, tenant: str, limit: int) -> list[dict[str, Any]]:
        return await self._run(self._recent, tenant, limit)

    async def count(self, tenant: str) -> int:
        return await self._run(self._count, tenant)

    async def find(self, tenant: str, key_id: str, turn_id: str) -> dict[str, Any] | None:
        return await self._run(self._find, tenant, key_id, turn_id)

    async def conversations(self, tenant: str, key_id: str, limit: int) -> list[tuple[str, datetime]]:
        return await self._run(self._conversations, tenant, key_id, limit)

    async def rate(self, row: Mapping[str, Any]) -> None:
        await self._run(self._write, "feedback", FEEDBACK_COLUMNS, [row])

    async def rated(self, tenant: str, rating: Rating, limit: int) -> list[dict[str, Any]]:
        query = (
            "WITH said AS (SELECT tenant, turn_id, rating, comment, rated_at FROM feedback FINAL "
            "WHERE tenant = {tenant:String} AND rating = {rating:String} ORDER BY rated_at DESC LIMIT {limit:UInt32}) "
            "SELECT * FROM said INNER JOIN (SELECT * FROM turns FINAL WHERE tenant = {tenant:String} "
            "AND turn_id IN (SELECT turn_id FROM said)) AS turn USING (tenant, turn_id) ORDER BY rated_at DESC"
        )
        return await self._run(self._rows, query, {"tenant": tenant, "rating": rating, "limit": limit})

    async def _run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def _insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._write("turns", COLUMNS, rows)

    def _write(self, table: str, columns: Sequence[tuple[str, str]], rows: Sequence[Mapping[str, Any]]) -> None:
        names = [name for name, _ in columns]
        self._client.insert(table, [[row[name] for name in names] for row in rows], column_names=names)

    def _rows(self, query: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        return list(self._client.query(query, parameters=parameters).named_results())

    def _recent(self, tenant: str, limit: int) -> list[dict[str, Any]]:
        query = "SELECT * FROM turns FINAL WHERE tenant = {tenant:String} ORDER BY started_at DESC LIMIT {limit:UInt32}"
        return self._rows(query, {"tenant": tenant, "limit": limit})

    def _find(self, tenant: str, key_id: str, turn_id: str) -> dict[str, Any] | None:
        query = (
            "SELECT * FROM turns WHERE tenant = {tenant:String} AND key_id = {key_id:String} "
            "AND turn_id = {turn_id:String} LIMIT 1"
        )
        found = self._rows(query, {"tenant": tenant, "key_id": key_id, "turn_id": turn_id})
        return found[0] if found else None

    def _conversations(self, tenant: str, key_id: str, limit: int) -> list[tuple[str, datetime]]:
        query = (
            "SELECT conversation_id, max(started_at) AS last FROM turns WHERE tenant = {tenant:String} "
            "AND key_id = {key_id:String} GROUP BY conversation_id ORDER BY last DESC LIMIT {limit:UInt32}"
        )
        found = self._rows(query, {"tenant": tenant, "key_id": key_id, "limit": limit})
        return [(row["conversation_id"], row["last"]) for row in found]

    def _count(self, tenant: str) -> int:
        query = "SELECT count() FROM turns FINAL WHERE tenant = {tenant:String}"
        return int(self._client.query(query, parameters={"tenant": tenant}).result_rows[0][0])


def _connect(dsn: str) -> Any:
    if dsn.startswith(_EMBEDDED):
        folder = Path(dsn.removeprefix(_EMBEDDED)).absolute()  # the engine would take it from the root of the disk
        folder.mkdir(parents=True, exist_ok=True)
        dsn = f"{_EMBEDDED}{folder}"
    client = clickhouse_connect.get_client(dsn=dsn, tz_mode="aware")  # or it leaves out that times are UTC
    for table, columns, engine in (
        (
            "turns",
            COLUMNS,
            "ReplacingMergeTree PARTITION BY toYYYYMM(started_at) ORDER BY (tenant, started_at, turn_id)",
        ),
        ("feedback", FEEDBACK_COLUMNS, "ReplacingMergeTree(rated_at) ORDER BY (tenant, turn_id)"),
    ):
        described = ", ".join(f"{name} {kind}" for name, kind in columns)
        client.command(f"CREATE TABLE IF NOT EXISTS {table} ({described}) ENGINE = {engine}")
        # A log of an earlier version lacks the newest columns: they are empty in its rows.
        new = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} {kind}" for name, kind in columns)
        client.command(f"ALTER TABLE {table} {new}")
    return client
