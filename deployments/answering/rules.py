"""Rules: what a sure intent is answered with, at once or after a flow of questions. Pure; `rules_file` reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from deployments.answering.conditions import Condition, Situation
from deployments.answering.slots import Slot
from deployments.answering.types import Button, Language, Link
from deployments.settings import TierName
from models.protocols import OUT_OF_SCOPE, IntentPrediction

UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Reply:
    """`{slot}` in its texts stands for the slot's value."""

    text: str
    buttons: tuple[Button, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """Asks for the slot, unless it is known, and goes on once it is."""

    slot: str
    when: Condition = field(default_factory=Condition)


@dataclass(frozen=True, slots=True)
class Answer:
    """Says something, and ends the flow; with a reason, a person goes on."""

    replies: Mapping[Language, Reply]
    handoff_reason: str = ""
    when: Condition = field(default_factory=Condition)


@dataclass(frozen=True, slots=True)
class CallTool:
    """Its result's fields are values from then on: `{tool.field}`."""

    tool: str
    arguments: Mapping[str, str]  # parameter → text, in which `{slot}` stands for a value
    when: Condition = field(default_factory=Condition)


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Leaves the answer to the knowledge; without queries, to the question that began the flow."""

    queries: Mapping[Language, str] = field(default_factory=dict)
    tier: TierName | None = None  # that writes the answer; None: whichever fits
    when: Condition = field(default_factory=Condition)


Step = Ask | Answer | CallTool | Retrieve


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    intents: tuple[str, ...]
    steps: tuple[Step, ...]  # the last one always applies, and ends the flow
    languages: frozenset[Language]  # that all its steps speak
    when: Condition = field(default_factory=Condition)
    confidence: float | None = None  # least calibrated probability of the intent; None: the intent's own threshold

    @property
    def asked_slots(self) -> list[str]:
        return [step.slot for step in self.steps if isinstance(step, Ask)]


@dataclass(frozen=True, slots=True)
class Rules:
    """Without any, every question is for the knowledge."""

    rules: Sequence[Rule] = ()  # the first one that applies
    slots: Mapping[str, Slot] = field(default_factory=dict)
    time_zone: ZoneInfo = UTC  # of what customers call "yesterday"
    fingerprint: str = ""  # of the file, for cache scopes
    confidence_threshold: float = 1.0  # where the rule has none; or what training chose, if higher
    margin_threshold: float = 0.0

    @property
    def intents(self) -> frozenset[str]:
        return frozenset(intent for rule in self.rules for intent in rule.intents)

    def named(self, name: str) -> Rule | None:
        return next((rule for rule in self.rules if rule.name == name), None)

    def match(self, prediction: IntentPrediction, situation: Callable[[Rule], Situation]) -> Rule | None:
        """The rule that may answer, or None: the classifier is not sure enough, or none is for this situation.

        situation: as it would be in a flow of the rule, with the values that the customer has given already.
        """
        if prediction.label == OUT_OF_SCOPE or prediction.margin < self.margin_threshold:
            return None
        for rule in self.rules:
            own, chosen = rule.confidence, max(self.confidence_threshold, prediction.threshold or 0.0)
            least = chosen if own is None else own
            if prediction.label not in rule.intents or prediction.confidence < least:
                continue
            here = situation(rule)
            if here.language in rule.languages and rule.when.holds(here):
                return rule
        return None

    def local(self, now: datetime) -> datetime:
        return now.astimezone(self.time_zone)
