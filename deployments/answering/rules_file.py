"""The rules file (YAML) to `Rules`: every problem with its line and key, none of them at the first customer. Pure,
but for reading the file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from deployments.answering.conditions import Condition, Hours, SlotTest, Span
from deployments.answering.flow_texts import placeholders
from deployments.answering.marked_yaml import Location, Marked, YamlError, load_marked
from deployments.answering.rules import Answer, Ask, CallTool, Reply, Retrieve, Rule, Rules, Step
from deployments.answering.slot_amounts import CURRENCY_CODES, Amount
from deployments.answering.slot_codes import OrderNumber, Pattern, PatternError, Phone
from deployments.answering.slot_dates import DateSlot
from deployments.answering.slots import Choice, FreeText, Option, Slot, SlotKind
from deployments.answering.types import Button, Language, Link
from deployments.settings import TierName
from models.protocols import OUT_OF_SCOPE

LANGUAGES: tuple[Language, ...] = ("en", "zh")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the file that must (or, as a warning, should) be corrected."""

    line: int
    key: str  # "rules[3].reply.en.text"
    message: str

    def text(self, path: Path) -> str:
        return f"{path}:{self.line}: {self.key + ': ' if self.key else ''}{self.message}"


class RulesError(ValueError):
    """The rules file is not valid; the message names file, line and key of everything that is wrong."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


def load_rules(path: Path, confidence_threshold: float, margin_threshold: float, tools: Collection[str] = ()) -> Rules:
    """tools: names of those that can be called. Raises `RulesError` that says what to correct."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RulesError(f"cannot read the rules file {path}: {error.strerror}") from error
    entries, problems = _checked(content, tools)
    if problems:
        told = "\n".join(f"  {problem.text(path)}" for problem in problems)
        raise RulesError(f"{path} is not a valid rules file:\n{told}", problems)
    return Rules(
        rules=tuple(_rule(entry, entries) for entry in entries.rules),
        slots={name: _slot(name, entry) for name, entry in entries.slots.items()},
        time_zone=entries.time_zone,
        fingerprint=fingerprint(content),
        confidence_threshold=confidence_threshold,
        margin_threshold=margin_threshold,
    )


def fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def warnings(path: Path, labels: Collection[str]) -> list[Problem]:
    """What a valid file says in vain. labels: the intents that the trained head knows."""
    marked = load_marked(path.read_bytes())
    entries = _RulesFile.model_validate(marked.value)
    found = []
    for number, rule in enumerate(entries.rules):
        for intent in rule.intent:
            where = ("rules", number, "intent")
            if intent == OUT_OF_SCOPE:
                found.append(_problem(marked, where, f"no rule answers what is {OUT_OF_SCOPE}"))
            elif intent not in labels:
                found.append(
                    _problem(marked, where, f"the trained head knows no intent '{intent}', so this rule never answers")
                )
    asked = {step.ask for rule in entries.rules for step in rule.all_steps}
    for name in entries.slots.keys() - asked:
        found.append(_problem(marked, ("slots", name), "no rule asks for this slot"))
    return sorted(found, key=lambda problem: problem.line)


# --- the file's own shape ---


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone '{name}'; they are named like Europe/Berlin") from error


def _clock(value: Any) -> Any:
    return time(23, 59, 59, 999_999) if value == "24:00" else value


def _usable(pattern: str) -> str:
    try:
        Pattern(pattern)
    except PatternError as error:
        raise ValueError(str(error)) from error
    return pattern


