"""How many replicas of a language model are wanted: by the tokens that are asked for, not by the requests. Pure.

Two requests of a model can differ by a hundred times in work, and the work that matters is still to come: a request
counts with the longest answer that it may get, and as that is written, with what is left of it. So long answers start
a replica when they are admitted, not when their streams have become slow. Whatever waits for a place counts, too.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
TOKENS = "tokens_in_flight"  # what a replica tells of itself


class TokensInFlight:
    """What one replica has still to write, at most."""

    def __init__(self) -> None:
        self._left: dict[object, int] = {}  # of each generation, tokens

    async def counted(self, max_tokens: int, batches: AsyncGenerator[list[T], None]) -> AsyncGenerator[list[T], None]:
        """The same batches. Each piece in them is taken for a token; who is late keeps one, for it holds its place."""
        generation = object()
        self._left[generation] = max_tokens
        try:
            async with aclosing(batches):
                async for batch in batches:
                    self._left[generation] = max(1, self._left[generation] - len(batch))
                    yield batch
        finally:
            del self._left[generation]

    def stats(self) -> dict[str, float]:
        """As Serve's `record_autoscaling_stats` gives them."""
        return {TOKENS: float(sum(self._left.values()))}


def wanted_replicas(
    in_flight: Sequence[float], running: int, queued: float, target_tokens: float, usual_tokens: float
) -> float:
    """Not rounded, and 1 at least.

    in_flight: tokens of each replica that has told them. running: replicas. queued: requests that wait at callers.
    target_tokens: that are to be in flight in a replica. usual_tokens: of a request that waits, of which no more is
    known. A replica that has told nothing is taken to be as busy as the others: it may be silent because it is.
    """
    tokens = sum(in_flight)
    if in_flight and running > len(in_flight):
        tokens *= running / len(in_flight)
    return max(1.0, (tokens + queued * usual_tokens) / target_tokens)


class Context(Protocol):
    """What this needs of Serve's `AutoscalingContext`."""

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None: ...

    @property
    def total_queued_requests(self) -> float | None: ...

    current_num_replicas: int


class TokenPolicy:
    """Asked by Serve's controller, which applies bounds and delays to what it says. Built from its settings by name."""

    def __init__(self, target_tokens: float, usual_tokens: float) -> None:
        self._target_tokens = target_tokens
        self._usual_tokens = usual_tokens

    def __call__(self, context: Context) -> tuple[float, dict[str, Any]]:
        told = (context.aggregated_metrics or {}).get(TOKENS, {})
        queued = context.total_queued_requests or 0.0
        wanted = wanted_replicas(
            list(told.values()), context.current_num_replicas, queued, self._target_tokens, self._usual_tokens
        )
        return wanted, {}
