"""An answer to a caller who brings functions along: a model's own words, and what it wants called. Pure.

A model decides all of it, since only it can ask for a call: no rule, no stored and no curated answer stands in its
place, and where no model is up that is an error. What the knowledge has on the customer's last question is evidence all
the same. Nothing of it is stored: it may rest on what a function has said of one customer.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from deployments.answering.errors import RoomUnavailableError
from deployments.answering.generation import Generation
from deployments.answering.grounding import Grounder
from deployments.answering.prompt import tool_prompt
from deployments.answering.protocols import Tier
from deployments.answering.rules import Rules
from deployments.answering.stored_answers import StoredAnswers
from deployments.answering.tokens import estimated_tokens
from deployments.answering.turn_state import TurnState
from deployments.answering.types import AnswerEvent, RetrievedChunk, ToolUse, Understanding
from deployments.answering.writing import Models, Writer
from models.protocols import ChatMessage, GenerationEnd, GenerationRequest


class ToolWriter(Writer):
    """Writes for one turn whose caller brings functions along."""

    def __init__(self, state: TurnState, models: Models, stored: StoredAnswers, rules: Rules, use: ToolUse) -> None:
        able = {name: tier for name, tier in models.tiers.items() if tier.settings.takes_tools}
        super().__init__(state, replace(models, tiers=able), stored, rules)
        self._use = use

    @property
    def _gives_own_words(self) -> bool:
        return True  # they may rest on what a function said, which no source has

    async def written(
        self, chunks: list[RetrievedChunk], understanding: Understanding | None
    ) -> AsyncGenerator[AnswerEvent, None]:
        tiers, route = self._choose_tiers(chunks, understanding)
        if route is None or not tiers:
            raise RoomUnavailableError("no model that takes tools is up")
        writing = Generation(tiers, lambda tier: self._generation(tier, chunks), self._help())
        async with aclosing(self._checked(writing, chunks)) as items:
            first = await anext(items)
            name, sources = writing.author.settings.name, self._sources_for(writing.author, chunks)
            end, grounder = GenerationEnd("stop", 0, 0), Grounder(sources)
            yield self._state.begin(name, f"tools, {len(sources.chunks)} sources for the {name} model, {route.reason}")
            async with aclosing(self._told(first, items, grounder)) as told:
                async for said in told:
                    if isinstance(said, GenerationEnd):
                        end = said
                    else:
                        yield said
        for call in writing.calls:
            yield self._state.called(call)
        self._note_route(route, chunks, understanding)
        yield self._state.done(end, grounded=grounder.is_grounded)

    def _generation(self, tier: Tier, chunks: list[RetrievedChunk]) -> GenerationRequest:
        sources = self._sources_for(tier, chunks).chunks
        messages = self._prompt(sources, self._evidence_tokens(tier))
        return replace(super()._generation(tier, chunks), messages=messages, tools=self._use.fields)

    def _prompt(self, evidence: Sequence[RetrievedChunk], max_tokens: int) -> tuple[ChatMessage, ...]:
        policy = self._state.settings.tenant(self._state.request.principal.tenant).policy
        return tool_prompt(self._use.messages, self._state.query.language, evidence, max_tokens, policy=policy)

    def _frame_tokens(self, tier: Tier) -> int:
        texts = [message.content for message in self._prompt([], 0)]
        return sum(estimated_tokens(text) for text in [*texts, json.dumps(self._use.fields, ensure_ascii=False)])

    @property
    def _said(self) -> tuple[ChatMessage, ...]:
        return self._use.messages
