"""Logged outcomes of routing: what a question looked like, and how well a small and a large model answered it.

One JSON object a line: `question`, `small_quality` and `large_quality` (0-1), `small_cost` and `large_cost` (any unit,
one for both); `features` as the turn log has them (`route_features`), and `embedding`, are optional. Of a question
without features is known what its words alone tell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deployments.answering.query import detect_language
from deployments.answering.routing import FEATURE_NAMES, Features, of_question


class OutcomesError(ValueError):
    """A log that cannot be used; the message names the place."""


@dataclass(frozen=True, slots=True)
class Outcome:
    question: str
    features: Features
    small_quality: float  # 0-1
    large_quality: float
    small_cost: float  # over 0, both in one unit
    large_cost: float
    embedding: tuple[float, ...] = ()  # of the question; () where the log has none

    @property
    def is_good_enough(self) -> bool:
        """Whether the large model would have gained nothing."""
        return self.small_quality >= self.large_quality


def read_outcomes(path: Path) -> list[Outcome]:
    """Raises `OutcomesError` that names the line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise OutcomesError(f"cannot read {path}: {error}") from error
    found = [_outcome(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise OutcomesError(f"{path}: there is nothing in it")
    return found


def _outcome(line: str, where: str) -> Outcome:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise OutcomesError(f"{where}: is not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("question"), str):
        raise OutcomesError(f"{where}: has no question")
    small, large = [_number(row, name, where, most=1.0) for name in ("small_quality", "large_quality")]
    cheap, dear = [_number(row, name, where, most=math.inf) for name in ("small_cost", "large_cost")]
    return Outcome(row["question"], _features(row, where), small, large, cheap, dear, tuple(row.get("embedding") or ()))


def _number(row: dict[str, Any], name: str, where: str, most: float) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise OutcomesError(f"{where}: {name} has to be a number from 0{'' if most == math.inf else f' to {most:g}'}")
    return float(value)


def _features(row: dict[str, Any], where: str) -> Features:
    question, logged = row["question"], row.get("features") or {}
    known = asdict(of_question(question, is_chinese=detect_language(question) == "zh"))
    if not isinstance(logged, dict) or (unknown := sorted(logged.keys() - set(FEATURE_NAMES))):
        what = f"there is no feature {', '.join(unknown)}" if isinstance(logged, dict) else "features is a mapping"
        raise OutcomesError(f"{where}: {what}")
    return Features(**(known | {name: float(value) for name, value in logged.items() if value is not None}))


@dataclass(frozen=True, slots=True)
class Tally:
    """What a way to choose comes to, a question."""

    quality: float
    cost: float
    small_share: float  # of the questions that the small model answers


def tally(outcomes: Sequence[Outcome], is_small: Sequence[bool]) -> Tally:
    """is_small: for each outcome, whether the small model answers. At least one."""
    n = len(outcomes)
    pairs = list(zip(outcomes, is_small, strict=True))
    return Tally(
        quality=math.fsum(each.small_quality if small else each.large_quality for each, small in pairs) / n,
        cost=math.fsum(each.small_cost if small else each.large_cost for each, small in pairs) / n,
        small_share=sum(is_small) / n,
    )


def cheapest(outcomes: Sequence[Outcome], scores: Sequence[float], target_quality: float) -> float:
    """The lowest threshold from which the small model may write and the target is kept; above all scores if none is.

    target_quality: share of the quality of always asking the large model, 0-1.
    """
    wanted = target_quality * tally(outcomes, [False] * len(outcomes)).quality
    ranked = sorted(zip(scores, outcomes, strict=True), key=lambda pair: -pair[0])
    quality = math.fsum(each.large_quality for each in outcomes)
    threshold, place = math.nextafter(ranked[0][0], math.inf), 0
    while place < len(ranked):
        score = ranked[place][0]
        while place < len(ranked) and ranked[place][0] == score:  # equal scores go one way
            quality += ranked[place][1].small_quality - ranked[place][1].large_quality
            place += 1
        if quality / len(outcomes) >= wanted - 1e-12:
            threshold = score
    return threshold
