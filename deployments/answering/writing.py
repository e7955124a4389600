"""An answer that a language model writes: which one does, with what prompt, held to which sources. Pure."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import TypeVar

import structlog

from deployments.answering.errors import (
    DependencyError,
    OverloadedError,
)
from deployments.answering.evidence import bound_of_passages
from deployments.answering.generation import Generation, Help
from deployments.answering.grounding import Grounder, Sources, cite, excerpt, supported
from deployments.answering.links import LinkFilter, filtered, host_of, without_links
from deployments.answering.phrases import (
    ASK_FOR_A_PERSON,
    QUOTED,
    UNSUPPORTED,
)
from deployments.answering.private import private_values
from deployments.answering.prompt import build_prompt, packed, tokens_of_frame
from deployments.answering.protocols import Tier
from deployments.answering.resilience import RetryBudget
from deployments.answering.routing import Features, Route, Router, TierLoads, as_row, features
from deployments.answering.rules import Rules
from deployments.answering.stored_answers import StoredAnswers
from deployments.answering.turn_state import TurnState
from deployments.answering.types import (
    AnswerEvent,
    Button,
    Principal,
    RetrievedChunk,
    Understanding,
)
from models.protocols import ChatMessage, GenerationEnd, GenerationRequest, TextDelta

log = structlog.get_logger(__name__)
T = TypeVar("T")
PASSAGE_CHARS = 700  # of a passage that is quoted instead of a generated answer


@dataclass(slots=True)
class Models:
    """The language models of a pipeline, and what is known of them."""

    tiers: dict[str, Tier]  # by name
    router: Router
    retries: RetryBudget
    loads: TierLoads

    def tiers_for(self, principal: Principal) -> dict[str, Tier]:
        """By name: those that may see this principal's questions. For all others the rest do not exist."""
        return {name: tier for name, tier in self.tiers.items() if tier.settings.may_use(principal.tenant)}


