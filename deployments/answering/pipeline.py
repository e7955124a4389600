"""The story of one turn, top to bottom: exact cache, understanding, rule, semantic cache, curated answer, generation.

Every step is a named call with a deadline; every path ends in `Done` or an exception, and leaves what it did in the
turn's record. Knows no HTTP and no Ray: rooms come in as protocols, time as a function.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from typing import Any, TypeVar

import structlog

from deployments.answering import curated
from deployments.answering.admission import why_not_cached
from deployments.answering.choices import numbered
from deployments.answering.coalescing import coalesced
from deployments.answering.conversation import Conversation
from deployments.answering.customer_flow import CustomerFlow
from deployments.answering.errors import (
    CallerError,
    DeadlineExceededError,
    DependencyError,
    InvalidRequestError,
    OverloadedError,
    UnknownModelError,
)
from deployments.answering.evidence import agrees, bound_of_pair, bound_of_passages, end_of_validity_s
from deployments.answering.flight import Flights
from deployments.answering.flows import Move, Question, Saying, Searching
from deployments.answering.generation import Generation, Help
from deployments.answering.grounding import Grounder, Sources, cite, excerpt, supported
from deployments.answering.links import LinkFilter, filtered, host_of, without_links
from deployments.answering.phrases import (
    ABSTAIN,
    ASK_FOR_A_PERSON,
    BACK_TO,
    DID_YOU_MEAN,
    HANDED_OVER,
    NOTHING_ASKED,
    QUOTED,
    UNREACHABLE,
    UNSUPPORTED,
)
from deployments.answering.private import private_values
from deployments.answering.prompt import PROMPT_VERSION, build_prompt, packed, tokens_of_frame
from deployments.answering.protocols import IntentClassifier, Retriever, SemanticCache, Sessions, Tier, ToolCaller
from deployments.answering.query import asked_instead, build_query, without_last_answer
from deployments.answering.resilience import Budget, RetryBudget
from deployments.answering.rewriting import TierRewriter, rewritten
from deployments.answering.routing import BUILT_IN, Features, Route, Router, RoutingModel, TierLoads, as_row, features
from deployments.answering.rules import Reply, Rules
from deployments.answering.spans import TurnSpans
from deployments.answering.tokens import estimated_tokens
from deployments.answering.types import (
    AnswerEvent,
    Button,
    CachedAnswer,
    CacheHit,
    CacheScope,
    ChatRequest,
    Citation,
    Cited,
    Delta,
    Done,
    Evidence,
    EvidenceBound,
    Meta,
    Path,
    Principal,
    Query,
    RetrievedChunk,
    Standing,
    TurnRecord,
    Understanding,
)
from deployments.answering.words import coverage, words
from deployments.settings import AppSettings, Language, RetrieverSettings
from models.protocols import OUT_OF_SCOPE, ChatMessage, GenerationEnd, GenerationRequest, TextDelta

log = structlog.get_logger(__name__)
T = TypeVar("T")
_MOST_RECHECKS = 3  # versions, the latest first, from which it is looked whether an answer still stands
_LEASE_POLL_S = 0.1
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
PASSAGE_CHARS = 700  # of a passage that is quoted instead of a generated answer


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
        self.tiers: dict[str, Tier] = {tier.settings.name: tier for tier in tiers}
        self.sessions = sessions
        self.tools = tools
        self.now_s = now_s
        self.retries = RetryBudget(settings.retries)
        self.flights: Flights[Turn, AnswerEvent] = Flights()
        self.rng = rng or random.Random()  # noqa: S311 - it only chooses what is looked at twice
        self._background: set[asyncio.Task[None]] = set()
        self.loads = TierLoads()
        self.router = Router(settings.routing, routing)
        self.use_rules(rules)

    def tiers_for(self, principal: Principal) -> dict[str, Tier]:
        """By name: those that may see this principal's questions. For all others the rest do not exist."""
        return {name: tier for name, tier in self.tiers.items() if tier.settings.may_use(principal.tenant)}

    def use_rules(self, rules: Rules) -> None:
        """From the next turn on; the running ones end with the rules that they began with."""
        self.rules = rules
        self.policy_version = _policy_version(self.settings, rules, self.router.model)

    def use_routing(self, model: RoutingModel) -> None:
        """From the next turn on."""
        self.router = Router(self.settings.routing, model)
        self.policy_version = _policy_version(self.settings, self.rules, model)

    async def check(self, request: ChatRequest) -> str:
        """The knowledge version that the turn will use; empty where that cannot be told in time.

        Raises `CallerError`s, before a turn begins.
        """
        if request.model is not None and request.model not in self.tiers_for(request.principal):
            raise UnknownModelError()
        most = self.settings.tenant(request.principal.tenant).max_prompt_tokens
        if most is not None and estimated_tokens(request.text) > most:
            raise InvalidRequestError(f"The question is longer than {most} tokens.")
        limit_s = self.budget(request).limit_s("version", self.settings.deadlines.search_s, time.monotonic())
        try:
            async with asyncio.timeout(limit_s):
                return await self.retriever.version(request.principal, request.collection)
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
        """Off the customer's clock, and in a context that does not end with the request."""
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

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
        self._request = request
        self._record = record
        self._query: Query = build_query(request)
        self._scope = self._scope_of()
        self._askers = {_asker(request)}
        self._budget = pipeline.budget(request)
        self.spans = TurnSpans()
        self._stale: CacheHit | None = None  # a stored answer of which it could not be told whether it still stands
        self._private = ""  # why this turn's answer is one customer's alone
        self._rule_tier: str | None = None  # that a rule wants to write
        self._conversation = Conversation(pipeline.sessions, request)
        self._started = time.perf_counter()
        record.language, record.knowledge_version = self._query.language, version

    async def at_once(self) -> list[AnswerEvent] | None:
        """The whole answer to a question whose answer is stored."""
        self._name_in_log()
        if not self._conversation.is_fresh:  # what was said and asked before comes first
            return None
        hit = await self._look_exact()
        if hit is None:
            return None
        if hit.tier == "near_exact" and self._is_sampled():
            self._p.in_background(self._twin()._check_in_hindsight(hit))
        answer = self._give_cached("exact_cache", hit)
        self._conversation.keep_first(self._record.answer, self._query.language)
        return answer

    def keep_private(self, reason: str) -> None:
        """This turn's answer is neither stored nor shared: it holds a tool's result, or something of the session.

        Before anything is looked up in the knowledge. reason: a word or two for logs.
        """
        self._private = reason

    async def events(self) -> AsyncGenerator[AnswerEvent, None]:
        self._name_in_log()
        await self._join_conversation()
        try:
            async with aclosing(self._walk_in_time()) as walk:
                async for event in walk:
                    if isinstance(event, Done):
                        async for last in self._close_conversation(event):
                            yield last
                    else:
                        yield event
        finally:
            await self._leave_conversation()

    async def _walk_in_time(self) -> AsyncGenerator[AnswerEvent, None]:
        """The walk, to its end or to that of the turn's time; where it finds no answer, what can be said then."""
        has_begun = False
        async with aclosing(self._walk()) as walk:
            while True:
                try:
                    async with asyncio.timeout(self._limit_s("walk", self._budget.total_s)):
                        event = await anext(walk, None)
                except (TimeoutError, DependencyError) as error:
                    if has_begun and not isinstance(error, TimeoutError):
                        raise
                    if has_begun:
                        self._degrade("deadline:cut", error)
                        yield self._done(GenerationEnd("length", 0, 0), grounded=False)
                        return
                    self._degrade("deadline:exceeded" if isinstance(error, TimeoutError) else "knowledge:down", error)
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
            if not self._conversation.is_fresh and (hit := await self._look_exact()) is not None:
                for event in self._give_cached("exact_cache", hit):
                    yield event
                return
            understanding = await self._understand()
            move = await self._match_rule(understanding)
        if isinstance(move, Searching):
            asked, self._query = self._query, asked_instead(self._query, move.question)
            self._rule_tier = move.tier
            if understanding is None or self._query is not asked:
                understanding = await self._understand()
        elif move is not None:
            for event in self._give_move(move):
                yield event
            return
        query = self._query
        if query.kind != "question" and self._request.model is None:
            for event in self._give_phrase():
                yield event
            return

        is_shared = self._usable_cache() is not None
        answer = self._shared(understanding) if is_shared else self._from_knowledge(understanding)
        async with aclosing(answer) as events:
            async for event in events:
                yield event

    async def _from_knowledge(self, understanding: Understanding | None) -> AsyncGenerator[AnswerEvent, None]:
        self._name_in_log()  # it may run in a task of its own, for several turns
        query = self._query
        hit, evidence = await asyncio.gather(self._look_semantic(understanding), self._search(understanding))
        if hit is not None and await self._is_agreed(hit, evidence):
            for event in self._give_cached("semantic_cache", hit):
                yield event
            return

        match self._match_curated(evidence):
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
            self._query = replace(query, search_text=query.text)
            understanding = await self._understand()
            chunks = self._relevant(await self._search(understanding), understanding)
        if not chunks:
            for event in self._give_abstention():
                yield event
            return
        async with self._alone() as hit:
            if hit is not None:
                for event in self._give_cached("exact_cache", hit):
                    yield event
                return
            async with aclosing(self._generate(chunks, understanding)) as generated:
                async for event in generated:
                    yield event

    async def _shared(self, understanding: Understanding | None) -> AsyncGenerator[AnswerEvent, None]:
        """With all who ask the same now. Where the one who began fails before the first word, the next one begins."""
        key = f"{self._scope.key()}|{self._record.knowledge_version}|{self._rule_tier}|{self._query.normalized}"
        for is_last in (False, True):
            flight, begins = self._p.flights.join(key, self._twin, lambda maker: maker._from_knowledge(understanding))
            flight.maker._askers.update(self._askers)
            has_begun = False
            try:
                async with aclosing(flight.board()) as events:
                    async for event in events:
                        has_begun = True
                        yield self._as_own(event, flight.maker._record, begins)
                return
            except DependencyError:
                if begins or has_begun or is_last:
                    raise

    def _twin(self) -> Turn:
        """The same turn with a record of its own, for work that is not this customer's alone."""
        record = replace(self._record, citations=[], evidence_ids=[], degraded=[*self._record.degraded], step_ms={})
        twin = Turn(self._p, self._request, record, record.knowledge_version)
        twin._query, twin._scope, twin._private = self._query, self._scope, self._private
        twin._stale, twin.spans = self._stale, self.spans
        twin._rule_tier = self._rule_tier
        return twin

    def _as_own(self, event: AnswerEvent, made: TurnRecord, begins: bool) -> AnswerEvent:
        """An event of an answer made for several, as one of this turn. begins: whether this turn pays for it."""
        record, request = self._record, self._request
        if isinstance(event, Delta):
            return self._delta(event.text)
        for name in _SHARED:
            setattr(record, name, getattr(made, name))
        record.evidence_ids = list(made.evidence_ids)
        record.degraded = list(dict.fromkeys([*record.degraded, *made.degraded]))
        match event:
            case Meta():
                own = (request.turn_id, request.request_id, request.conversation_id)
                return replace(event, turn_id=own[0], request_id=own[1], conversation_id=own[2])
            case Cited():
                return self._cited(event.citation)
            case Done():
                if begins:
                    record.step_ms |= made.step_ms
                tokens = (event.input_tokens, event.output_tokens) if begins else (0, 0)
                done = self._done(GenerationEnd(event.finish_reason, *tokens), grounded=event.grounded)
                return replace(done, buttons=event.buttons, links=event.links, handoff_reason=event.handoff_reason)
            case _:
                return event

    # --- the conversation ---

    async def _join_conversation(self) -> None:
        p, limits = self._p, self._p.settings.sessions
        try:
            await self._timed("session", self._conversation.join(limits.wait_s), limits.wait_s + limits.timeout_s)
        except DependencyError as error:
            busy = isinstance(error, DeadlineExceededError)
            self._degrade("sessions:busy" if busy else "sessions:down", error)
        self._request = self._conversation.request
        self._read(self._request.messages)
        self._flow = CustomerFlow(p.rules, p.tools, self._request, self._conversation.session, self._now())
        await self._rewrite()

    async def _rewrite(self) -> None:
        """A model's version of a follow-up, where one is asked for, is up, and is in time."""
        limits, query = self._p.settings.rewriting, self._query
        tier = self._p.tiers_for(self._request.principal).get(limits.tier or "")
        if tier is None or tier.state != "ready" or query.is_sure:
            return
        rewriter = TierRewriter(tier, f"{self._request.turn_id}-rewrite", self._request.principal.tenant)
        call = rewritten(query, self._request.messages, rewriter)
        try:
            self._query = await self._timed("rewrite", call, limits.timeout_s)
        except DependencyError as error:
            self._degrade("rewriting:down", error)

    async def _close_conversation(self, done: Done) -> AsyncIterator[AnswerEvent]:
        """The question that waited, the session for the next turn, and the end."""
        language = self._query.language
        if (question := self._flow.question_again(language)) is not None:
            yield self._delta(f"{BACK_TO[language]}{question.text}")
            done = replace(done, buttons=(*done.buttons, *question.buttons))
        answer = self._record.answer
        session = self._conversation.session.after(self._request.text.strip(), answer, language)
        session = replace(session, flow=self._flow.state, kept=self._flow.kept)
        try:
            kept = self._conversation.keep(session, answer)
            await self._timed("session_end", kept, self._p.settings.sessions.timeout_s)
        except DependencyError as error:
            self._degrade("sessions:down", error)
        self._record.duration_ms = self.elapsed_ms()
        yield replace(done, duration_ms=self._record.duration_ms, degraded=tuple(self._record.degraded))

    async def _leave_conversation(self) -> None:
        try:
            async with asyncio.timeout(max(0.1, self._limit_s("session_end", self._p.settings.sessions.timeout_s))):
                await self._conversation.leave()
        except (TimeoutError, DependencyError) as error:  # its hold ends by itself
            log.warning("conversation_not_left", request_id=self._request.request_id, error=repr(error)[:300])

    def _read(self, messages: tuple[ChatMessage, ...]) -> None:
        """What the turn asks, with these messages as its history."""
        query = build_query(replace(self._request, messages=messages), self._conversation.session.language)
        self._query, self._scope = query, replace(self._scope, language=query.language)
        self._record.language = query.language

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._p.now_s(), UTC)

    # --- steps that look ---

    def _scope_of(self) -> CacheScope:
        request = self._request
        return CacheScope(
            tenant=request.principal.tenant,
            audiences=request.principal.audiences,
            collection=request.collection,
            language=self._query.language,
            policy_version=self._p.policy_version,
        )

    async def _look_exact(self) -> CacheHit | None:
        cache = self._usable_cache()
        if cache is None:
            return None
        return await self._standing(await self._from_cache(cache.lookup_exact(self._scope, self._query.normalized)))

    async def _look_semantic(self, understanding: Understanding | None) -> CacheHit | None:
        cache = self._usable_cache()
        if cache is None or understanding is None:
            return None
        lookup = cache.lookup_semantic(self._scope, self._query.text, understanding.embedding)
        return await self._standing(await self._from_cache(lookup))

    async def _standing(self, hit: CacheHit | None) -> CacheHit | None:
        """The hit, if it stands under the published knowledge; what does not is gone for good."""
        cache, version = self._p.cache, self._record.knowledge_version
        if hit is None or cache is None or version in hit.versions:
            return hit
        try:
            stands = await self._timed("recheck", self._recheck(hit), self._p.settings.deadlines.search_s)
            told = cache.discard(hit, "evidence changed") if stands is None else cache.confirm(hit, stands)
            await self._timed("cache", told, self._p.settings.cache.timeout_s)
        except DependencyError as error:
            self._degrade("cache:down", error)
            self._stale = hit
            return None
        if stands is not None:
            self._record.knowledge_version = stands
        return hit if stands is not None else None

    async def _recheck(self, hit: CacheHit) -> str | None:
        """The version under which it stands now. One of the versions under which it stood is enough to begin with."""
        if hit.embedding is None:
            return None
        for since in sorted(hit.versions, reverse=True)[:_MOST_RECHECKS]:
            answer = hit.answer
            standing = Standing(since, answer.question, self._scope.language, hit.embedding, answer.evidence)
            request = self._request
            version = await self._p.retriever.still_stands(request.principal, request.collection, standing)
            if version is not None:
                return version
        return None

    async def _from_cache(self, lookup: Awaitable[CacheHit | None]) -> CacheHit | None:
        """A cache that is slow or away costs the customer nothing but the saving."""
        try:
            return await self._timed("cache", lookup, self._p.settings.cache.timeout_s)
        except DependencyError as error:
            self._degrade("cache:down", error)
            return None

    async def _understand(self) -> Understanding | None:
        try:
            return self._note_intent(
                await self._timed(
                    "understand",
                    self._p.classifier.understand(self._query.search_text),
                    self._p.settings.deadlines.understand_s,
                )
            )
        except DependencyError as error:
            self._degrade("intent_classifier:down", error)
            return None

    async def _search(self, understanding: Understanding | None) -> Evidence:
        search = self._p.retriever.search(
            self._request.principal,
            self._request.collection,
            self._query.search_text,
            self._query.language,
            understanding.embedding if understanding else None,
            self._p.settings.retriever.top_k,
        )
        evidence = await self._timed("search", search, self._p.settings.deadlines.search_s)
        self._record.evidence_ids = [found.chunk.id for found in evidence.chunks]
        self._record.knowledge_version = evidence.version  # another one than before where one was published in between
        return evidence

    # --- decisions ---

    async def _resume_flow(self) -> Move | None:
        if not self._has_rules:
            return None
        move = await self._moved(self._flow.resume(self._query.language))
        if move is None and self._flow.is_aside:  # our question, which it does not answer, does not explain it either
            self._read(without_last_answer(self._request.messages))
        return move

    async def _match_rule(self, understanding: Understanding | None) -> Move | None:
        if not self._has_rules:
            return None
        prediction = understanding.prediction if understanding is not None and self._query.is_standalone else None
        return await self._moved(self._flow.begin(prediction, self._query.language))

    async def _moved(self, move: Awaitable[Move | None]) -> Move | None:
        """Where a tool fails, a person goes on."""
        try:
            return await self._timed("flow", move, self._p.settings.deadlines.tools_s)
        except DependencyError as error:
            self._degrade("tools:down", error)
            return Saying(self._flow.rule, None, Reply(HANDED_OVER[self._query.language]), "a tool failed")

    @property
    def _has_rules(self) -> bool:
        request = self._request
        return request.model is None and request.collection in self._p.settings.intents.collections

    def _match_curated(self, evidence: Evidence) -> curated.Given | curated.Asked | None:
        limits, query = self._p.settings.retriever, self._query
        if self._request.model is not None:
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
        if self._request.collection in self._p.settings.intents.collections and understanding is not None:
            prediction = understanding.prediction
            if prediction.label == OUT_OF_SCOPE and prediction.confidence >= limits.out_of_scope_threshold:
                return []
        asked = words(self._query.search_text)
        return [found for found in evidence.chunks if is_evidence(found, asked, self._query.language, limits)]

    def _choose_tiers(
        self, chunks: list[RetrievedChunk], understanding: Understanding | None
    ) -> tuple[list[Tier], Route | None]:
        """Those that are up and write the customer's language, the one that fits the question first, and why it does.

        Why that one, or any, is not up goes into `degraded`.
        """
        tiers, named = self._p.tiers_for(self._request.principal), self._request.model
        fluent = [name for name, tier in tiers.items() if self._query.language in tier.settings.languages]
        candidates = fluent if named is None else [named]
        if not candidates:
            return [], None
        route = self._p.router.choose(
            [self._p.loads.view(tiers[name].settings) for name in candidates],
            lambda: self._features(chunks, understanding),
            wanted=self._rule_tier,
            left_s=self._limit_s("generate", self._budget.total_s),
        )
        ordered = [tiers[name] for name in route.tiers]
        for tier in takewhile(lambda tier: tier.state != "ready", ordered):
            self._record.degraded.append(f"{tier.settings.name}:{tier.state}")
        return [tier for tier in ordered if tier.state == "ready"], route

    def _features(self, chunks: list[RetrievedChunk], understanding: Understanding | None) -> Features:
        return features(self._query, understanding, chunks, uses_tools=bool(self._private))

    # --- ways to answer ---

    def _give_cached(self, path: Path, hit: CacheHit) -> list[AnswerEvent]:
        answer = hit.answer
        self._record.cache_similarity, self._record.cache_tier = hit.similarity, hit.tier
        self._record.tokens_saved = answer.input_tokens + answer.output_tokens
        age_s = max(0.0, self._p.now_s() - answer.created_at_s)
        begin = self._begin(path, f"{answer.path} answer from the cache, similarity {hit.similarity:.3f}")
        begin = replace(begin, cache_age_s=age_s, cache_tier=hit.tier)
        delta = self._delta(answer.text)
        cited = [self._cited(citation) for citation in answer.citations]
        return [begin, delta, *cited, self._done(GenerationEnd(answer.finish_reason, 0, 0), grounded=True)]

    def _give_move(self, move: Question | Saying) -> list[AnswerEvent]:
        """What a rule says, or asks."""
        record = self._record
        why = f"intent {record.intent} with confidence {record.intent_confidence:.2f}" if record.intent else "goes on"
        if isinstance(move, Question):
            begin = self._begin("rule", f"rule {move.state.rule}: {why}, asks for {move.state.asked}")
            delta = self._delta(move.text)
            return [begin, delta, replace(self._done(GenerationEnd("stop", 0, 0), grounded=True), buttons=move.buttons)]
        begin = self._begin("handoff" if move.handoff_reason else "rule", f"rule {move.rule}: {why}")
        delta = self._delta(move.reply.text)
        done = self._done(GenerationEnd("stop", 0, 0), grounded=True)
        reply, reason = move.reply, move.handoff_reason
        return [begin, delta, replace(done, buttons=reply.buttons, links=reply.links, handoff_reason=reason)]

    def _give_phrase(self) -> list[AnswerEvent]:
        """A turn that asks nothing needs no knowledge; a flow of the company's own for it came before."""
        kind, language = self._query.kind, self._query.language
        begin = self._begin("rule", f"{kind.replace('_', ' ')}: nothing is asked")
        delta = self._delta(NOTHING_ASKED[kind][language])
        done = self._done(GenerationEnd("stop", 0, 0), grounded=True)
        buttons = (Button(*ASK_FOR_A_PERSON[language]),) if kind == "abuse" else ()
        return [begin, delta, replace(done, buttons=buttons)]

    async def _give_faq(self, match: curated.Match, understanding: Understanding | None) -> AsyncIterator[AnswerEvent]:
        yield self._begin("faq", f"curated answer, confidence {match.confidence:.3f}")
        yield self._delta(match.pair.chunk.answer)
        yield self._cited(cite(match.pair.chunk))
        done = self._done(GenerationEnd("stop", 0, 0), grounded=True)
        await self._keep(understanding, [match.pair], bound_of_pair(match.pair))
        yield done

    def _ask_back(self, matches: Sequence[curated.Match]) -> list[AnswerEvent]:
        """Each question as a button, and numbered in the text for channels that have none."""
        questions = [curated.question_of(match.pair.chunk) for match in matches]
        sure = sum(match.confidence for match in matches)
        begin = self._begin("clarify", f"one of {len(questions)} curated questions, confidence {sure:.3f}")
        delta = self._delta("\n".join([DID_YOU_MEAN[self._query.language], *numbered(questions)]))
        done = self._done(GenerationEnd("stop", 0, 0), grounded=True)
        return [begin, delta, replace(done, buttons=tuple(Button(question, question) for question in questions))]

    def _give_abstention(self) -> list[AnswerEvent]:
        language = self._query.language
        label, message = ASK_FOR_A_PERSON[language]
        begin = self._begin("abstain", "nothing in the knowledge answers this")
        delta = self._delta(ABSTAIN[language])
        done = self._done(GenerationEnd("stop", 0, 0), grounded=False)
        return [begin, delta, replace(done, buttons=(Button(label, message),))]

    def _give_last_resort(self) -> list[AnswerEvent]:
        """Where the knowledge cannot be reached: a stored answer that may have become stale, or a person."""
        if self._stale is not None:
            self._record.degraded.append("cache:stale")
            return self._give_cached("exact_cache", self._stale)
        language = self._query.language
        begin = self._begin("handoff", "the knowledge could not be reached in time")
        delta = self._delta(UNREACHABLE[language])
        done = self._done(GenerationEnd("stop", 0, 0), grounded=False)
        button = Button(*ASK_FOR_A_PERSON[language])
        return [begin, delta, replace(done, buttons=(button,), handoff_reason="the knowledge could not be reached")]

    def _give_passage(self, found: RetrievedChunk, why: str) -> list[AnswerEvent]:
        """Instead of a written answer the best passage itself, word for word."""
        chunk = found.chunk
        begin = self._begin("passage", f"the best passage, quoted: {why}")
        text = filtered(chunk.answer or excerpt(chunk.text, PASSAGE_CHARS), self._hosts([found]))
        delta = self._delta(f"{QUOTED[self._query.language]}{text}")
        cited = self._cited(cite(chunk))
        return [begin, delta, cited, self._done(GenerationEnd("stop", 0, 0), grounded=True)]

    async def _generate(
        self, chunks: list[RetrievedChunk], understanding: Understanding | None
    ) -> AsyncGenerator[AnswerEvent, None]:
        tiers, route = self._choose_tiers(chunks, understanding)
        if route is None or not tiers:
            for event in self._give_passage(chunks[0], "no model that writes this language is up"):
                yield event
            return
        writing = Generation(tiers, lambda tier: self._generation(tier, self._given(chunks, tier)), self._help())
        began_s = time.perf_counter()
        async with aclosing(self._written(writing, chunks)) as items:
            try:
                first = await anext(items)
            except (DependencyError, OverloadedError) as error:  # nothing was said: what can be said without a model
                self._degrade(f"{writing.tier.settings.name}:{error.code}", error)
                first = None
            name, evidence = writing.author.settings.name, self._given(chunks, writing.author)
            if not isinstance(first, TextDelta):
                self._note_route(route, chunks, understanding)
                for event in self._give_passage(chunks[0], f"the {name} model had no supported answer"):
                    yield event
                return
            self._p.loads.began_to_write(name, time.perf_counter() - began_s)
            yield self._begin(name, f"{len(evidence)} sources for the {name} model, {route.reason}")
            end, grounder = GenerationEnd("stop", 0, 0), Grounder(Sources(evidence))
            item: TextDelta | GenerationEnd | None = first
            while item is not None:
                if isinstance(item, GenerationEnd):
                    end = item
                else:
                    yield self._delta(item.text)
                    for citation in grounder.feed(item.text):
                        yield self._cited(citation)
                item = await anext(items, None)
        for citation in grounder.rest():
            yield self._cited(citation)
        is_own_word = grounder.has_source or self._request.model is not None
        if not is_own_word:  # it cannot be taken back: the customer is told, and offered a person
            yield self._delta(f"\n\n{UNSUPPORTED[self._query.language]}")
        done = self._done(end, grounded=grounder.is_grounded)
        if not is_own_word:
            label, message = ASK_FOR_A_PERSON[self._query.language]
            done = replace(done, buttons=(Button(label, message),))
        bound = bound_of_passages(evidence, self._query.search_text, self._query.language)
        await self._keep(understanding, evidence, bound)
        self._note_route(route, chunks, understanding)
        yield done

    def _note_route(self, route: Route, chunks: list[RetrievedChunk], understanding: Understanding | None) -> None:
        """Also where nothing was chosen: what was seen then is what a choice can be fitted to."""
        seen = route.features or self._features(chunks, understanding)
        self._record.route_score, self._record.route_features = route.score or 0.0, as_row(seen)

    async def _written(
        self, writing: Generation, chunks: list[RetrievedChunk]
    ) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
        """What a model writes; where its tier asks for it, only as far as the sources support it.

        A caller who names a model is given that model's own words.
        """
        interval_s = self._p.settings.answers.chunk_interval_ms / 1000
        async with self._p.loads.at_work(writing.tier.settings.name), aclosing(writing.items()) as items:
            first = await anext(items)  # only now it is known which tier writes
            tier, evidence = writing.author, self._given(chunks, writing.author)
            said = coalesced(_with_first(first, items), interval_s)
            generated = without_links(said, LinkFilter(self._hosts(evidence)))
            if tier.settings.supported_only and self._request.model is None:

                def note(sentence: str) -> None:
                    log.info("unsupported_sentence", request_id=self._request.request_id, sentence=sentence[:200])
                    self._record.degraded.append(f"{tier.settings.name}:unsupported")

                generated = supported(generated, Sources(evidence), note)
            async with aclosing(generated):
                async for item in generated:
                    yield item

    def _help(self) -> Help:
        left_s = partial(self._limit_s, "generate", self._budget.total_s)
        return Help(self._p.retries, left_s, self._degrade, partial(self.spans.step, "first words"))

    def _hosts(self, evidence: Sequence[RetrievedChunk]) -> set[str]:
        """Hosts that an answer may link to: the company's, and those that its evidence came from."""
        own = {host for found in evidence if (host := host_of(found.chunk.url)) is not None}
        return own | set(self._p.settings.answers.link_hosts)

    def _generation(self, tier: Tier, evidence: list[RetrievedChunk]) -> GenerationRequest:
        request, tenant = self._request, self._p.settings.tenant(self._request.principal.tenant)
        history = self._history(tier)
        return GenerationRequest(
            messages=build_prompt(
                self._query, evidence, self._evidence_tokens(tier), policy=tenant.policy, history=history
            ),
            max_output_tokens=self._max_output_tokens(tier),
            temperature=request.temperature,
            seed=request.seed,
            request_id=request.turn_id,
            tenant=request.principal.tenant,
            private=self._private_values(tier),
        )

    def _given(self, chunks: list[RetrievedChunk], tier: Tier) -> list[RetrievedChunk]:
        """What fits into a prompt of this tier."""
        return packed(chunks[: tier.settings.evidence_chunks], self._evidence_tokens(tier))

    def _evidence_tokens(self, tier: Tier) -> int:
        """What a prompt of this tier, and of this tenant, has room for."""
        limits, tenant = tier.settings, self._p.settings.tenant(self._request.principal.tenant)
        most = limits.context_tokens - self._max_output_tokens(tier)
        frame = tokens_of_frame(self._query, policy=tenant.policy, history=self._history(tier))
        return min(limits.evidence_tokens, min(most, tenant.max_prompt_tokens or most) - frame)

    def _max_output_tokens(self, tier: Tier) -> int:
        tenant = self._p.settings.tenant(self._request.principal.tenant)
        wishes = (self._request.max_output_tokens, tenant.max_output_tokens, tier.settings.max_output_tokens)
        return min(wish for wish in wishes if wish is not None)

    def _history(self, tier: Tier) -> tuple[ChatMessage, ...]:
        """For a question that needs it; the answer to any other is everybody's, and rests on nothing that one said."""
        if self._query.is_standalone:
            return ()
        said = [message for message in self._request.messages[:-1] if message.role != "system"]
        return tuple(said[-2 * tier.settings.history_turns :]) if tier.settings.history_turns else ()

    def _private_values(self, tier: Tier) -> tuple[str, ...]:
        if tier.settings.openai is None:  # it stays on the premises
            return ()
        said = [self._query.search_text, *(message.content for message in self._request.messages)]
        return private_values(said, self._p.rules, self._now().date())

    # --- events, each noted in the record ---

    def _begin(self, path: Path, reason: str) -> Meta:
        request, record = self._request, self._record
        record.path, record.route_reason = path, reason
        return Meta(
            turn_id=request.turn_id,
            request_id=request.request_id,
            conversation_id=request.conversation_id,
            collection=request.collection,
            language=self._query.language,
            path=path,
            route_reason=reason,
            degraded=tuple(record.degraded),
            knowledge_version=record.knowledge_version,
        )

    def _delta(self, text: str) -> Delta:
        if not self._record.answer:
            self._record.ttft_ms = self.elapsed_ms()
        self._record.answer += text
        return Delta(text)

    def _cited(self, citation: Citation) -> Cited:
        self._record.citations.append(citation)
        return Cited(citation)

    def _done(self, end: GenerationEnd, *, grounded: bool) -> Done:
        record = self._record
        record.finish_reason, record.grounded = end.finish_reason, grounded
        record.input_tokens, record.output_tokens = end.input_tokens, end.output_tokens
        record.duration_ms = self.elapsed_ms()
        return Done(
            path=_as_path(record.path),
            finish_reason=end.finish_reason,
            grounded=grounded,
            input_tokens=end.input_tokens,
            output_tokens=end.output_tokens,
            ttft_ms=record.ttft_ms,
            duration_ms=record.duration_ms,
            degraded=tuple(record.degraded),
        )

    # --- the cache ---

    def _usable_cache(self) -> SemanticCache | None:
        """None where an answer depends on more than its question: on history, or on a forced model."""
        request = self._request
        own_wishes = request.model is not None or request.max_output_tokens is not None or request.temperature > 0
        is_everybodys = not own_wishes and self._query.is_standalone and not self._private
        return self._p.cache if is_everybodys else None

    async def _keep(
        self, understanding: Understanding | None, used: Sequence[RetrievedChunk], bound: EvidenceBound
    ) -> None:
        """Before `Done`, so that a customer who asks again at once is answered from the cache.

        used: all that the answer was made from.
        """
        cache, record, chunks = self._usable_cache(), self._record, [found.chunk for found in used]
        if cache is None or understanding is None:
            return
        refusal = why_not_cached(
            path=_as_path(record.path),
            finish_reason=record.finish_reason,
            is_grounded=record.grounded and bool(record.citations),
            question=self._query.text,
            answer=record.answer,
            sources=[f"{chunk.title} {chunk.text} {chunk.answer}" for chunk in chunks],
        )
        if refusal is not None:
            log.debug("not_cached", request_id=self._request.request_id, reason=refusal)
            return
        made_of = f"{self._scope.key()}|{self._query.normalized}|{record.answer}|{bound}"
        answer = CachedAnswer(
            id=hashlib.sha256(made_of.encode("utf-8", "surrogatepass")).hexdigest()[:32],
            question=self._query.text,
            text=record.answer,
            path=_as_path(record.path),
            citations=tuple(record.citations),
            evidence=bound,
            knowledge_version=record.knowledge_version,
            finish_reason="stop",
            output_tokens=record.output_tokens,
            input_tokens=record.input_tokens,
            created_at_s=self._p.now_s(),
            topic=understanding.prediction.label,
            valid_until_s=end_of_validity_s(chunks),
        )
        askers = frozenset(self._askers)
        put = cache.put(self._scope, self._query.normalized, understanding.embedding, answer, askers)
        try:
            await self._timed("cache_put", put, self._p.settings.cache.timeout_s)
        except DependencyError as error:
            self._degrade("cache:down", error)

    async def _is_agreed(self, hit: CacheHit, evidence: Evidence) -> bool:
        """Whether what the knowledge says to this question is what the stored answer rests on, where that can be told.

        Either way it is learned from. A hit that is not agreed is a miss.
        """
        if not self._p.settings.cache.must_agree:
            return True
        is_same = agrees(hit.answer, evidence, self._sure_pair(evidence))
        if is_same is not None:
            self._p.in_background(self._observe(hit, is_same))
        return is_same is not False

    def _sure_pair(self, evidence: Evidence) -> RetrievedChunk | None:
        found = self._match_curated(evidence)
        return found.match.pair if isinstance(found, curated.Given) else None

    def _is_sampled(self) -> bool:
        return self._p.rng.random() < self._p.settings.cache.shadow_share

    async def _check_in_hindsight(self, hit: CacheHit) -> None:
        """What a wording that is a slip away would have got anew. The customer has the stored answer already."""
        try:
            evidence = await self._search(await self._understand())
        except DependencyError as error:
            self._degrade("search:down", error)
            return
        is_same = agrees(hit.answer, evidence, self._sure_pair(evidence))
        if is_same is not None:
            await self._observe(hit, is_same)

    async def _observe(self, hit: CacheHit, is_same: bool) -> None:
        if (cache := self._p.cache) is not None:
            try:
                await cache.observe(self._scope, hit, is_same)
            except DependencyError as error:
                self._degrade("cache:down", error)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[CacheHit | None]:
        """Makes the answer, unless another replica makes it now: then waits for a while, and gives what that stored."""
        cache, scope, asked = self._usable_cache(), self._scope, self._query.normalized
        limits = self._p.settings.cache
        longest_s = self._limit_s("lease", limits.lease_wait_s)
        token: str | None = None
        hit: CacheHit | None = None
        waited_s = 0.0
        asker = min(self._askers)
        while cache is not None and hit is None and token is None and waited_s <= longest_s:
            try:
                token = await self._timed("lease", cache.lease(scope, asked, asker), limits.timeout_s)
            except DependencyError as error:
                self._degrade("cache:down", error)
                break
            if token is None:
                await asyncio.sleep(_LEASE_POLL_S)
                waited_s += _LEASE_POLL_S
                hit = await self._look_exact()
        try:
            yield hit
        finally:
            if cache is not None and token is not None:
                self._p.in_background(self._release(cache, token))

    async def _release(self, cache: SemanticCache, token: str) -> None:
        try:
            await cache.release(self._scope, self._query.normalized, token)
        except DependencyError as error:
            self._degrade("cache:down", error)

    # --- helpers ---

    def _name_in_log(self) -> None:
        """On every line that this task logs from now on."""
        request = self._request
        structlog.contextvars.bind_contextvars(
            request_id=request.request_id, turn_id=request.turn_id, tenant=request.principal.tenant
        )

    async def _timed(self, step: str, call: Awaitable[T], limit_s: float) -> T:
        """The result of `call`, its milliseconds noted; raises `DependencyError`s, also for what a room raised.

        limit_s: the step's own limit; the turn's time may leave it less.
        """
        limit_s = self._limit_s(step, limit_s)
        begun = time.perf_counter()
        try:
            with self.spans.step(step):
                async with asyncio.timeout(limit_s):
                    return await call
        except TimeoutError as error:
            raise DeadlineExceededError(f"{step} took longer than {limit_s:g} s") from error
        except (DependencyError, CallerError):
            raise
        except Exception as error:  # a room's own fault must not become the customer's: it is logged by the catcher
            raise DependencyError(f"{step} failed") from error
        finally:
            spent_ms = (time.perf_counter() - begun) * 1000
            self._record.step_ms[step] = self._record.step_ms.get(step, 0.0) + spent_ms

    def _limit_s(self, step: str, own_s: float) -> float:
        return self._budget.limit_s(step, own_s, time.monotonic())

    def _note_intent(self, understanding: Understanding) -> Understanding:
        prediction = understanding.prediction
        self._record.intent = prediction.label
        self._record.intent_confidence = prediction.confidence
        self._record.intent_margin = prediction.margin
        return understanding

    def _degrade(self, what: str, error: Exception) -> None:
        # No traceback: it would say that time was up, and to print it can take longer than the time that was.
        cause = "" if error.__cause__ is None else repr(error.__cause__)[:300]
        log.warning("degraded", what=what, request_id=self._request.request_id, error=repr(error)[:300], cause=cause)
        if what not in self._record.degraded:
            self._record.degraded.append(what)

    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started) * 1000


