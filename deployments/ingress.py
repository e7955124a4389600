"""The ingress replica: the rooms that live in it, the turns it runs, and the Starlette app in front. Knows no Ray.

Rooms come in as objects; whether one of them is the room itself or its remote end was decided by `app.py`.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric
from starlette.applications import Starlette

from deployments.answering.errors import CallerError, DependencyError
from deployments.answering.pipeline import Pipeline
from deployments.answering.protocols import (
    AppStatus,
    EventLog,
    IntentClassifier,
    Retriever,
    RoomState,
    SemanticCache,
    Sessions,
    TierStatus,
    ToolCaller,
    TurnLog,
)
from deployments.answering.routing import (
    BUILT_IN,
    RoutingModel,
    RoutingModelError,
    fingerprint_of,
    load_routing,
)
from deployments.answering.rules import Rules
from deployments.answering.rules_file import RulesError, fingerprint, load_rules, warnings
from deployments.answering.types import Principal
from deployments.http.admission import Admission
from deployments.http.app import build_http_app
from deployments.http.auth import Authenticator
from deployments.http.key_file import read_keys, watch_keys
from deployments.llm import Tier
from deployments.metrics import Metrics
from deployments.random_ids import RandomIds
from deployments.settings import AppSettings
from deployments.turns.history import PastTurns
from deployments.turns.recorder import Recorder
from deployments.turns.runner import TurnRunner
from models.intent_versions import known_labels
from models.protocols import Vectors

log = structlog.get_logger(__name__)
LOOK_INTERVAL_S = 5.0  # between looks at a room that is up
RETRY_INTERVAL_S = 0.5  # between looks at one that is not
LOOK_TIMEOUT_S = 5.0
SETTLE_S = 30.0  # that customers wait for a room of a new replica: a store that is away must not close the door
RULES_INTERVAL_S = 2.0  # between looks at the rules file, and at the routing model's
GRACE_S = 0.5  # a turn ends by itself in its time; where it does not, it is ended
GC_THRESHOLD = 10_000  # new objects between looks for garbage among them; a turn leaves hardly any that needs one
PUBLISH_INTERVAL_S = 5.0  # between publications of what was counted; a node hands on the latest every 10 s

Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Rooms:
    """What the ingress talks to, and how each part is started, looked at and stopped."""

    classifier: IntentClassifier
    retriever: Retriever
    cache: SemanticCache | None
    turn_log: TurnLog
    tiers: Sequence[Tier]
    sessions: Sessions | None = None
    events: EventLog | None = None
    tools: ToolCaller | None = None
    start: Mapping[str, Work] = field(default_factory=dict)  # room → what it does before it can work
    look: Mapping[str, Work] = field(default_factory=dict)  # room → raises when the room cannot work
    stop: Sequence[Work] = ()


class IngressApp:
    """Everything of one ingress replica; `asgi` is its app.

    publish: takes what was counted, every few seconds, to where that of all replicas is.
    """

    def __init__(
        self, settings: AppSettings, rooms: Rooms, publish: Callable[[Iterable[Metric]], None] = lambda _: None
    ) -> None:
        self._rooms = rooms
        self._publish = publish
        self._metrics = Metrics(settings.cache.price_per_million_tokens)
        self._intents = settings.intents
        self._routing_file = None if settings.routing.model is None else Path(settings.routing.model)
        self._auth = settings.auth
        self._authenticator = Authenticator(settings)
        if settings.auth.keys_file is not None:
            self._authenticator.use_keys(read_keys(Path(settings.auth.keys_file)))
        self._pipeline = Pipeline(
            settings,
            classifier=rooms.classifier,
            retriever=rooms.retriever,
            cache=rooms.cache,
            tiers=rooms.tiers,
            rules=self._load_rules(),
            routing=BUILT_IN if settings.routing.model is None else load_routing(Path(settings.routing.model)),
            sessions=rooms.sessions,
            tools=rooms.tools,
        )
        self._recorder = Recorder(
            rooms.turn_log, settings.turn_log, settings.deadlines, on_dropped=self._metrics.on_dropped
        )
        self._turns = TurnRunner(
            self._pipeline,
            self._recorder,
            max_turns=settings.http.max_concurrent_turns,
            turn_timeout_s=settings.deadlines.turn_s + GRACE_S,
            status=self.status,
            on_end=self._metrics.on_end,
            events=rooms.events,
            limits=settings.turns,
        )
        if rooms.cache is not None:
            self._metrics.watch_cache(rooms.cache.counts)
        self._metrics.watch(lambda: self._turns.running, lambda: self._recorder.waiting)
        self._states: dict[str, RoomState] = dict.fromkeys({**rooms.start, **rooms.look}, "starting")
        self._started = {name: asyncio.Event() for name in rooms.start}
        self._is_settled = False
        self._admission = Admission(settings, waiting=self._turns.waiting)
        self.asgi: Starlette = build_http_app(
            settings,
            self._turns,
            history=PastTurns(rooms.turn_log, rooms.sessions, self._pipeline),
            metrics=lambda: self._metrics.text(self.status()),
            embed=self._embed,
            admission=self._admission,
            authenticator=self._authenticator,
            on_error=self._metrics.on_http_error,
            lifespan=self._lifespan,
            new_id=RandomIds(16),
            sends_request_id=False,
        )

    async def _embed(self, text: str) -> Vectors:
        return (await self._rooms.classifier.understand(text)).embedding

    def _load_rules(self) -> Rules:
        intents, tools = self._intents, self._rooms.tools
        names = frozenset[str]() if tools is None else tools.names
        file = Path(intents.rules)
        rules = load_rules(file, intents.confidence_threshold, intents.margin_threshold, names)
        labels = known_labels(Path(intents.head))
        for warning in () if labels is None else warnings(file, labels):
            log.warning("rule_without_effect", where=warning.text(file))
        return rules

    def status(self) -> AppStatus:
        tiers = tuple(
            TierStatus(tier.settings.name, tier.settings.model_id, tier.state, tier.breaker_state)
            for tier in self._rooms.tiers
        )
        return AppStatus(dict(self._states), tiers)

    async def settled(self) -> None:
        """Returns once every room that has to load has done so, or has had its time for it."""
        if self._is_settled:
            return
        try:
            async with asyncio.timeout(SETTLE_S):
                await asyncio.gather(*(room.wait() for room in self._started.values()))
        except TimeoutError:
            log.warning("not_settled", rooms=[name for name, room in self._started.items() if not room.is_set()])
        self._is_settled = True
        _leave_to_itself()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        log.info("ingress_starts", policy=self._pipeline.policy_version, rules=self._pipeline.rules.fingerprint)
        self._recorder.start()
        await self._turns.start()
        watchers = [asyncio.create_task(_for_ever(name, work)) for name, work in self._watches()]
        watchers.append(asyncio.create_task(_for_ever("rules", self._watch_rules)))
        watchers.append(asyncio.create_task(_for_ever("admission", self._admission.watch)))
        if self._routing_file is not None:
            watchers.append(asyncio.create_task(_for_ever("routing", partial(self._watch_routing, self._routing_file))))
        if self._auth.keys_file is not None:
            watching = partial(
                watch_keys, Path(self._auth.keys_file), self._authenticator.use_keys, self._auth.keys_interval_s
            )
            watchers.append(asyncio.create_task(_for_ever("keys", watching)))
        watchers.append(asyncio.create_task(_for_ever("metrics", self._publish_metrics)))
        try:
            yield
        finally:
            await self._turns.stop()
            await self._recorder.stop()
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
            for stop in self._rooms.stop:
                await stop()

    def _watches(self) -> list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        rooms = [(name, lambda name=name: self._watch(name)) for name in self._states]
        return rooms + [(tier.settings.name, tier.watch) for tier in self._rooms.tiers]

    async def _publish_metrics(self) -> None:
        while True:
            for tenant, collection in self._metrics.collections:
                await self._note_version(tenant, collection)
            self._publish(self._metrics.collect(self.status()))
            await asyncio.sleep(PUBLISH_INTERVAL_S)

    async def _note_version(self, tenant: str, collection: str) -> None:
        """As it is now: this replica may not have been asked since the last one was published."""
        try:
            version = await self._rooms.retriever.version(Principal(tenant, frozenset(), "metrics"), collection)
        except CallerError:
            self._metrics.note_version(tenant, collection, None)
        except DependencyError:
            return  # the retriever's own state tells of it
        else:
            self._metrics.note_version(tenant, collection, version)

    async def _watch_rules(self) -> None:
        """A rules file that was changed is used from the next turn on; while it is not valid, the one before is."""
        file, seen = Path(self._intents.rules), b""
        while True:
            content = await asyncio.to_thread(_content, file)
            if content and content != seen:
                seen = content
                if fingerprint(content) != self._pipeline.rules.fingerprint:
                    await self._use_changed_rules()
            await asyncio.sleep(RULES_INTERVAL_S)

    async def _use_changed_rules(self) -> None:
        try:
            rules = await asyncio.to_thread(self._load_rules)
        except RulesError as error:
            log.error("rules_not_valid", error=str(error), kept=self._pipeline.rules.fingerprint)
            return
        self._pipeline.use_rules(rules)
        log.info("rules_in_use", fingerprint=rules.fingerprint, rules=len(rules.rules))

    async def _watch_routing(self, file: Path) -> None:
        """A newly fitted model chooses from the next turn on; while it is not valid, the one before does."""
        seen = b""
        while True:
            content = await asyncio.to_thread(_content, file)
            if content and content != seen:
                seen = content
                if fingerprint_of(content) != self._pipeline.models.router.model.fingerprint:
                    self._use_changed_routing(content, file)
            await asyncio.sleep(RULES_INTERVAL_S)

    def _use_changed_routing(self, content: bytes, file: Path) -> None:
        kept = self._pipeline.models.router.model.fingerprint
        try:
            model = RoutingModel.parse(content, str(file))
        except RoutingModelError as error:
            log.error("routing_not_valid", error=str(error), kept=kept)
            return
        self._pipeline.use_routing(model)
        log.info("routing_in_use", fingerprint=model.fingerprint, threshold=model.threshold)

    async def _watch(self, name: str) -> None:
        start = self._rooms.start.get(name)
        while start is not None and not await self._tried(name, start):  # noqa: ASYNC110 - a room tells nobody that it is up
            await asyncio.sleep(RETRY_INTERVAL_S)
        if start is not None:
            self._started[name].set()
        look = self._rooms.look.get(name)
        self._states[name] = "ready" if look is None else self._states[name]
        while look is not None:
            is_up = await self._tried(name, look, LOOK_TIMEOUT_S)
            self._note(name, is_up)
            await asyncio.sleep(LOOK_INTERVAL_S if is_up else RETRY_INTERVAL_S)

    async def _tried(self, name: str, work: Work, timeout_s: float | None = None) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await work()
        except Exception as error:  # any fault of a room means the same here: not up, look again
            log.warning("room_not_up", room=name, state=self._states[name], error=str(error)[:300])
            return False
        return True

    def _note(self, name: str, is_up: bool) -> None:
        if is_up:
            self._states[name] = "ready"
        elif self._states[name] == "ready":
            self._states[name] = "down"


def _leave_to_itself() -> None:
    """What has been loaded stays: the garbage collector's rounds through it took 7 % of a cached answer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _content(file: Path) -> bytes:
    """Empty where it cannot be read: it may be in the middle of being replaced."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


async def _for_ever(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A watcher that died unseen would leave its part's state a lie."""
    while True:
        try:
            await work()
            return
        except Exception:
            log.exception("watcher_failed", part=name)
            await asyncio.sleep(LOOK_INTERVAL_S)
