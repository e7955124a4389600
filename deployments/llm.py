"""A tier: one language model with time limits, and a watch that knows whether it is up. Knows no Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import structlog

from deployments.answering.errors import (
    DeadlineExceededError,
    DependencyError,
    EngineBusyError,
    EngineDiedError,
    EngineRefusedError,
    RaydeskError,
)
from deployments.answering.patience import Patience
from deployments.answering.protocols import TierState
from deployments.answering.resilience import Breaker, BreakerState
from deployments.replicas import PROBE, Replicas
from deployments.settings import TierSettings
from models.protocols import LLM, ChatMessage, Generated, GenerationRequest

log = structlog.get_logger(__name__)

PROBE_INTERVAL_S = 10.0  # between looks at an idle tier; traffic that succeeds counts as a look
RETRY_INTERVAL_S = 1.0
WARM_UP_TIMEOUT_S = 60.0  # one try; a starting engine is asked again and again
# About as long as a real prompt, so that the engine allocates what it will need.
_WARM_UP = (ChatMessage("system", "You are a customer service assistant. " * 8), ChatMessage("user", "Hello. " * 40))


class Tier:
    def __init__(
        self,
        settings: TierSettings,
        llm: LLM,
        look: Callable[[], Awaitable[None]] | None = None,
        replicas: Replicas | None = None,
    ) -> None:
        """look: raises where the engine is not up; without it a short generation shows that.

        replicas: told how the generations end that were sent to each.
        """
        self.settings = settings
        self._replicas = replicas or Replicas(settings.breaker)
        self._look_for_life = look
        self._llm = llm
        self._has_started = False
        self._breaker = Breaker(settings.breaker)
        self._last_success = 0.0  # monotonic, seconds
        self._look_now = asyncio.Event()
        self._looks_bad = False

    @property
    def state(self) -> TierState:
        """'down': nobody is to ask it now."""
        if not self._has_started:
            return "starting"
        return "ready" if self._breaker.allows(time.monotonic()) else "down"

    @property
    def breaker_state(self) -> BreakerState:
        return self._breaker.state(time.monotonic())

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
        limit_s = self.settings.first_token_timeout_s
        try:
            async for item in self._limited(request, limit_s, self.settings.inter_token_timeout_s):
                yield item
        except EngineRefusedError:  # the request's fault
            raise
        except EngineBusyError as error:
            self._breaker.pause(time.monotonic() + (error.retry_after_s or 0))
            raise
        except DependencyError:
            self._failed(request.request_id)
            raise
        else:
            self._last_success = time.monotonic()
            self._breaker.succeeded(self._last_success)
            self._replicas.succeeded(request.request_id, self._last_success)
        finally:
            self._replicas.left(request.request_id)

    def _failed(self, request_id: str) -> None:
        now_s = time.monotonic()
        if self._replicas.failed(request_id, now_s):
            log.warning("replica_failed", tier=self.settings.name, replicas=self._replicas.states(now_s))
        else:
            self._breaker.failed(now_s)
            self._looks_bad = True
        self._look_now.set()  # another replica may be well, or none

    async def watch(self) -> None:
        """Warms the engine up, then keeps looking; runs as long as the application."""
        while True:
            self._look_now.clear()
            await self._look_if_due()
            if self._replicas.is_probe_due(time.monotonic()):
                await self._is_well(self._probe_a_replica)
            is_well = self.state == "ready" and self._replicas.are_sound(time.monotonic())
            pause_s = PROBE_INTERVAL_S if is_well else RETRY_INTERVAL_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._look_now.wait()
            except TimeoutError:
                continue

    async def _look_if_due(self) -> None:
        """At one that starts, at one that is idle or has just failed, and as the probe of one that is left alone."""
        match self.breaker_state:
            case "open":
                return
            case "half_open":
                if self._breaker.may_probe(time.monotonic()):
                    self._breaker.probed(time.monotonic(), await self._is_well(self._look))
            case "closed":
                is_idle = time.monotonic() - self._last_success > PROBE_INTERVAL_S
                if not (self._has_started and self.state == "down") and (is_idle or self._looks_bad):
                    await self._look_at_it()

    async def _look_at_it(self) -> None:
        self._looks_bad = False
        if await self._is_well(self._look):
            if not self._has_started:
                log.info("tier_ready", tier=self.settings.name, model=self.settings.model_id)
            self._has_started = True
            self._last_success = time.monotonic()
        elif self._has_started:
            self._breaker.trip(time.monotonic())

    async def _is_well(self, look: Callable[[], Awaitable[None]]) -> bool:
        limit_s = self.settings.first_token_timeout_s if self._has_started else WARM_UP_TIMEOUT_S
        try:
            async with asyncio.timeout(limit_s):
                await look()
        except EngineBusyError as error:
            self._breaker.pause(time.monotonic() + (error.retry_after_s or 0))
        except (RaydeskError, TimeoutError) as error:
            if self._has_started:
                log.warning("tier_down", tier=self.settings.name, error=str(error)[:300])
            return False
        return True

    async def _look(self) -> None:
        if self._look_for_life is not None:
            await self._look_for_life()
        else:
            await self._generate_a_little("probe-")

    async def _probe_a_replica(self) -> None:
        await self._generate_a_little(PROBE)

    async def _generate_a_little(self, prefix: str) -> None:
        messages, tokens = ((ChatMessage("user", "Hi"),), 1) if self._has_started else (_WARM_UP, 8)
        request_id, has_answered = f"{prefix}{time.monotonic_ns()}", False
        request = GenerationRequest(messages, max_output_tokens=tokens, request_id=request_id)
        try:
            async for _ in self._limited(request, WARM_UP_TIMEOUT_S, WARM_UP_TIMEOUT_S):
                pass
            has_answered = True
        finally:
            tell = self._replicas.succeeded if has_answered else self._replicas.failed
            tell(request_id, time.monotonic())

    async def _limited(
        self, request: GenerationRequest, first_s: float, next_s: float
    ) -> AsyncGenerator[Generated, None]:
        limit_s = first_s
        try:
            async with aclosing(_owned(self._llm, request)) as items, Patience() as patience:
                while (item := await patience.wait(anext(items, None), limit_s)) is not None:
                    yield item
                    limit_s = next_s
        except TimeoutError as error:
            raise DeadlineExceededError(f"the {self.settings.name} tier was silent for {limit_s:g} s") from error
        except RaydeskError:
            raise
        except Exception as error:  # whatever an engine raises, its caller hears one thing
            raise EngineDiedError(f"the {self.settings.name} tier broke off: {type(error).__name__}") from error


async def _owned(llm: LLM, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
    """Closing it closes the model's own iterator."""
    items = llm.generate(request)
    try:
        async for item in items:
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