def is_evidence(found: RetrievedChunk, asked: frozenset[str], language: Language, limits: RetrieverSettings) -> bool:
    """Whether an answer may rest on it. asked: the words of the question; language: the question's."""
    in_own_language = found.chunk.language in (language, "und")
    thresholds = limits.evidence_threshold if in_own_language else limits.foreign_evidence_threshold
    if (found.similarity or 0.0) >= thresholds[language]:
        return True
    return coverage(asked, words(f"{found.chunk.title} {found.chunk.text}")) >= limits.evidence_coverage


async def _with_first(first: T, others: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    yield first
    async for item in others:
        yield item


def _as_path(path: str) -> Path:
    return path  # type: ignore[return-value]  # the record keeps plain text for its row


def _asker(request: ChatRequest) -> str:
    """An opaque name for who asks: one customer, or where none is named one conversation, through one key."""
    name = f"customer|{request.end_user}" if request.end_user else request.conversation_id
    return hashlib.sha256(f"{request.principal.key_id}|{name}".encode()).hexdigest()[:16]


def _policy_version(settings: AppSettings, rules: Rules, routing: RoutingModel) -> str:
    decides = f"{PROMPT_VERSION}|{rules.fingerprint}|{routing.fingerprint}|{settings.policy}"
    return hashlib.sha256(decides.encode()).hexdigest()[:12]
