"""The story of one turn, top to bottom: exact cache, understanding, rule, semantic cache, curated answer, generation.

Every step is a named call with a deadline; every path ends in `Done` or an exception, and leaves what it did in the
turn's record. Knows no HTTP and no Ray: rooms come in as protocols, time as a function.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import structlog

from deployments.answering import curated
from deployments.answering.background import Background
from deployments.answering.choices import numbered
from deployments.answering.conversation import Conversation
from deployments.answering.customer_flow import CustomerFlow
from deployments.answering.errors import (
    DeadlineExceededError,
    DependencyError,
    InvalidRequestError,
    OverloadedError,
    UnknownModelError,
)
from deployments.answering.evidence import agrees, bound_of_pair
from deployments.answering.flight import Flights
from deployments.answering.flows import Move, Question, Saying, Searching
from deployments.answering.grounding import cite
from deployments.answering.in_time import in_time
from deployments.answering.patience import Patience
from deployments.answering.phrases import (
    ABSTAIN,
    ASK_FOR_A_PERSON,
    BACK_TO,
    DID_YOU_MEAN,
    HANDED_OVER,
    NOTHING_ASKED,
    UNREACHABLE,
)
from deployments.answering.prompt import PROMPT_VERSION
from deployments.answering.protocols import IntentClassifier, Retriever, SemanticCache, Sessions, Tier, ToolCaller
from deployments.answering.query import asked_instead, build_query, without_last_answer
from deployments.answering.resilience import Budget, RetryBudget
from deployments.answering.rewriting import TierRewriter, rewritten
from deployments.answering.routing import BUILT_IN, Router, RoutingModel, TierLoads
from deployments.answering.rules import Reply, Rules
from deployments.answering.session import Session
from deployments.answering.spans import TurnSpans
from deployments.answering.stored_answers import StoredAnswers
from deployments.answering.tokens import estimated_tokens
from deployments.answering.tool_use import ToolWriter
from deployments.answering.turn_state import TurnState
from deployments.answering.types import (
    AnswerEvent,
    Button,
    CacheHit,
    CacheScope,
    ChatRequest,
    Cited,
    Delta,
    Done,
    Evidence,
    Meta,
    Path,
    Principal,
    RetrievedChunk,
    TurnRecord,
    Understanding,
)
from deployments.answering.words import coverage, words
from deployments.answering.writing import Models, Writer
from deployments.settings import AppSettings, Language, RetrieverSettings
from models.protocols import OUT_OF_SCOPE, ChatMessage, GenerationEnd

log = structlog.get_logger(__name__)
T = TypeVar("T")
# Of a record, what an answer made for several leaves in each one's.
_SHARED = (
    "path",
    "route_reason",
    "route_score",
    "route_features",
    "knowledge_version",
    "cache_similarity",
    "cache_tier",
    "tokens_saved",
    "finish_reason",
    "grounded",
)


class Pipeline:
    """Answers turns. Holds no state of a turn: `Turn` does."""

    def __init__(
        self,
        settings: AppSettings,
        *,
        classifier: IntentClassifier,
        retriever: Retriever,
        cache: SemanticCache | None,
        tiers: Sequence[Tier],
        rules: Rules,
        sessions: Sessions | None = None,
        tools: ToolCaller | None = None,
        routing: RoutingModel = BUILT_IN,
        now_s: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings
        self.classifier = classifier
        self.retriever = retriever
        self.cache = cache
        self.sessions = sessions
        self.tools = tools
        self.now_s = now_s
        self.flights: Flights[Turn, AnswerEvent] = Flights()
        self.rng = rng or random.Random()  # noqa: S311 - it only chooses what is looked at twice
        self._background = Background()
        self.models = Models(
            {tier.settings.name: tier for tier in tiers},
            Router(settings.routing, routing),
            RetryBudget(settings.retries),
            TierLoads(),
        )
        self.use_rules(rules)

    def use_rules(self, rules: Rules) -> None:
        """From the next turn on; the running ones end with the rules that they began with."""
        self.rules = rules
        self.policy_version = _policy_version(self.settings, rules, self.models.router.model)

    def use_routing(self, model: RoutingModel) -> None:
        """From the next turn on."""
        self.models.router = Router(self.settings.routing, model)
        self.policy_version = _policy_version(self.settings, self.rules, model)

    async def check(self, request: ChatRequest) -> str:
        """The knowledge version that the turn will use; empty where that cannot be told in time.

        Raises `CallerError`s, before a turn begins.
        """
        if request.model is not None and request.model not in self.models.tiers_for(request.principal):
            raise UnknownModelError()
        most = self.settings.tenant(request.principal.tenant).max_prompt_tokens
        if most is not None and estimated_tokens(request.text) > most:
            raise InvalidRequestError(f"The question is longer than {most} tokens.")
        limit_s = self.budget(request).limit_s("version", self.settings.deadlines.search_s, time.monotonic())
        try:
            return await in_time(self.retriever.version(request.principal, request.collection), limit_s)
        except (TimeoutError, DependencyError, OverloadedError) as error:  # who searches will tell
            log.warning("version_unknown", request_id=request.request_id, error=repr(error)[:300])
            return ""

    def budget(self, request: ChatRequest) -> Budget:
        longest_s = self.settings.deadlines.turn_s
        return Budget(min(request.timeout_s or longest_s, longest_s), request.admitted_s)

    def turn(self, request: ChatRequest, record: TurnRecord, version: str) -> Turn:
        """version: what `check` said."""
        return Turn(self, request, record, version)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Off the customer's clock."""
        self._background.begin(work)

    async def did_not_help(self, principal: Principal, collection: str, language: Language, question: str) -> None:
        """Whatever is stored for this question is not given again. Raises `DependencyError`s."""
        if self.cache is not None:
            scope = CacheScope(principal.tenant, principal.audiences, collection, language, self.policy_version)
            async with asyncio.timeout(self.settings.cache.timeout_s):
                await self.cache.block(scope, question)

    async def answer(self, request: ChatRequest, record: TurnRecord) -> AsyncGenerator[AnswerEvent, None]:
        """`Meta`, then `Delta`s and `Cited`s, then `Done`; a failure raises."""
        turn = self.turn(request, record, await self.check(request))
        for event in await turn.at_once() or ():
            yield event
        if not record.path:
            async with aclosing(turn.events()) as events:
                async for event in events:
                    yield event


