"""The streams of one engine replica: paced, counted, and held by who reads them. No Ray."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from deployments.lease import Leases
from deployments.llm_scaling import TokensInFlight
from deployments.pace import Pace
from deployments.settings import TierSettings
from models.protocols import Generated


class EngineStreams:
    def __init__(self, tier: TierSettings, is_alive: Callable[[str], Awaitable[bool]]) -> None:
        """is_alive: of an actor, by its name, that reads a generation."""
        self._pace = Pace(tier.chunk_interval_ms / 1000, tier.chunks_per_s)
        self._tokens = TokensInFlight()
        self._leases = Leases(is_alive)

    async def of(
        self, batches: AsyncGenerator[list[Generated], None], max_tokens: int, holder: str, generation: str
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """One more, of at most so many tokens, as plain values. holder, generation: as in `deployments/lease.py`."""
        paced = self._pace.kept(self._tokens.counted(max_tokens, batches))
        async with aclosing(self._leases.held(holder, generation, paced)) as held:
            async for batch in held:
                yield [asdict(item) for item in batch]

    def renew(self, holder: str, generations: Collection[str]) -> None:
        self._leases.renew(holder, generations)

    def stats(self) -> dict[str, float]:
        """As Serve's `record_autoscaling_stats` gives them."""
        return self._tokens.stats()
