"""One turn of a customer's flow: what it makes of the turn, and what is to be remembered of it. Pure but for tools."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from deployments.answering.conditions import Situation
from deployments.answering.flows import (
    MAX_ASIDES,
    Aside,
    Calling,
    Goes,
    Leaves,
    Misses,
    Move,
    Question,
    Saying,
    ask,
    begin,
    called,
    gives_up,
    giving_up,
    kept,
    missed,
    next_move,
    noting,
    read,
)
from deployments.answering.phrases import LEFT
from deployments.answering.protocols import ToolCaller
from deployments.answering.rules import Reply, Rule, Rules
from deployments.answering.session import FlowState, Session
from deployments.answering.slots import plain
from deployments.answering.types import ChatRequest, Language
from models.protocols import IntentPrediction


class CustomerFlow:
    """`resume` first, `begin` if that leaves the turn to the others, `question_again` when they have answered."""

    def __init__(
        self, rules: Rules, tools: ToolCaller | None, request: ChatRequest, session: Session, now: datetime
    ) -> None:
        self._rules = rules
        self._tools = tools
        self._request = request
        self._now = rules.local(now)
        self._text = plain(request.text)
        self._state = session.flow
        self._aside: Aside | None = None
        self._waiting: FlowState | None = None  # whose question is repeated once the aside is answered
        self.rule = ""  # that is at work
        self.state: FlowState | None = None  # what to remember
        self.kept: Mapping[str, str] = session.kept

    @property
    def is_aside(self) -> bool:
        """The turn asks something else than was asked of the customer."""
        return self._aside is not None

    async def resume(self, language: Language) -> Move | None:
        """What the flow says to the turn; None where the turn is not the flow's, or not at once.

        Raises `DependencyError`s of tools.
        """
        state = self._state
        rule = self._rules.named(state.rule) if state is not None else None
        if state is None or rule is None or language not in rule.languages:
            return None
        match read(self._rules, rule, state, self._text, self._now.date()):
            case Goes(gone, corrected):
                move = await self._go(rule, gone, language)
                if corrected and isinstance(move, Question):
                    return noting(self._rules, move, corrected, language)
                return move
            case Leaves():
                return self._noted(Saying(state.rule, None, Reply(LEFT[language])))
            case Misses(missing):
                return self._again(missing, language)
            case Aside() as aside:
                self._aside = aside
                self._waiting = self.state = aside.state if aside.state.asides <= MAX_ASIDES else None
        return None

    async def begin(self, prediction: IntentPrediction | None, language: Language) -> Move | None:
        """The move of the rule that answers this intent, here and now. Raises `DependencyError`s of tools."""
        rule = self._matching(prediction, language)
        if rule is None:
            aside = self._aside
            return self._again(missed(aside.state), language) if aside is not None and not aside.is_sure else None
        waiting = self._waiting
        if waiting is not None and rule.name == waiting.rule:  # said once more what is wanted, and not what was asked
            return self._again(missed(waiting), language)
        move = await self._go(rule, self._begun(rule), language)
        if waiting is not None and isinstance(move, Saying) and not move.handoff_reason:
            self._waiting = self.state = waiting  # answered beside it, as any other question
        return move

    def question_again(self, language: Language) -> Question | None:
        """The question that waited while another one was answered."""
        waiting = self._waiting
        return None if waiting is None else ask(self._rules.slots[waiting.asked], waiting, language)

    def _matching(self, prediction: IntentPrediction | None, language: Language) -> Rule | None:
        if prediction is None:
            return None
        return self._rules.match(prediction, lambda rule: self._situation(language, self._begun(rule)))

    def _begun(self, rule: Rule) -> FlowState:
        return begin(self._rules, rule, self._text, self._now.date(), self.kept)

    async def _go(self, rule: Rule, state: FlowState, language: Language) -> Move:
        self.rule = rule.name
        situation = self._situation(language, state)
        while isinstance(move := next_move(self._rules, rule, state, situation), Calling):
            assert self._tools is not None, "the rules file was checked against the tools that there are"
            result = await self._tools.call(self._request.principal, move.tool, move.arguments)
            state = called(state, move.tool, result)
        return self._noted(move)

    def _again(self, state: FlowState, language: Language) -> Move:
        if gives_up(self._rules, state):
            return self._noted(giving_up(state, language))
        return self._noted(ask(self._rules.slots[state.asked], state, language))

    def _noted(self, move: Move) -> Move:
        self.state, self._waiting = move.state, None
        if move.state is not None and not move.state.asked:
            self.kept = {**self.kept, **kept(self._rules, move.state)}
            self.state = move.state if move.state.values else None  # without values nothing can be corrected
        return move

    def _situation(self, language: Language, state: FlowState) -> Situation:
        return Situation(self._text, language, self._request.channel, self._now, state.values)
