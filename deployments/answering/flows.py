"""A rule's flow with one customer: asks for slots, takes answers, corrections and leave, says what is next. Pure.

A flow has no program counter: with the values known so far its steps are walked from the top, and the first that is
left to do is next. So a corrected value, or a rules file that changed meanwhile, needs no care of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import assert_never
from urllib.parse import quote

from deployments.answering.conditions import Situation
from deployments.answering.flow_texts import filled
from deployments.answering.flow_words import asks, cancels, corrects
from deployments.answering.phrases import ASK_AGAIN, CORRECTED, HANDED_OVER
from deployments.answering.rules import Answer, Ask, CallTool, Reply, Retrieve, Rule, Rules
from deployments.answering.session import FlowState
from deployments.answering.slots import Found, Slot
from deployments.answering.turn_kind import kind_of
from deployments.answering.types import Button, Language, Link

MAX_QUESTION_CHARS = 1000  # remembered of the words that began a flow
MAX_ASIDES = 3  # other questions in a row, after which ours is dropped: the customer wants something else


# --- what the customer's turn is to a flow ---


@dataclass(frozen=True, slots=True)
class Goes:
    """It gave or corrected values: the flow goes on."""

    state: FlowState
    corrected: str = ""  # the slot whose value was another one before


@dataclass(frozen=True, slots=True)
class Leaves:
    """The customer does not want to go on."""


@dataclass(frozen=True, slots=True)
class Misses:
    """Meant as an answer, and cannot be one."""

    state: FlowState  # one try more


@dataclass(frozen=True, slots=True)
class Aside:
    """Something else, which is answered first. Unsure: an answer that cannot be one, unless it means an intent."""

    state: FlowState  # one aside more
    is_sure: bool


Reading = Goes | Leaves | Misses | Aside


def begin(rules: Rules, rule: Rule, text: str, today: date, kept: Mapping[str, str]) -> FlowState:
    """With what the customer's first words say already."""
    known = {name: value for name, value in kept.items() if name in rules.slots}
    own = _extracted(rules, rule, text, today, skip=())
    return FlowState(rule.name, text[:MAX_QUESTION_CHARS], known | own)


def read(rules: Rules, rule: Rule, state: FlowState, text: str, today: date) -> Reading | None:
    """The customer's turn, as the flow takes it; None when it has nothing to do with it.

    A flow that ended with the turn before takes nothing but a correction.
    """
    if (corrected := _correction(rules, rule, state, text, today)) is not None:
        return corrected
    slot = rules.slots.get(state.asked)
    if slot is None:
        return None
    if cancels(text):
        return Leaves()
    found = slot.kind.read(text, today)
    if isinstance(found, Found) and not (asks(text) and not _answers(slot, found, text)):
        rest = text[: found.start] + " " * (found.end - found.start) + text[found.end :]
        more = _extracted(rules, rule, rest, today, skip=(*state.values, slot.name))
        return Goes(replace(state, values={**state.values, slot.name: found.value, **more}, tries=0, asides=0))
    aside = replace(state, asides=state.asides + 1)
    if kind_of(text) != "question" or asks(text):
        return Aside(aside, is_sure=True)
    missed = replace(state, tries=state.tries + 1)
    return Misses(missed) if isinstance(found, str) else Aside(aside, is_sure=False)


def missed(state: FlowState) -> FlowState:
    """An unsure aside that turned out to mean nothing else."""
    return replace(state, tries=state.tries + 1, asides=max(0, state.asides - 1))


def _answers(slot: Slot, found: Found, text: str) -> bool:
    """Whether a value in a question is given to us, or the question's own: "is delivery free from 50 EUR?" """
    return slot.kind.names_one or 2 * (found.end - found.start) >= len(text.strip(" ?？"))


def _extracted(rules: Rules, rule: Rule, text: str, today: date, skip: tuple[str, ...]) -> dict[str, str]:
    """Values of the slots that the rule asks for; no word is taken for two of them."""
    found: dict[str, str] = {}
    taken: list[Found] = []
    for name in rule.asked_slots:
        if name in skip or name in found:
            continue
        for one in rules.slots[name].kind.find(text, today):
            if not any(one.start < other.end and other.start < one.end for other in taken):
                found[name] = one.value
                taken.append(one)
                break
    return found


