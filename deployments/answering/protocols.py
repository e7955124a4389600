"""What the pipeline needs from each room. A room, its remote end and its fake all look like this."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from deployments.answering.resilience import BreakerState
from deployments.answering.session import Session, SessionKey
from deployments.answering.types import (
    AnswerEvent,
    CachedAnswer,
    CacheHit,
    CacheScope,
    ChatRequest,
    Evidence,
    Language,
    Principal,
    Standing,
    Understanding,
)
from deployments.settings import TierSettings
from models.protocols import Generated, GenerationRequest, Vectors


class IntentClassifier(Protocol):
    async def understand(self, text: str, tenant: str = "") -> Understanding:
        """One encoder pass: the prediction and the query embedding.

        tenant: who asks; what the same tenant has asked before may be remembered. Nobody's question never is: whoever
        looks whether this works, or how fast it is, asks as nobody.
        """


class Retriever(Protocol):
    async def version(self, principal: Principal, collection: str) -> str:
        """The published version that `search` would use now.

        Raises `UnknownCollectionError` when this principal's tenant has no such collection.
        """

    async def search(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language,
        embedding: Vectors | None,
        top_k: int,
    ) -> Evidence:
        """The best chunks that this principal may see, from exactly one version.

        Knowledge in `language` comes first; a collection without any is searched in all its languages. Without an
        embedding (the encoder is away) the search is lexical alone.
        """

    async def still_stands(self, principal: Principal, collection: str, standing: Standing) -> str | None:
        """The published version if an answer stands under it, too; None if not, or if that cannot be told."""


class SemanticCache(Protocol):
    """Errors of the store behind it are raised; the pipeline goes on without a cache.

    A hit was verified against the question, not against the knowledge: `hit.versions` says where it stands.
    """

    @property
    def counts(self) -> Mapping[str, int]:
        """What came of look-ups and answers since this process began ("hit:exact", "refused:negation", …).

        Nothing where the room is apart: it counts in its own process, and all of them add up in the store.
        """
        ...

    async def lookup_exact(self, scope: CacheScope, normalized: str) -> CacheHit | None:
        """The stored answer of this normalised question, or of a verified one that differs by a slip of the pen."""

    async def lookup_semantic(self, scope: CacheScope, text: str, embedding: Vectors) -> CacheHit | None:
        """The stored answer of a verified paraphrase. The same wording is an exact hit from then on."""

    async def put(
        self,
        scope: CacheScope,
        normalized: str,
        embedding: Vectors,
        answer: CachedAnswer,
        askers: frozenset[str] = frozenset(),
    ) -> bool:
        """Stores it; False when it is not admitted: blocked, too large, or not yet asked by enough.

        askers: who asked it now, as opaque names; a curated answer needs none.
        """

    async def confirm(self, hit: CacheHit, version: str) -> None:
        """The answer stands under this knowledge version, too."""

    async def discard(self, hit: CacheHit, reason: str) -> None:
        """The answer is not to be given again, in no wording; it may be made anew."""

    async def observe(self, scope: CacheScope, hit: CacheHit, is_same: bool) -> None:
        """Whether the question has got, or would have got, the same answer anew. One that has not is discarded."""

    async def block(self, scope: CacheScope, question: str) -> bool:
        """A customer was not helped: evicts what answers this question, and stores no answer to it for a while.

        True when something was evicted.
        """

    async def evict(self, scope: CacheScope, answer_id: str) -> bool:
        """True when there was such an entry."""

    async def lease(self, scope: CacheScope, normalized: str, asker: str) -> str | None:
        """Permission to make this answer: a token; None while another replica makes it, who is told of `asker`."""

    async def release(self, scope: CacheScope, normalized: str, token: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Held:
    """A conversation that one turn holds: the turns that come meanwhile wait."""

    key: SessionKey
    ticket: str
    session: Session


@dataclass(frozen=True, slots=True)
class InLine:
    """A turn's place in the line of those that want to hold a conversation, while another one does."""

    key: SessionKey
    ticket: str