Item = TypeVar("Item")
OneOrMore = Annotated[tuple[Item, ...], BeforeValidator(_as_list), Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
Zone = Annotated[ZoneInfo, BeforeValidator(_zone), PlainSerializer(str)]
Clock = Annotated[time, BeforeValidator(_clock)]
Expression = Annotated[str, AfterValidator(_usable)]
Texts = Annotated[dict[Language, Text], Field(min_length=1)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class _ButtonEntry(_Entry):
    label: Text
    message: Text


class _LinkEntry(_Entry):
    label: Text
    url: Annotated[str, Field(pattern=r"^https?://")]


class _ReplyEntry(_Entry):
    text: Text
    buttons: tuple[_ButtonEntry, ...] = ()
    links: tuple[_LinkEntry, ...] = ()


class _HandoffEntry(_Entry):
    reason: Text


class _ToolEntry(_Entry):
    name: Name
    arguments: dict[Name, str] = {}


class _SlotTestEntry(_Entry):
    is_known: bool | None = None
    one_of: OneOrMore[str] | None = None
    matches: Expression | None = None
    at_least: Decimal | None = None
    at_most: Decimal | None = None
    within_days: Annotated[int, Field(ge=0)] | None = None


class _ConditionEntry(_Entry):
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None  # of a rule, not of a step
    language: OneOrMore[Language] | None = None
    channel: OneOrMore[Text] | None = None
    hours: Text | None = None
    outside_hours: Text | None = None
    slots: dict[str, _SlotTestEntry] = {}


Replies = Annotated[dict[Language, _ReplyEntry], Field(min_length=1)]
ACTIONS = ("ask", "reply", "handoff", "tool", "retrieve")


class _StepEntry(_Entry):
    when: _ConditionEntry = _ConditionEntry()
    ask: Text | None = None
    reply: Replies | None = None
    handoff: _HandoffEntry | None = None
    tool: _ToolEntry | None = None
    retrieve: Literal[True] | None = None
    query: Texts | None = None  # what is retrieved, where it is not the customer's question
    tier: TierName | None = None  # that writes the answer from what is retrieved

    @property
    def actions(self) -> list[str]:
        return [name for name in ACTIONS if getattr(self, name) is not None]

    @property
    def ends(self) -> bool:
        return self.ask is None and self.tool is None

    @property
    def is_always(self) -> bool:
        return self.when == _ConditionEntry()


class _RuleEntry(_StepEntry):
    """One step of its own, or `steps`."""

    name: Text
    intent: OneOrMore[Text]
    steps: tuple[_StepEntry, ...] = ()

    @property
    def all_steps(self) -> tuple[_StepEntry, ...]:
        return self.steps or (self,)


class _SpanEntry(_Entry):
    days: OneOrMore[Day] = _DAYS
    begin: Clock = Field(alias="from")
    end: Clock = Field(alias="to")


class _OptionEntry(_Entry):
    value: Text
    labels: dict[Language, OneOrMore[Text]] = Field(min_length=1)


class _SlotEntry(_Entry):
    type: Literal["order_number", "date", "phone", "amount", "text", "choice"]
    ask: Texts
    hint: dict[Language, Text] = {}
    max_tries: Annotated[int, Field(ge=1, le=10)] = 3
    keep: bool = False
    pattern: Expression | None = None
    examples: OneOrMore[Text] = ()
    prefer: Literal["past", "future"] = "past"
    earliest_days: int | None = None
    latest_days: int | None = None
    day_first: bool = True
    currency: str | None = None
    least: Decimal | None = None
    most: Decimal | None = None
    least_chars: Annotated[int, Field(ge=1)] = 1
    most_chars: Annotated[int, Field(ge=1, le=4000)] = 1000
    choices: tuple[_OptionEntry, ...] = ()

    @model_validator(mode="after")
    def _is_of_its_type(self) -> _SlotEntry:
        own = _KEYS_OF[self.type]
        foreign = self.model_fields_set - own - {"type", "ask", "hint", "max_tries", "keep"}
        if foreign:
            raise ValueError(f"a slot of type {self.type} has no {', '.join(sorted(foreign))}")
        if self.type == "order_number" and self.pattern is None:
            raise ValueError("a slot of type order_number needs a pattern")
        if self.type == "choice" and len({option.value for option in self.choices}) < 2:
            raise ValueError("a slot of type choice needs at least two different choices")
        if self.currency is not None and self.currency not in CURRENCY_CODES:
            raise ValueError(f"currency is one of {', '.join(sorted(CURRENCY_CODES))}")
        return self

    @model_validator(mode="after")
    def _examples_fit(self) -> _SlotEntry:
        if self.pattern is not None:
            pattern = Pattern(self.pattern)
            for example in self.examples:
                if not pattern.matches(example):
                    raise ValueError(f"the example '{example}' does not match the pattern")
        return self


_KEYS_OF: dict[str, set[str]] = {
    "order_number": {"pattern", "examples"},
    "date": {"prefer", "earliest_days", "latest_days", "day_first"},
    "phone": set(),
    "amount": {"currency", "least", "most"},
    "text": {"least_chars", "most_chars"},
    "choice": {"choices"},
}


class _RulesFile(_Entry):
    rules: tuple[_RuleEntry, ...]
    slots: dict[Name, _SlotEntry] = {}
    hours: dict[Name, tuple[_SpanEntry, ...]] = {}
    time_zone: Zone = ZoneInfo("UTC")


# --- what is wrong with it ---


def _checked(content: bytes, tools: Collection[str]) -> tuple[_RulesFile, list[Problem]]:
    try:
        marked = load_marked(content)
    except YamlError as error:
        return _RulesFile(rules=()), [Problem(error.line, "", str(error))]
    try:
        entries = _RulesFile.model_validate(marked.value)
    except ValidationError as error:
        problems = {_problem(marked, _cleaned(item["loc"]), _said(item)): None for item in error.errors()}
        return _RulesFile(rules=()), sorted(problems, key=lambda problem: problem.line)
    problems = {_problem(marked, where, what): None for where, what in _contradictions(entries, tools)}
    return entries, sorted(problems, key=lambda problem: problem.line)


def _problem(marked: Marked, where: Sequence[int | str], message: str) -> Problem:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    return Problem(marked.line(where), key, message)


def _cleaned(location: Sequence[int | str]) -> Location:
    return tuple(part for part in location if part != "[key]")


def _said(item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return "there is no such key"
    return str(item["msg"]).removeprefix("Value error, ")


Said = Iterator[tuple[Location, str]]


def _contradictions(entries: _RulesFile, tools: Collection[str]) -> Said:
    names: dict[str, int] = {}
    for number, rule in enumerate(entries.rules):
        here: Location = ("rules", number)
        if rule.name in names:
            yield (*here, "name"), f"rules[{names[rule.name]}] has the same name"
        names.setdefault(rule.name, number)
        yield from _out_of_reach(entries.rules, number)
        if rule.steps and rule.actions:
            yield here, f"a rule has steps, or one action of its own, not both: {', '.join(rule.actions)}"
            continue
        yield from _of_condition(rule.when, entries, (*here, "when"))
        yield from _of_steps(rule, entries, tools, here)


def _out_of_reach(rules: Sequence[_RuleEntry], number: int) -> Said:
    """An earlier rule of the same intent that always answers leaves nothing for this one."""
    for earlier in rules[:number]:
        if earlier.is_always:
            for intent in set(earlier.intent) & set(rules[number].intent):
                yield (
                    ("rules", number, "intent"),
                    f"never reached: rule '{earlier.name}' answers the intent {intent} always",
                )


def _of_steps(rule: _RuleEntry, entries: _RulesFile, tools: Collection[str], here: Location) -> Said:
    known: set[str] = {name for name, slot in entries.slots.items() if slot.keep}
    for number, step in enumerate(rule.all_steps):
        place = (*here, "steps", number) if rule.steps else here
        if rule.steps:
            yield from _of_condition(step.when, entries, (*place, "when"))
            if step.when.confidence is not None:
                yield (*place, "when", "confidence"), "the confidence is a condition of the rule, not of a step"
        yield from _of_action(step, place)
        if step.ask is not None:
            if step.ask not in entries.slots:
                yield (*place, "ask"), f"there is no slot '{step.ask}' in this file"
            known.add(step.ask)
        if step.tool is not None:
            if step.tool.name not in tools:
                yield (*place, "tool", "name"), _no_such_tool(step.tool.name, tools)
            known.add(f"{step.tool.name}.")
        yield from _of_placeholders(step, known, place)
        if rule.steps and step.ends and step.is_always and number < len(rule.steps) - 1:
            yield (*here, "steps", number + 1), "never reached: the step before it always ends the flow"
            break
    last = rule.all_steps[-1]
    if not last.ends or (rule.steps and not last.is_always):
        where = (*here, "steps", len(rule.steps) - 1) if rule.steps else here
        yield where, "the last step must end the flow, whatever comes: a reply, handoff or retrieve without 'when'"
    if not _languages(rule, entries):
        yield here, "there is no language that all its replies and questions speak"


def _no_such_tool(name: str, tools: Collection[str]) -> str:
    if not tools:
        return f"there is no tool '{name}': no tools are set up here, so a rule cannot call any"
    return f"there is no tool '{name}'; there are {', '.join(sorted(tools))}"


def _of_action(step: _StepEntry, place: Location) -> Said:
    actions = set(step.actions)
    if not actions:
        yield place, f"it does nothing: give it one of {', '.join(ACTIONS)}"
    elif len(actions) > 1 and actions != {"reply", "handoff"}:
        yield place, f"one step does one thing, not {' and '.join(step.actions)}"
    if step.query is not None and step.retrieve is None:
        yield (*place, "query"), "a query needs 'retrieve: true'"
    if step.tier is not None and step.retrieve is None:
        yield (*place, "tier"), "a tier writes from what is retrieved: it needs 'retrieve: true'"


def _of_condition(when: _ConditionEntry, entries: _RulesFile, place: Location) -> Said:
    for key in ("hours", "outside_hours"):
        name = getattr(when, key)
        if name is not None and name not in entries.hours:
            yield (*place, key), f"there are no hours '{name}' in this file"
    for name, test in when.slots.items():
        where = (*place, "slots", name)
        if name not in entries.slots and "." not in name:
            yield where, f"there is no slot '{name}' in this file"
            continue
        kind = entries.slots[name].type if name in entries.slots else ""
        if test.within_days is not None and kind != "date":
            yield (*where, "within_days"), "only a slot of type date has it"
        if (test.at_least is not None or test.at_most is not None) and kind in ("date", "choice", "text", "phone"):
            yield where, "at_least and at_most are for amounts"
        if kind == "choice" and test.one_of is not None:
            foreign = set(test.one_of) - {option.value for option in entries.slots[name].choices}
            if foreign:
                yield (*where, "one_of"), f"no choice of this slot: {', '.join(sorted(foreign))}"


def _of_placeholders(step: _StepEntry, known: set[str], place: Location) -> Said:
    for where, text in _texts(step):
        for name in placeholders(text):
            if name not in known and f"{name.partition('.')[0]}." not in known:
                yield (*place, *where), f"{{{name}}} is no slot that was asked for before"


def _texts(step: _StepEntry) -> Iterator[tuple[Location, str]]:
    for language, reply in (step.reply or {}).items():
        yield ("reply", language, "text"), reply.text
        for number, button in enumerate(reply.buttons):
            yield ("reply", language, "buttons", number, "message"), button.message
            yield ("reply", language, "buttons", number, "label"), button.label
        for number, link in enumerate(reply.links):
            yield ("reply", language, "links", number, "url"), link.url
    if step.handoff is not None:
        yield ("handoff", "reason"), step.handoff.reason
    for name, text in (step.tool.arguments if step.tool else {}).items():
        yield ("tool", "arguments", name), text
    for language, text in (step.query or {}).items():
        yield ("query", language), text


# --- from entries to values ---


def _languages(rule: _RuleEntry, entries: _RulesFile) -> frozenset[Language]:
    """That every step speaks, but for steps that are not for them."""
    spoken = set(LANGUAGES)
    for step in rule.all_steps:
        others = set(LANGUAGES) - set(step.when.language or LANGUAGES)
        asked = entries.slots[step.ask].ask if step.ask in entries.slots else None
        for texts in (step.reply, step.query, asked):
            if texts is not None:
                spoken &= texts.keys() | others
    return frozenset(spoken & set(rule.when.language or LANGUAGES))


def _rule(entry: _RuleEntry, entries: _RulesFile) -> Rule:
    return Rule(
        name=entry.name,
        intents=entry.intent,
        steps=tuple(_step(step, entries, is_rule=not entry.steps) for step in entry.all_steps),
        languages=_languages(entry, entries),
        when=_condition(entry.when, entries),
        confidence=entry.when.confidence,
    )


def _step(entry: _StepEntry, entries: _RulesFile, *, is_rule: bool) -> Step:
    when = Condition() if is_rule else _condition(entry.when, entries)
    if entry.ask is not None:
        return Ask(entry.ask, when)
    if entry.tool is not None:
        return CallTool(entry.tool.name, entry.tool.arguments, when)
    if entry.retrieve is not None:
        return Retrieve(entry.query or {}, entry.tier, when)
    replies = {language: _reply(reply) for language, reply in (entry.reply or {}).items()}
    return Answer(replies, entry.handoff.reason if entry.handoff else "", when)


def _reply(entry: _ReplyEntry) -> Reply:
    return Reply(
        text=entry.text.strip(),
        buttons=tuple(Button(button.label, button.message) for button in entry.buttons),
        links=tuple(Link(link.label, link.url) for link in entry.links),
    )


def _condition(entry: _ConditionEntry, entries: _RulesFile) -> Condition:
    return Condition(
        languages=frozenset(entry.language or ()),
        channels=frozenset(entry.channel or ()),
        hours=_hours(entry.hours, entries),
        outside_hours=_hours(entry.outside_hours, entries),
        slots={name: _slot_test(test) for name, test in entry.slots.items()},
    )


def _hours(name: str | None, entries: _RulesFile) -> Hours | None:
    if name is None:
        return None
    spans = (Span(frozenset(map(_DAYS.index, span.days)), span.begin, span.end) for span in entries.hours[name])
    return Hours(entries.time_zone, tuple(spans))


def _slot_test(entry: _SlotTestEntry) -> SlotTest:
    return SlotTest(
        is_known=entry.is_known,
        one_of=frozenset(entry.one_of or ()),
        matches=Pattern(entry.matches) if entry.matches is not None else None,
        at_least=entry.at_least,
        at_most=entry.at_most,
        within_days=entry.within_days,
    )


_KINDS: Mapping[str, Callable[[_SlotEntry], SlotKind]] = {
    "order_number": lambda entry: OrderNumber(Pattern(str(entry.pattern)), entry.examples),
    "date": lambda entry: DateSlot(entry.prefer, entry.earliest_days, entry.latest_days, entry.day_first),
    "phone": lambda entry: Phone(),
    "amount": lambda entry: Amount(entry.currency, entry.least, entry.most),
    "text": lambda entry: FreeText(entry.least_chars, entry.most_chars),
    "choice": lambda entry: Choice(tuple(Option(option.value, option.labels) for option in entry.choices)),
}


def _slot(name: str, entry: _SlotEntry) -> Slot:
    return Slot(name, _KINDS[entry.type](entry), entry.ask, entry.hint, entry.max_tries, entry.keep)
