"""How a job tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]  # stage, done, total if it is known


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Tells nobody."""