class Sessions(Protocol):
    """Errors of the store behind it are raised; the pipeline goes on with what the request says."""

    async def enter(self, key: SessionKey) -> Held | InLine:
        """Holds the conversation where no other turn does, or wants to; else stands in line, to `wait` soon."""

    async def wait(self, place: InLine, wait_s: float) -> Held:
        """Holds the conversation, once the turns that came before are over: in the order in which they came.

        Raises `DeadlineExceededError` when that takes longer than `wait_s`. The place in line is gone after any error.
        """

    async def give_up(self, place: InLine) -> None:
        """Leaves the line."""

    async def begin(self, key: SessionKey, wait_s: float) -> Held:
        """`enter`, and `wait` if need be."""

    async def end(self, held: Held, session: Session | None) -> None:
        """Stores (None: nothing), and lets the next turn go on.

        Raises `RoomUnavailableError`, and has stored nothing, where the hold was lost meanwhile: another turn may have
        gone on.
        """

    def end_soon(self, held: Held, session: Session) -> None:
        """The same, within moments, off the customer's clock; the next turn waits for it. What goes wrong is logged."""

    async def load(self, key: SessionKey) -> Session | None:
        """Without holding it."""

    async def store(self, key: SessionKey, session: Session) -> None:
        """Of a conversation that nobody else can be in."""

    def store_soon(self, key: SessionKey, session: Session) -> None:
        """Of a conversation that has none yet: within moments, off the customer's clock.

        What cannot be stored is logged.
        """

    async def forget(self, key: SessionKey, wait_s: float) -> bool:
        """True when there was something. Waits for a turn that holds it, as `begin` does."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Which turn answers a request that may be repeated."""

    turn_id: str
    owner: str  # the ingress replica that runs it
    body_sha256: str


@dataclass(frozen=True, slots=True)
class Page:
    """What a turn has said, from some event on."""

    first: int  # number of the first event here, from 1 on
    events: tuple[AnswerEvent, ...]
    last: int  # number of the last event that is kept
    is_over: bool  # that one is the turn's last
    owner: str  # the ingress replica that runs the turn
    is_owner_alive: bool  # as far as its signs of life tell; True where `read` was told no owner


class EventLog(Protocol):
    """The events of turns, for a while, for whoever missed some: at any ingress replica.

    `reader` is an opaque name of the principal; a turn of another one does not exist. Errors of the store behind it are
    raised as `RoomUnavailableError`; the turns go on without it.
    """

    @property
    def owner(self) -> str:
        """This replica's name."""
        ...

    @property
    def is_up(self) -> bool:
        """Whether the store answered last time."""
        ...

    async def start(self, on_cancel: Callable[[str], None]) -> None:
        """Gives signs of life from now on. on_cancel: called with a turn's id when some replica wants its end."""

    async def stop(self) -> None: ...

    def keep(
        self, turn_id: str, reader: str, first: int, events: Sequence[AnswerEvent], *, is_repeatable: bool
    ) -> None:
        """The next events of a turn: within moments, off the customer's clock. first: number of the first of them."""

    def keep_whole(self, turn_id: str, reader: str, events: Sequence[AnswerEvent]) -> None:
        """All of a turn that its caller has in one piece: as far as there is room for such."""

    async def read(self, turn_id: str, reader: str, after: int, owner: str = "") -> Page | None:
        """Events that come after number `after`; None where no such turn is known.

        owner: whose signs of life to look for.
        """

    async def claim(self, name: str, claim: Claim, instead_of: Claim | None = None) -> Claim:
        """The claim that stands: the one given, unless another one than `instead_of` was there before.

        name: an opaque one, of principal and request.
        """

    async def unclaim(self, name: str, claim: Claim) -> None:
        """If it stands."""

    async def stay(self, turn_id: str) -> None:
        """Somebody reads this turn out of the log: it is not to be cancelled within its time for returning."""

    async def stays_s(self, turn_id: str) -> float:
        """How long that is still so, seconds; 0 where nobody reads it."""

    async def ask_to_cancel(self, turn_id: str, owner: str) -> None: ...

    async def is_alive(self, owner: str) -> bool:
        """Whether that replica gives signs of life."""


class ToolCaller(Protocol):
    """Functions of the company's that a flow may call."""

    @property
    def names(self) -> frozenset[str]: ...

    async def call(self, principal: Principal, tool: str, arguments: Mapping[str, str]) -> Mapping[str, str]:
        """The result's fields as texts, which are data. Raises `DependencyError`s."""


