"""One answer of the language models, whatever becomes of the engines: begun again, handed on, gone on with. Pure.

The only place that repeats anything. Before the first word: at most one retry, where the replica died and the retry
budget allows it, and one other tier. After it what was said stands, and another replica or tier goes on from there: the
customer sees one answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import structlog

from deployments.answering.errors import (
    DeadlineExceededError,
    DependencyError,
    EngineDiedError,
    OverloadedError,
    RaydeskError,
)
from deployments.answering.patience import Patience
from deployments.answering.protocols import Tier
from deployments.answering.resilience import RetryBudget
from models.protocols import Generated, GenerationEnd, GenerationRequest, TextDelta, ToolCall, ToolCallDelta

log = structlog.get_logger(__name__)
T = TypeVar("T")
MOST_CONTINUATIONS = 2  # of one answer: then something is wrong with more than a replica


@dataclass(frozen=True, slots=True)
class Help:
    """What a generation may use, and whom it tells."""

    retries: RetryBudget
    left_s: Callable[[], float]  # until the answer must be at its end
    note: Callable[[str, Exception], None]  # what it had to do without, e.g. "small:engine_died", "small:retried"
    first_words: Callable[[], AbstractContextManager[None]] = nullcontext  # around the wait for an engine's first words


class Generation:
    def __init__(self, tiers: Sequence[Tier], request_of: Callable[[Tier], GenerationRequest], help_: Help) -> None:
        """tiers: at least one, best first. request_of: what to ask each of them."""
        self.tier = tiers[0]  # that writes now
        self._began: Tier | None = None
        self._others = list(tiers[1:])
        self._request_of = request_of
        self._help = help_
        self._said = ""
        self._tokens = 0
        self._retries = self._fallbacks = self._continuations = 0
        self._broken_by: RaydeskError | None = None  # what ended the words that the customer has
        self._calls: dict[int, ToolCall] = {}  # by their place

    @property
    def author(self) -> Tier:
        """Who said the first word; before it, who is to say it. The answer is that tier's, whoever goes on with it."""
        return self._began or self.tier

    @property
    def calls(self) -> list[ToolCall]:
        """What the model wants called, once it has come to its end. Nobody can use a part of that."""
        return [self._calls[index] for index in sorted(self._calls)]

    async def items(self) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
        """As `models.protocols.LLM.generate`, without `calls`.

        Raises as it does, too, and `OverloadedError`: when nobody can go on.
        """
        self._help.retries.begin()
        while True:
            try:
                async with aclosing(self._of_one()) as items:
                    async for item in items:
                        yield item
                return
            except (DependencyError, OverloadedError) as error:
                if self._said and not self._help.left_s():
                    self._help.note("deadline:cut", error)
                    yield GenerationEnd("length", 0, self._tokens)
                    return
                if not self._goes_on(error):
                    if self._broken_by is not None:  # that nobody could go on is not why it broke off
                        raise self._broken_by from error
                    raise
                if self._said and self._broken_by is None:
                    self._broken_by = error

    async def _of_one(self) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
        """What the tier says that writes now, with what was said before it."""
        request = self._request_of(self.tier)
        left = max(1, request.max_output_tokens - self._tokens)
        request = replace(request, continuation=self._said, max_output_tokens=left)
        before, is_first = self._tokens, True
        self._calls.clear()
        async with aclosing(as_generator(self.tier.generate(request))) as items, Patience() as patience:
            while True:
                item = await self._next(items, is_first, patience)
                is_first = False
                if isinstance(item, GenerationEnd):
                    yield replace(item, output_tokens=item.output_tokens + before)
                    return
                if item is None:
                    raise EngineDiedError()
                if isinstance(item, ToolCallDelta):
                    self._call(item)
                    continue
                self._began = self._began or self.tier
                self._said, self._broken_by = self._said + item.text, None
                self._tokens += item.tokens
                yield item

    async def _next(
        self, items: AsyncGenerator[Generated, None], is_first: bool, patience: Patience
    ) -> Generated | None:
        limit_s = self._help.left_s()
        if is_first and not self._said and self._fallback() is not None:
            limit_s /= 2  # the other tier needs its time, too
        try:
            with self._help.first_words() if is_first else nullcontext():
                return await patience.wait(anext(items, None), limit_s)
        except TimeoutError as error:
            raise DeadlineExceededError(f"the {self.tier.settings.name} tier had {limit_s:.1f} s left") from error

    def _call(self, piece: ToolCallDelta) -> None:
        said = self._calls.get(piece.index, ToolCall("", "", ""))
        whole = (said.id + piece.id, said.name + piece.name, said.arguments + piece.arguments)
        self._calls[piece.index] = ToolCall(*whole)

    def _goes_on(self, error: RaydeskError) -> bool:
        """Whether there is somebody to go on; from then on that one is `tier`."""
        if not self._help.left_s():
            return False
        name, has_died = self.tier.settings.name, isinstance(error, EngineDiedError)
        if not self._said:
            if has_died and not self._retries and self.tier.state == "ready" and self._help.retries.take():
                self._retries += 1
                self._help.note(f"{name}:retried", error)
                return True
            other = None if self._fallbacks else self._fallback()
            if other is None:
                return False
            self._fallbacks += 1
            self._help.note(f"{name}:{error.code}", error)
        else:
            other = self._continues(has_died)
            if other is None or self._continuations >= MOST_CONTINUATIONS:
                return False
            self._continuations += 1
            self._help.note(f"{name}:continued", error)
        if other is not self.tier:
            self._others.remove(other)
            self.tier = other
        return True

    def _fallback(self) -> Tier | None:
        return next((tier for tier in self._others if tier.state == "ready"), None)

    def _continues(self, has_died: bool) -> Tier | None:
        """Another replica of the same tier; one that is silent is left alone. Or a tier held to its sources alike."""
        if has_died and self.tier.state == "ready" and _can_continue(self.tier):
            return self.tier
        strict = self.tier.settings.supported_only
        alike = [tier for tier in self._others if tier.settings.supported_only == strict and _can_continue(tier)]
        return next((tier for tier in alike if tier.state == "ready"), None)


def _can_continue(tier: Tier) -> bool:
    return tier.settings.openai is None or tier.settings.openai.continues


async def as_generator(items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """Closing it closes `items`, whatever kind of iterator that is, so that the engine stops generating."""
    try:
        async for item in items:
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
