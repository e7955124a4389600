"""Finished turns on their way to the log: a bounded queue, written in batches, off the customer's clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from deployments.answering.protocols import TurnLog
from deployments.answering.types import TurnRecord
from deployments.settings import DeadlineSettings, TurnLogSettings

log = structlog.get_logger(__name__)
RETRY_PAUSE_S = 1.0


class Recorder:
    """While the log is away turns wait; when more wait than may, the oldest are dropped, counted and logged."""

    def __init__(
        self,
        turn_log: TurnLog,
        settings: TurnLogSettings,
        deadlines: DeadlineSettings,
        *,
        on_dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self._turn_log = turn_log
        self._settings = settings
        self._deadlines = deadlines
        self._on_dropped = on_dropped
        self._records: deque[TurnRecord] = deque()
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def waiting(self) -> int:
        return len(self._records)

    def start(self) -> None:
        self._writer = asyncio.create_task(self._write())

    async def stop(self) -> None:
        """Writes what waits, within the log's deadline; what is left then is named in the process's log."""
        self._stopping = True
        self._wake.set()
        if self._writer is not None:
            try:
                await asyncio.wait_for(self._writer, self._deadlines.log_s)
            except TimeoutError:
                log.error("turns_lost_at_shutdown", turn_ids=[record.turn_id for record in self._records])

    def put(self, record: TurnRecord) -> None:
        if len(self._records) >= self._settings.queue_size:
            dropped = self._records.popleft()
            self._on_dropped()
            log.error("turn_dropped", turn_id=dropped.turn_id, reason="the turn log is away and the queue is full")
        self._records.append(record)
        self._wake.set()

    async def _write(self) -> None:
        while not (self._stopping and not self._records):
            await self._wake.wait()
            self._wake.clear()
            if not self._stopping:
                await asyncio.sleep(self._settings.flush_interval_s)  # so that a busy second is a few inserts
            while self._records:
                await self._write_batch()

    async def _write_batch(self) -> None:
        size = min(self._settings.max_batch, len(self._records))
        batch = [self._records.popleft() for _ in range(size)]
        try:
            async with asyncio.timeout(self._deadlines.log_s):
                await self._turn_log.append([record.row() for record in batch])
        except Exception as error:  # whatever is wrong with the log, the turns wait; a repeated insert counts once
            log.warning("turn_log_away", waiting=len(batch) + len(self._records), error=str(error)[:300])
            self._records.extendleft(reversed(batch))
            await asyncio.sleep(RETRY_PAUSE_S)