class TurnLog(Protocol):
    async def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write turns (`TurnRecord.row()`); a turn_id given twice counts once."""

    async def recent(self, tenant: str, limit: int) -> list[dict[str, Any]]:
        """The newest turns of one tenant, newest first."""

    async def count(self, tenant: str) -> int: ...

    async def find(self, tenant: str, key_id: str, turn_id: str) -> dict[str, Any] | None:
        """One turn's row, of this credential."""

    async def conversations(self, tenant: str, key_id: str, limit: int) -> list[tuple[str, datetime]]:
        """Conversations of this credential and the start of their last turns, the newest first."""

    async def rate(self, row: Mapping[str, Any]) -> None:
        """Write what a customer says of a turn (`FEEDBACK_COLUMNS`); the last word counts."""

    async def rated(self, tenant: str, rating: Rating, limit: int) -> list[dict[str, Any]]:
        """Turns of which that was said last, the latest said first; with `rating`, `comment` and `rated_at`."""


TierState = Literal["starting", "ready", "down"]


class Tier(Protocol):
    """A language model with its limits and its state."""

    @property
    def settings(self) -> TierSettings: ...

    @property
    def state(self) -> TierState: ...

    def generate(self, request: GenerationRequest) -> AsyncIterator[Generated]:
        """As `models.protocols.LLM.generate`, with this tier's time limits.

        Raises `DependencyError`s only: a time-out, a replica that died.
        """


RoomState = Literal["starting", "ready", "down"]


@dataclass(frozen=True, slots=True)
class TierStatus:
    name: str  # "small", "large"
    model_id: str  # as the OpenAI-compatible API offers it
    state: TierState
    breaker: BreakerState = "closed"


@dataclass(frozen=True, slots=True)
class AppStatus:
    """What is up. The app is ready when every room is; a tier that starts or is down only degrades it."""

    rooms: Mapping[str, RoomState]  # intent_classifier, retriever, semantic_cache, turn_log
    tiers: tuple[TierStatus, ...]

    @property
    def is_ready(self) -> bool:
        return all(state == "ready" for state in self.rooms.values())


class ReadyEvents:
    """The events of a turn that was answered at once. Iterated like any others; all there for who looks."""

    def __init__(self, events: Sequence[AnswerEvent]) -> None:
        self.all = tuple(events)
        self._left = iter(self.all)

    def __aiter__(self) -> ReadyEvents:
        return self

    async def __anext__(self) -> AnswerEvent:
        for event in self._left:
            return event
        raise StopAsyncIteration


class Turns(Protocol):
    """Runs turns that belong to the application, not to the request that asked for them."""

    def open(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[AnswerEvent]]:
        """The events of one turn: `Meta`, then `Delta`s and `Cited`s, then exactly one of `Done` and `Failed`.

        A turn that fails before it has begun gives a `Failed` as its first and only event. Leaving the block before
        the last event means that the customer has gone: the turn is cancelled and recorded as disconnected; at once,
        or where the customer can return, after a time for that.
        A `repeatable` request that came before gets that one's events, from the first on.
        Where nothing had to be waited for, they are `ReadyEvents`.
        Entering raises `OverloadedError` when too many turns are at work, and `CallerError`s (unknown collection
        or model, `IdempotencyConflictError`).
        """

    def resume(
        self, principal: Principal, turn_id: str, after: int
    ) -> AbstractAsyncContextManager[AsyncIterator[AnswerEvent]]:
        """The events that come after number `after` (the first one is 1), of a turn at any replica.

        Where it is over, they are `ReadyEvents`: none where `after` was the last.
        Entering raises `NotFoundError`, also for another principal's turn, `EventsGoneError` and
        `RoomUnavailableError`.
        """

    async def events_so_far(self, principal: Principal, turn_id: str) -> Sequence[AnswerEvent]:
        """Without waiting for more. Raises as `resume` does."""

    async def cancel(self, principal: Principal, turn_id: str) -> None:
        """Ends a turn of any replica; one that is over stays as it is. Raises as `resume` does."""

    def status(self) -> AppStatus: ...


Rating = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    conversation_id: str
    last_turn_at: datetime
    first_message: str  # of those that are remembered; cut
    messages: int  # remembered


class History(Protocol):
    """What a principal can see, and say, of its own past turns. Another one's does not exist: `NotFoundError`."""

    async def conversations(self, principal: Principal, limit: int) -> Sequence[ConversationSummary]:
        """Those that are remembered, the newest first."""

    async def conversation(self, principal: Principal, conversation_id: str) -> Session: ...

    async def forget(self, principal: Principal, conversation_id: str) -> None: ...

    async def rate(self, principal: Principal, turn_id: str, rating: Rating, comment: str) -> None:
        """The last word counts. An answer that did not help is not given again."""