class Turn:
    """One walk through the pipeline: `at_once`, and `events` where that had no answer."""

    def __init__(self, pipeline: Pipeline, request: ChatRequest, record: TurnRecord, version: str) -> None:
        self._p = pipeline
        budget = pipeline.budget(request)
        self._state = TurnState(pipeline.settings, request, record, budget, pipeline.policy_version, pipeline.now_s)
        self._stored = StoredAnswers(self._state, pipeline.cache, pipeline.retriever, pipeline.in_background)
        parts = (self._state, pipeline.models, self._stored, pipeline.rules)
        self._writer = Writer(*parts) if request.tool_use is None else ToolWriter(*parts, request.tool_use)
        self._conversation = Conversation(pipeline.sessions, request)
        self._has_looked = False  # for an answer that is stored for these words
        self._maker: Turn | None = None  # of an answer that is shared
        record.knowledge_version = version
        if request.tool_use is not None:
            self.keep_private("tools")

    async def at_once(self) -> list[AnswerEvent] | None:
        """The whole answer to a question whose answer is stored, where no other turn has to be waited for."""
        self._state.name_in_log()
        try:
            if not self._conversation.is_fresh and not await self._goes_on_plainly():
                return None
            self._has_looked = True
            hit = await self._stored.look_exact()
        except BaseException:  # the customer has left
            self._p.in_background(self._leave_conversation())
            raise
        if hit is None:
            return None
        if hit.tier == "near_exact" and self._is_sampled():
            self._p.in_background(self._twin()._check_in_hindsight(hit))
        answer = self._give_cached("exact_cache", hit)
        self._conversation.keep_soon(self._next_session())
        return answer

    async def _goes_on_plainly(self) -> bool:
        """Of a conversation that has begun: whether what was said and asked in it is known, and changes nothing."""
        request = self._state.request
        if request.is_new_conversation or request.tool_use is not None:  # its caller tells what was said
            return False
        await self._enter_conversation()
        if self._conversation.is_in_line:
            return False
        self._hear()
        return self._conversation.session.flow is None and self._state.query.is_sure

    @property
    def waits(self) -> bool:
        """As of `TurnState`; of who shares an answer, while its maker does, too."""
        return self._state.waits and (self._maker is None or self._maker._state.waits)

    @property
    def spans(self) -> TurnSpans:
        return self._state.spans

    def elapsed_ms(self) -> float:
        return self._state.elapsed_ms()

    def keep_private(self, reason: str) -> None:
        """This turn's answer is neither stored nor shared: it holds a tool's result, or something of the session.

        Before anything is looked up in the knowledge. reason: a word or two for logs.
        """
        self._state.private = reason

    async def events(self) -> AsyncGenerator[AnswerEvent, None]:
        self._state.name_in_log()
        if self._state.request.tool_use is not None:
            self._state.waits = True
            async with aclosing(self._with_tools()) as answer:
                async for event in answer:
                    yield event
            return
        try:
            await self._join_conversation()
            self._state.waits = True
            async with aclosing(self._walk_in_time()) as walk:
                async for event in walk:
                    if isinstance(event, Done):
                        async for last in self._close_conversation(event):
                            yield last
                    else:
                        yield event
        finally:
            await self._leave_conversation()

    async def _with_tools(self) -> AsyncGenerator[AnswerEvent, None]:
        """Of functions that the caller brings along: the caller remembers the conversation, and a model answers."""
        understanding, chunks = await self._understand(), []
        try:
            chunks = self._relevant(await self._search(understanding), understanding)
        except DependencyError as error:
            self._state.degrade("knowledge:down", error)
        async with aclosing(self._writer.written(chunks, understanding)) as answer:
            async for event in answer:
                yield event

    async def _walk_in_time(self) -> AsyncGenerator[AnswerEvent, None]:
        """The walk, to its end or to that of the turn's time; where it finds no answer, what can be said then."""
        has_begun = False
        async with aclosing(self._walk()) as walk, Patience() as patience:
            while True:
                limit_s = self._state.limit_s("walk", self._state.budget.total_s)
                try:
                    event = await patience.wait(anext(walk, None), limit_s)
                except (TimeoutError, DependencyError) as error:
                    if has_begun and not isinstance(error, TimeoutError):
                        raise
                    if has_begun:
                        self._state.degrade("deadline:cut", error)
                        yield self._state.done(GenerationEnd("length", 0, 0), grounded=False)
                        return
                    missed = "deadline:exceeded" if isinstance(error, TimeoutError) else "knowledge:down"
                    self._state.degrade(missed, error)
                    for last in self._give_last_resort():
                        yield last
                    return
                if event is None:
                    return
                has_begun = True
                yield event

    async def _walk(self) -> AsyncGenerator[AnswerEvent, None]:
        move = await self._resume_flow()
        understanding: Understanding | None = None
        if move is None:
            if not self._has_looked and (hit := await self._stored.look_exact()) is not None:
                for event in self._give_cached("exact_cache", hit):
                    yield event
                return
            understanding = await self._understand()
            move = await self._match_rule(understanding)
        if isinstance(move, Searching):
            asked, self._state.query = self._state.query, asked_instead(self._state.query, move.question)
            self._writer.wanted_tier = move.tier
            if understanding is None or self._state.query is not asked:
                understanding = await self._understand()
        elif move is not None:
            for event in self._give_move(move):
                yield event
            return
        query = self._state.query
        if query.kind != "question" and self._state.request.model is None:
            for event in self._give_phrase():
                yield event
            return

        is_shared = self._stored.is_usable
        answer = self._shared(understanding) if is_shared else self._from_knowledge(understanding)
        async with aclosing(answer) as events:
            async for event in events:
                yield event

    async def _from_knowledge(self, understanding: Understanding | None) -> AsyncGenerator[AnswerEvent, None]:
        self._state.name_in_log()  # it may run in a task of its own, for several turns
        query = self._state.query
        hit, evidence = await asyncio.gather(self._stored.look_semantic(understanding), self._search(understanding))
        found = self._match_curated(evidence)
        if hit is not None and await self._stored.is_agreed(hit, evidence, _sure_pair(found)):
            for event in self._give_cached("semantic_cache", hit):
                yield event
            return

        match found:
            case curated.Given(match=sure):
                async for event in self._give_faq(sure, understanding):
                    yield event
                return
            case curated.Asked(matches=likely):
                for event in self._ask_back(likely):
                    yield event
                return

        chunks = self._relevant(evidence, understanding)
        if not chunks and not query.is_sure:  # the history may have led astray
            self._state.query = replace(query, search_text=query.text)
            understanding = await self._understand()
            chunks = self._relevant(await self._search(understanding), understanding)
        if not chunks:
            for event in self._give_abstention():
                yield event
            return
        async with self._stored.alone() as hit:
            if hit is not None:
                for event in self._give_cached("exact_cache", hit):
                    yield event
                return
            async with aclosing(self._writer.written(chunks, understanding)) as generated:
                async for event in generated:
                    yield event

    async def _shared(self, understanding: Understanding | None) -> AsyncGenerator[AnswerEvent, None]:
        """With all who ask the same now. Where the one who began fails before the first word, the next one begins."""
        state = self._state
        asked = (state.scope.key(), state.record.knowledge_version, self._writer.wanted_tier, state.query.normalized)
        key = "|".join(map(str, asked))
        for is_last in (False, True):
            flight, begins = self._p.flights.join(key, self._twin, lambda maker: maker._from_knowledge(understanding))
            flight.maker._state.askers.update(self._state.askers)
            self._maker = flight.maker
            has_begun = False
            try:
                async with aclosing(flight.board()) as events:
                    async for event in events:
                        has_begun = True
                        yield self._as_own(event, flight.maker._state.record, begins)
                return
            except DependencyError:
                if begins or has_begun or is_last:
                    raise

    def _twin(self) -> Turn:
        """The same turn with a record of its own, for work that is not this customer's alone."""
        state = self._state
        record = replace(state.record, citations=[], evidence_ids=[], degraded=[*state.record.degraded], step_ms={})
        twin = Turn(self._p, state.request, record, record.knowledge_version)
        twin._state.query, twin._state.scope, twin._state.private = state.query, state.scope, state.private
        twin._state.spans, twin._state.waits = state.spans, state.waits
        twin._stored.stale = self._stored.stale
        twin._writer.wanted_tier = self._writer.wanted_tier
        return twin

    def _as_own(self, event: AnswerEvent, made: TurnRecord, begins: bool) -> AnswerEvent:
        """An event of an answer made for several, as one of this turn. begins: whether this turn pays for it."""
        record, request = self._state.record, self._state.request
        if isinstance(event, Delta):
            return self._state.delta(event.text)
        for name in _SHARED:
            setattr(record, name, getattr(made, name))
        record.evidence_ids = list(made.evidence_ids)
        record.degraded = list(dict.fromkeys([*record.degraded, *made.degraded]))
        match event:
            case Meta():
                own = (request.turn_id, request.request_id, request.conversation_id)
                return replace(event, turn_id=own[0], request_id=own[1], conversation_id=own[2])
            case Cited():
                return self._state.cited(event.citation)
            case Done():
                if begins:
                    record.step_ms |= made.step_ms
                tokens = (event.input_tokens, event.output_tokens) if begins else (0, 0)
                done = self._state.done(GenerationEnd(event.finish_reason, *tokens), grounded=event.grounded)
                return replace(done, buttons=event.buttons, links=event.links, handoff_reason=event.handoff_reason)
            case _:
                return event

    # --- the conversation ---

    async def _enter_conversation(self) -> None:
        try:
            await self._state.timed("session", self._conversation.enter(), self._p.settings.sessions.timeout_s)
        except DependencyError as error:
            self._state.degrade("sessions:down", error)

    async def _join_conversation(self) -> None:
        limits = self._p.settings.sessions
        await self._enter_conversation()
        if self._conversation.is_in_line:
            try:
                waited = self._conversation.wait(limits.wait_s)
                await self._state.timed("session", waited, limits.wait_s + limits.timeout_s)
            except DependencyError as error:
                busy = isinstance(error, DeadlineExceededError)
                self._state.degrade("sessions:busy" if busy else "sessions:down", error)
        self._hear()
        await self._rewrite()

    def _hear(self) -> None:
        """What was said and asked before, as far as it is known."""
        p = self._p
        self._state.request = self._conversation.request
        self._read(self._state.request.messages)
        self._flow = CustomerFlow(p.rules, p.tools, self._state.request, self._conversation.session, self._state.now())

    async def _rewrite(self) -> None:
        """A model's version of a follow-up, where one is asked for, is up, and is in time."""
        limits, query = self._p.settings.rewriting, self._state.query
        tier = self._p.models.tiers_for(self._state.request.principal).get(limits.tier or "")
        if tier is None or tier.state != "ready" or query.is_sure:
            return
        rewriter = TierRewriter(tier, f"{self._state.request.turn_id}-rewrite", self._state.request.principal.tenant)
        call = rewritten(query, self._state.request.messages, rewriter)
        try:
            self._state.query = await self._state.timed("rewrite", call, limits.timeout_s)
        except DependencyError as error:
            self._state.degrade("rewriting:down", error)

    async def _close_conversation(self, done: Done) -> AsyncIterator[AnswerEvent]:
        """The question that waited, the session for the next turn, and the end."""
        language = self._state.query.language
        if (question := self._flow.question_again(language)) is not None:
            yield self._state.delta(f"{BACK_TO[language]}{question.text}")
            done = replace(done, buttons=(*done.buttons, *question.buttons))
        session = replace(self._next_session(), flow=self._flow.state, kept=self._flow.kept)
        try:
            kept = self._conversation.keep(session, self._state.record.answer)
            await self._state.timed("session_end", kept, self._p.settings.sessions.timeout_s)
        except DependencyError as error:
            self._state.degrade("sessions:down", error)
        self._state.record.duration_ms = self._state.elapsed_ms()
        yield replace(done, duration_ms=self._state.record.duration_ms, degraded=tuple(self._state.record.degraded))

    def _next_session(self) -> Session:
        """What the next turn has to know of this one and those before."""
        state = self._state
        return self._conversation.session.after(state.request.text.strip(), state.record.answer, state.query.language)

    async def _leave_conversation(self) -> None:
        try:
            limit_s = self._state.limit_s("session_end", self._p.settings.sessions.timeout_s)
            async with asyncio.timeout(max(0.1, limit_s)):
                await self._conversation.leave()
        except (TimeoutError, DependencyError) as error:  # its hold ends by itself
            log.warning("conversation_not_left", request_id=self._state.request.request_id, error=repr(error)[:300])

    def _read(self, messages: tuple[ChatMessage, ...]) -> None:
        """What the turn asks, with these messages as its history."""
        query = build_query(replace(self._state.request, messages=messages), self._conversation.session.language)
        self._state.query, self._state.scope = query, replace(self._state.scope, language=query.language)
        self._state.record.language = query.language

    # --- steps that look ---

    async def _understand(self) -> Understanding | None:
        try:
            return self._note_intent(
                await self._state.timed(
                    "understand",
                    self._p.classifier.understand(self._state.query.search_text, self._state.request.principal.tenant),
                    self._p.settings.deadlines.understand_s,
                )
            )
        except DependencyError as error:
            self._state.degrade("intent_classifier:down", error)
            return None

    async def _search(self, understanding: Understanding | None) -> Evidence:
        search = self._p.retriever.search(
            self._state.request.principal,
            self._state.request.collection,
            self._state.query.search_text,
            self._state.query.language,
            understanding.embedding if understanding else None,
            self._p.settings.retriever.top_k,
        )
        evidence = await self._state.timed("search", search, self._p.settings.deadlines.search_s)
        self._state.record.evidence_ids = [found.chunk.id for found in evidence.chunks]
        self._state.record.knowledge_version = (
            evidence.version
        )  # another one than before where one was published in between
        return evidence

    # --- decisions ---

    async def _resume_flow(self) -> Move | None:
        if not self._has_rules:
            return None
        move = await self._moved(self._flow.resume(self._state.query.language))
        if move is None and self._flow.is_aside:  # our question, which it does not answer, does not explain it either
            self._read(without_last_answer(self._state.request.messages))
        return move

    async def _match_rule(self, understanding: Understanding | None) -> Move | None:
        if not self._has_rules:
            return None
        prediction = understanding.prediction if understanding is not None and self._state.query.is_standalone else None
        return await self._moved(self._flow.begin(prediction, self._state.query.language))

    async def _moved(self, move: Awaitable[Move | None]) -> Move | None:
        """Where a tool fails, a person goes on."""
        try:
            return await self._state.timed("flow", move, self._p.settings.deadlines.tools_s)
        except DependencyError as error:
            self._state.degrade("tools:down", error)
            return Saying(self._flow.rule, None, Reply(HANDED_OVER[self._state.query.language]), "a tool failed")

    @property
    def _has_rules(self) -> bool:
        request = self._state.request
        return request.model is None and request.collection in self._p.settings.intents.collections

    def _match_curated(self, evidence: Evidence) -> curated.Given | curated.Asked | None:
        limits, query = self._p.settings.retriever, self._state.query
        if self._state.request.model is not None:
            return None
        return curated.decide(
            query.search_text,
            query.language,
            evidence.pairs,
            give_from=limits.faq_confidence,
            ask_from=limits.clarify_confidence,
        )

    def _relevant(self, evidence: Evidence, understanding: Understanding | None) -> list[RetrievedChunk]:
        """The chunks that an answer may rest on; none means that nothing here answers the question."""
        limits = self._p.settings.retriever
        if self._state.request.collection in self._p.settings.intents.collections and understanding is not None:
            prediction = understanding.prediction
            if prediction.label == OUT_OF_SCOPE and prediction.confidence >= limits.out_of_scope_threshold:
                return []
        asked = words(self._state.query.search_text)
        return [found for found in evidence.chunks if is_evidence(found, asked, self._state.query.language, limits)]

    # --- ways to answer ---

    def _give_cached(self, path: Path, hit: CacheHit) -> list[AnswerEvent]:
        answer = hit.answer
        record = self._state.record
        record.cache_similarity, record.cache_tier = hit.similarity, hit.tier
        record.tokens_saved = answer.input_tokens + answer.output_tokens
        age_s = max(0.0, self._p.now_s() - answer.created_at_s)
        reason = f"{answer.path} answer from the cache, similarity {hit.similarity:.3f}"
        begin = self._state.begin(path, reason, age_s, hit.tier)
        delta = self._state.delta(answer.text)
        cited = [self._state.cited(citation) for citation in answer.citations]
        return [begin, delta, *cited, self._state.done(GenerationEnd(answer.finish_reason, 0, 0), grounded=True)]

    def _give_move(self, move: Question | Saying) -> list[AnswerEvent]:
        """What a rule says, or asks."""
        record = self._state.record
        why = f"intent {record.intent} with confidence {record.intent_confidence:.2f}" if record.intent else "goes on"
        if isinstance(move, Question):
            begin = self._state.begin("rule", f"rule {move.state.rule}: {why}, asks for {move.state.asked}")
            delta = self._state.delta(move.text)
            return [
                begin,
                delta,
                replace(self._state.done(GenerationEnd("stop", 0, 0), grounded=True), buttons=move.buttons),
            ]
        begin = self._state.begin("handoff" if move.handoff_reason else "rule", f"rule {move.rule}: {why}")
        delta = self._state.delta(move.reply.text)
        done = self._state.done(GenerationEnd("stop", 0, 0), grounded=True)
        reply, reason = move.reply, move.handoff_reason
        return [begin, delta, replace(done, buttons=reply.buttons, links=reply.links, handoff_reason=reason)]

    def _give_phrase(self) -> list[AnswerEvent]:
        """A turn that asks nothing needs no knowledge; a flow of the company's own for it came before."""
        kind, language = self._state.query.kind, self._state.query.language
        begin = self._state.begin("rule", f"{kind.replace('_', ' ')}: nothing is asked")
        delta = self._state.delta(NOTHING_ASKED[kind][language])
        done = self._state.done(GenerationEnd("stop", 0, 0), grounded=True)
        buttons = (Button(*ASK_FOR_A_PERSON[language]),) if kind == "abuse" else ()
        return [begin, delta, replace(done, buttons=buttons)]

    async def _give_faq(self, match: curated.Match, understanding: Understanding | None) -> AsyncIterator[AnswerEvent]:
        yield self._state.begin("faq", f"curated answer, confidence {match.confidence:.3f}")
        yield self._state.delta(match.pair.chunk.answer)
        yield self._state.cited(cite(match.pair.chunk))
        done = self._state.done(GenerationEnd("stop", 0, 0), grounded=True)
        await self._stored.keep(understanding, [match.pair], bound_of_pair(match.pair))
        yield done

    def _ask_back(self, matches: Sequence[curated.Match]) -> list[AnswerEvent]:
        """Each question as a button, and numbered in the text for channels that have none."""
        questions = [curated.question_of(match.pair.chunk) for match in matches]
        sure = sum(match.confidence for match in matches)
        begin = self._state.begin("clarify", f"one of {len(questions)} curated questions, confidence {sure:.3f}")
        delta = self._state.delta("\n".join([DID_YOU_MEAN[self._state.query.language], *numbered(questions)]))
        done = self._state.done(GenerationEnd("stop", 0, 0), grounded=True)
        return [begin, delta, replace(done, buttons=tuple(Button(question, question) for question in questions))]

    def _give_abstention(self) -> list[AnswerEvent]:
        language = self._state.query.language
        label, message = ASK_FOR_A_PERSON[language]
        begin = self._state.begin("abstain", "nothing in the knowledge answers this")
        delta = self._state.delta(ABSTAIN[language])
        done = self._state.done(GenerationEnd("stop", 0, 0), grounded=False)
        return [begin, delta, replace(done, buttons=(Button(label, message),))]

    def _give_last_resort(self) -> list[AnswerEvent]:
        """Where the knowledge cannot be reached: a stored answer that may have become stale, or a person."""
        if self._stored.stale is not None:
            self._state.record.degraded.append("cache:stale")
            return self._give_cached("exact_cache", self._stored.stale)
        language = self._state.query.language
        begin = self._state.begin("handoff", "the knowledge could not be reached in time")
        delta = self._state.delta(UNREACHABLE[language])
        done = self._state.done(GenerationEnd("stop", 0, 0), grounded=False)
        button = Button(*ASK_FOR_A_PERSON[language])
        return [begin, delta, replace(done, buttons=(button,), handoff_reason="the knowledge could not be reached")]

    # --- what was stored ---

    def _is_sampled(self) -> bool:
        return self._p.rng.random() < self._p.settings.cache.shadow_share

    async def _check_in_hindsight(self, hit: CacheHit) -> None:
        """What a wording that is a slip away would have got anew. The customer has the stored answer already."""
        try:
            evidence = await self._search(await self._understand())
        except DependencyError as error:
            self._state.degrade("search:down", error)
            return
        is_same = agrees(hit.answer, evidence, _sure_pair(self._match_curated(evidence)))
        if is_same is not None:
            await self._stored.observe(hit, is_same)

    def _note_intent(self, understanding: Understanding) -> Understanding:
        prediction = understanding.prediction
        self._state.record.intent = prediction.label
        self._state.record.intent_confidence = prediction.confidence
        self._state.record.intent_margin = prediction.margin
        return understanding


def _sure_pair(found: curated.Given | curated.Asked | None) -> RetrievedChunk | None:
    return found.match.pair if isinstance(found, curated.Given) else None


def is_evidence(found: RetrievedChunk, asked: frozenset[str], language: Language, limits: RetrieverSettings) -> bool:
    """Whether an answer may rest on it. asked: the words of the question; language: the question's."""
    in_own_language = found.chunk.language in (language, "und")
    thresholds = limits.evidence_threshold if in_own_language else limits.foreign_evidence_threshold
    if (found.similarity or 0.0) >= thresholds[language]:
        return True
    return coverage(asked, words(f"{found.chunk.title} {found.chunk.text}")) >= limits.evidence_coverage


def _policy_version(settings: AppSettings, rules: Rules, routing: RoutingModel) -> str:
    decides = f"{PROMPT_VERSION}|{rules.fingerprint}|{routing.fingerprint}|{settings.policy}"
    return hashlib.sha256(decides.encode()).hexdigest()[:12]