def _correction(rules: Rules, rule: Rule, state: FlowState, text: str, today: date) -> Goes | None:
    """With the newest value that the turn puts another one in place of."""
    if not state.values or not corrects(text):
        return None
    own = [name for name in state.values if name in rules.slots and name in rule.asked_slots]
    for name in reversed(own):
        if asks(text) and not rules.slots[name].kind.names_one:
            continue  # "actually, does that hold for orders of Monday, too?"
        found = rules.slots[name].kind.revise(text, state.values[name], today)
        if found is not None:
            # What tools said was about the value that was wrong.
            values = {key: value for key, value in state.values.items() if "." not in key}
            return Goes(replace(state, values=values | {name: found.value}, tries=0, asides=0), corrected=name)
    return None


# --- what comes next ---


@dataclass(frozen=True, slots=True)
class Question:
    state: FlowState
    text: str
    buttons: tuple[Button, ...]


@dataclass(frozen=True, slots=True)
class Saying:
    rule: str
    state: FlowState | None  # ended; None: left, or given up, and not to be corrected
    reply: Reply
    handoff_reason: str = ""


@dataclass(frozen=True, slots=True)
class Calling:
    tool: str
    arguments: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Searching:
    state: FlowState  # ended
    question: str
    tier: str | None = None  # that is to write the answer


Move = Question | Saying | Searching


def next_move(rules: Rules, rule: Rule, state: FlowState, situation: Situation) -> Move | Calling:
    """The first step that applies and is left to do. `situation` without values: they are the state's."""
    here = replace(situation, values=state.values)
    language = situation.language
    ended = replace(state, asked="", tries=0, asides=0)
    for step in rule.steps:
        if not step.when.holds(here):
            continue
        match step:
            case Ask(slot):
                if slot not in state.values:
                    return ask(rules.slots[slot], state, language)
            case CallTool(tool, arguments):
                if f"{tool}.done" not in state.values:
                    return Calling(
                        tool, {name: _filled(text, rules, state, language) for name, text in arguments.items()}
                    )
            case Answer(replies, reason):
                reply = _reply(replies.get(language), rules, state, language)
                return Saying(rule.name, ended, reply, _filled(reason, rules, state, language))
            case Retrieve(queries, tier):
                query = queries.get(language)
                question = state.question if query is None else _filled(query, rules, state, language)
                return Searching(ended, question, tier)
            case _:
                assert_never(step)
    raise AssertionError(f"rule {rule.name} has no end, which its file is checked for")


def ask(slot: Slot, state: FlowState, language: Language) -> Question:
    """The slot's question; after a wrong answer its hint. A new question begins to count anew."""
    is_new = state.asked != slot.name
    asked = replace(state, asked=slot.name, tries=0 if is_new else state.tries, asides=0 if is_new else state.asides)
    text = slot.ask[language]
    if asked.tries:
        text = slot.hint.get(language) or f"{ASK_AGAIN[language]}{text}"
    return Question(asked, text, slot.buttons(language))


def gives_up(rules: Rules, state: FlowState) -> bool:
    slot = rules.slots.get(state.asked)
    return slot is not None and state.tries >= slot.max_tries


def giving_up(state: FlowState, language: Language) -> Saying:
    return Saying(state.rule, None, Reply(HANDED_OVER[language]), f"no valid {state.asked} after {state.tries} tries")


def noting(rules: Rules, question: Question, corrected: str, language: Language) -> Question:
    """A correction is said back before the flow goes on."""
    value = rules.slots[corrected].kind.shown(question.state.values[corrected], language)
    return replace(question, text=f"{CORRECTED[language].format(value=value)}{question.text}")


def called(state: FlowState, tool: str, result: Mapping[str, str]) -> FlowState:
    fields = {f"{tool}.{name}": value for name, value in result.items()}
    return replace(state, values={**state.values, **fields, f"{tool}.done": "yes"})


def kept(rules: Rules, state: FlowState) -> dict[str, str]:
    """What outlives the flow."""
    return {name: value for name, value in state.values.items() if name in rules.slots and rules.slots[name].keep}


def _reply(reply: Reply | None, rules: Rules, state: FlowState, language: Language) -> Reply:
    if reply is None:  # a hand-off without words of its own
        return Reply(HANDED_OVER[language])

    def put(text: str) -> str:
        return _filled(text, rules, state, language)

    return Reply(
        put(reply.text),
        tuple(Button(put(button.label), put(button.message)) for button in reply.buttons),
        tuple(Link(link.label, _filled(link.url, rules, state, language, is_url=True)) for link in reply.links),
    )


def _filled(text: str, rules: Rules, state: FlowState, language: Language, *, is_url: bool = False) -> str:
    def shown(name: str) -> str:
        value = state.values.get(name, "")
        if is_url:
            return quote(value, safe="")
        return rules.slots[name].kind.shown(value, language) if name in rules.slots and value else value

    return filled(text, shown)