class Writer:
    """Writes for one turn."""

    def __init__(self, state: TurnState, models: Models, stored: StoredAnswers, rules: Rules) -> None:
        self._state = state
        self._models = models
        self._stored = stored
        self._rules = rules
        self.wanted_tier: str | None = None  # by a rule
        self._sources: dict[str, Sources] = {}  # by the name of the tier whose prompt they fit

    def _choose_tiers(
        self, chunks: list[RetrievedChunk], understanding: Understanding | None
    ) -> tuple[list[Tier], Route | None]:
        """Those that are up and write the customer's language, the one that fits the question first, and why it does.

        Why that one, or any, is not up goes into `degraded`.
        """
        tiers, named = self._models.tiers_for(self._state.request.principal), self._state.request.model
        fluent = [name for name, tier in tiers.items() if self._state.query.language in tier.settings.languages]
        candidates = fluent if named is None else [named]
        if not candidates:
            return [], None
        route = self._models.router.choose(
            [self._models.loads.view(tiers[name].settings) for name in candidates],
            lambda: self._features(chunks, understanding),
            wanted=self.wanted_tier,
            left_s=self._state.limit_s("generate", self._state.budget.total_s),
        )
        ordered = [tiers[name] for name in route.tiers]
        for tier in takewhile(lambda tier: tier.state != "ready", ordered):
            self._state.record.degraded.append(f"{tier.settings.name}:{tier.state}")
        return [tier for tier in ordered if tier.state == "ready"], route

    def _features(self, chunks: list[RetrievedChunk], understanding: Understanding | None) -> Features:
        return features(self._state.query, understanding, chunks, uses_tools=bool(self._state.private))

    async def written(
        self, chunks: list[RetrievedChunk], understanding: Understanding | None
    ) -> AsyncGenerator[AnswerEvent, None]:
        tiers, route = self._choose_tiers(chunks, understanding)
        if route is None or not tiers:
            for event in self.passage(chunks[0], "no model that writes this language is up"):
                yield event
            return
        writing = Generation(tiers, lambda tier: self._generation(tier, chunks), self._help())
        began_s = time.perf_counter()
        async with aclosing(self._checked(writing, chunks)) as items:
            try:
                first = await anext(items)
            except (DependencyError, OverloadedError) as error:  # nothing was said: what can be said without a model
                self._state.degrade(f"{writing.tier.settings.name}:{error.code}", error)
                first = None
            name, sources = writing.author.settings.name, self._sources_for(writing.author, chunks)
            if not isinstance(first, TextDelta):
                self._note_route(route, chunks, understanding)
                for event in self.passage(chunks[0], f"the {name} model had no supported answer"):
                    yield event
                return
            self._models.loads.began_to_write(name, time.perf_counter() - began_s)
            yield self._state.begin(name, f"{len(sources.chunks)} sources for the {name} model, {route.reason}")
            end, grounder = GenerationEnd("stop", 0, 0), Grounder(sources)
            async with aclosing(self._told(first, items, grounder)) as told:
                async for said in told:
                    if isinstance(said, GenerationEnd):
                        end = said
                    else:
                        yield said
        is_own_word = grounder.has_source or self._gives_own_words
        if not is_own_word:  # it cannot be taken back: the customer is told, and offered a person
            yield self._state.delta(f"\n\n{UNSUPPORTED[self._state.query.language]}")
        done = self._state.done(end, grounded=grounder.is_grounded)
        if not is_own_word:
            label, message = ASK_FOR_A_PERSON[self._state.query.language]
            done = replace(done, buttons=(Button(label, message),))
        bound = bound_of_passages(sources.chunks, self._state.query.search_text, self._state.query.language)
        await self._stored.keep(understanding, sources.chunks, bound)
        self._note_route(route, chunks, understanding)
        yield done

    async def _told(
        self,
        first: TextDelta | GenerationEnd,
        items: AsyncGenerator[TextDelta | GenerationEnd, None],
        grounder: Grounder,
    ) -> AsyncGenerator[AnswerEvent | GenerationEnd, None]:
        """What a model writes, with each source as soon as its sentence is finished."""
        item: TextDelta | GenerationEnd | None = first
        while item is not None:
            if isinstance(item, GenerationEnd):
                yield item
            else:
                yield self._state.delta(item.text)
                for citation in grounder.feed(item.text):
                    yield self._state.cited(citation)
            item = await anext(items, None)
        for citation in grounder.rest():
            yield self._state.cited(citation)

    def _note_route(self, route: Route, chunks: list[RetrievedChunk], understanding: Understanding | None) -> None:
        """Also where nothing was chosen: what was seen then is what a choice can be fitted to."""
        seen = route.features or self._features(chunks, understanding)
        self._state.record.route_score, self._state.record.route_features = route.score or 0.0, as_row(seen)

    async def _checked(
        self, writing: Generation, chunks: list[RetrievedChunk]
    ) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
        """What a model writes; where its tier asks for it, only as far as the sources support it.

        A caller who names a model is given that model's own words.
        """
        self._state.waits = False  # but for a model
        async with self._models.loads.at_work(writing.tier.settings.name), aclosing(writing.items()) as items:
            first = await anext(items)  # only now it is known which tier writes
            tier, sources = writing.author, self._sources_for(writing.author, chunks)
            generated = without_links(_with_first(first, items), LinkFilter(self._hosts(sources.chunks)))
            if tier.settings.supported_only and not self._gives_own_words:

                def note(sentence: str) -> None:
                    log.info("unsupported_sentence", request_id=self._state.request.request_id, sentence=sentence[:200])
                    self._state.record.degraded.append(f"{tier.settings.name}:unsupported")

                generated = supported(generated, sources, note)
            async with aclosing(generated):
                async for item in generated:
                    yield item

    @property
    def _gives_own_words(self) -> bool:
        """Whether the model's words are given as they are, supported or not."""
        return self._state.request.model is not None

    def _help(self) -> Help:
        state = self._state
        left_s = partial(state.limit_s, "generate", state.budget.total_s)
        return Help(self._models.retries, left_s, state.degrade, partial(state.spans.step, "first words"))

    def _hosts(self, evidence: Sequence[RetrievedChunk]) -> set[str]:
        """Hosts that an answer may link to: the company's, and those that its evidence came from."""
        own = {host for found in evidence if (host := host_of(found.chunk.url)) is not None}
        return own | set(self._state.settings.answers.link_hosts)

    def _generation(self, tier: Tier, chunks: list[RetrievedChunk]) -> GenerationRequest:
        request, tenant = self._state.request, self._state.settings.tenant(self._state.request.principal.tenant)
        history = self._history(tier)
        return GenerationRequest(
            messages=build_prompt(
                self._state.query,
                self._sources_for(tier, chunks).chunks,
                self._evidence_tokens(tier),
                policy=tenant.policy,
                history=history,
            ),
            max_output_tokens=self._max_output_tokens(tier),
            temperature=request.temperature,
            seed=request.seed,
            request_id=request.turn_id,
            tenant=request.principal.tenant,
            private=self._private_values(tier),
        )

    def _sources_for(self, tier: Tier, chunks: list[RetrievedChunk]) -> Sources:
        """What fits into a prompt of this tier; the prompt, the check of each sentence and the citations share it."""
        name = tier.settings.name
        if name not in self._sources:
            self._sources[name] = Sources(packed(chunks[: tier.settings.evidence_chunks], self._evidence_tokens(tier)))
        return self._sources[name]

    def _evidence_tokens(self, tier: Tier) -> int:
        """What a prompt of this tier, and of this tenant, has room for."""
        limits, tenant = tier.settings, self._state.settings.tenant(self._state.request.principal.tenant)
        most = limits.context_tokens - self._max_output_tokens(tier)
        return min(limits.evidence_tokens, min(most, tenant.max_prompt_tokens or most) - self._frame_tokens(tier))

    def _frame_tokens(self, tier: Tier) -> int:
        """Of the prompt without its evidence."""
        tenant = self._state.settings.tenant(self._state.request.principal.tenant)
        return tokens_of_frame(self._state.query, policy=tenant.policy, history=self._history(tier))

    def _max_output_tokens(self, tier: Tier) -> int:
        tenant = self._state.settings.tenant(self._state.request.principal.tenant)
        wishes = (self._state.request.max_output_tokens, tenant.max_output_tokens, tier.settings.max_output_tokens)
        return min(wish for wish in wishes if wish is not None)

    def _history(self, tier: Tier) -> tuple[ChatMessage, ...]:
        """For a question that needs it; the answer to any other is everybody's, and rests on nothing that one said."""
        if self._state.query.is_standalone:
            return ()
        said = [message for message in self._state.request.messages[:-1] if message.role != "system"]
        return tuple(said[-2 * tier.settings.history_turns :]) if tier.settings.history_turns else ()

    def _private_values(self, tier: Tier) -> tuple[str, ...]:
        if tier.settings.openai is None:  # it stays on the premises
            return ()
        said = [self._state.query.search_text, *(message.content for message in self._said)]
        return private_values(said, self._rules, self._state.now().date())

    @property
    def _said(self) -> tuple[ChatMessage, ...]:
        """All that a model may be told of the conversation."""
        return self._state.request.messages

    def passage(self, found: RetrievedChunk, why: str) -> list[AnswerEvent]:
        """Instead of a written answer the best passage itself, word for word."""
        chunk = found.chunk
        begin = self._state.begin("passage", f"the best passage, quoted: {why}")
        text = filtered(chunk.answer or excerpt(chunk.text, PASSAGE_CHARS), self._hosts([found]))
        delta = self._state.delta(f"{QUOTED[self._state.query.language]}{text}")
        cited = self._state.cited(cite(chunk))
        return [begin, delta, cited, self._state.done(GenerationEnd("stop", 0, 0), grounded=True)]


async def _with_first(first: T, others: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    yield first
    async for item in others:
        yield item
