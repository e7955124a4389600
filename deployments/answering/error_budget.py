"""When a likely hit is likely enough: the share of wrong hits that the operator accepts, learned per entry and topic.

In the manner of vCache (arXiv 2502.03771): no threshold for all, but for each entry an estimate of how often a question
this close to it has another answer. The verifier's likelihood is where it begins; what was seen since moves it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployments.answering.cache_policy import LEAST_LIKELIHOOD, likelihood

# The verifier's doubt overstates its errors, for labels of what it learned from are themselves in doubt: at the least
# likelihood that it accepts (0.92) one in a hundred of its hits was wrong (perf/LOG.md).
WRONG_AT_LEAST_LIKELIHOOD = 0.01
ENTRY_WEIGHT = 40.0  # the beginning counts as much as so many observations of one entry …
TOPIC_WEIGHT = 200.0  # … and of one topic
MOST_OBSERVATIONS = 128  # of an entry: the newest


@dataclass(frozen=True, slots=True)
class Observation:
    """One comparison of a stored answer with the one that a question would have got anew."""

    closeness: float  # 0-1, of the two questions
    is_same: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """What was seen of a topic. Added up in the store, by all replicas."""

    same: float = 0.0
    wrong: float = 0.0


NOTHING_SEEN = Tally()


def wrong_rate(closeness: float, entry: Sequence[Observation] = (), topic: Tally = NOTHING_SEEN) -> float:
    """0-1: the estimated share of wrong answers among hits as close as this on this entry."""
    begin = WRONG_AT_LEAST_LIKELIHOOD * (1 - likelihood(closeness)) / (1 - LEAST_LIKELIHOOD)
    of_topic = (begin * TOPIC_WEIGHT + topic.wrong) / (TOPIC_WEIGHT + topic.wrong + topic.same)
    # What was right farther off is right here; what was wrong nearer by, or hardly farther off, is wrong here.
    same = sum(seen.is_same and seen.closeness <= closeness for seen in entry)
    wrong = sum(1 - max(0.0, closeness - seen.closeness) for seen in entry if not seen.is_same)
    return (of_topic * ENTRY_WEIGHT + wrong) / (ENTRY_WEIGHT + same + wrong)


def is_within(
    max_wrong_rate: float, closeness: float, entry: Sequence[Observation] = (), topic: Tally = NOTHING_SEEN
) -> bool:
    """Whether the hit may be given. Rounding is not to refuse the very least that the verifier accepts."""
    return wrong_rate(closeness, entry, topic) <= max_wrong_rate + 1e-9


def noted(tally: Tally, observation: Observation) -> Tally:
    return Tally(tally.same + observation.is_same, tally.wrong + (not observation.is_same))
