"""A tier: one language model with time limits, and a watch that knows whether it is up. Knows no Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import structlog

from deployments.answering.errors import DeadlineExceededError, DependencyError, EngineDiedError, RaydeskError
from deployments.answering.protocols import TierState
from deployments.settings import TierSettings
from models.protocols import LLM, ChatMessage, GenerationEnd, GenerationRequest, TextDelta

log = structlog.get_logger(__name__)

PROBE_INTERVAL_S = 10.0  # between looks at an idle tier; traffic that succeeds counts as a look
RETRY_INTERVAL_S = 1.0
WARM_UP_TIMEOUT_S = 60.0  # one try; a starting engine is asked again and again
# About as long as a real prompt, so that the engine allocates what it will need.
_WARM_UP = (ChatMessage("system", "You are a customer service assistant. " * 8), ChatMessage("user", "Hello. " * 40))


class Tier:
    def __init__(self, settings: TierSettings, llm: LLM, look: Callable[[], Awaitable[None]] | None = None) -> None:
        """look: raises where the engine is not up; without it a short generation shows that."""
        self.settings = settings
        self._look = look
        self._llm = llm
        self._state: TierState = "starting"
        self._last_success = 0.0  # monotonic, seconds
        self._look_now = asyncio.Event()

    @property
    def state(self) -> TierState:
        return self._state

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
        limit_s = self.settings.first_token_timeout_s
        try:
            async for item in self._limited(request, limit_s, self.settings.inter_token_timeout_s):
                yield item
        except DependencyError:
            self._state = "down"
            self._look_now.set()  # it may be back at once: a second replica, or a fault of this one request
            raise
        self._last_success = time.monotonic()

    async def watch(self) -> None:
        """Warms the engine up, then keeps looking; runs as long as the application."""
        while True:
            self._look_now.clear()
            if self._state != "ready" or time.monotonic() - self._last_success > PROBE_INTERVAL_S:
                await self._probe()
            pause_s = PROBE_INTERVAL_S if self._state == "ready" else RETRY_INTERVAL_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._look_now.wait()
            except TimeoutError:
                continue

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(WARM_UP_TIMEOUT_S):
                await (self._look or self._generate_a_little)()
        except (RaydeskError, TimeoutError) as error:
            if self._state == "ready":
                log.warning("tier_down", tier=self.settings.name, error=str(error)[:300])
                self._state = "down"
            return
        if self._state != "ready":
            log.info("tier_ready", tier=self.settings.name, model=self.settings.model_id)
        self._state = "ready"
        self._last_success = time.monotonic()

    async def _generate_a_little(self) -> None:
        messages, tokens = (_WARM_UP, 8) if self._state != "ready" else ((ChatMessage("user", "Hi"),), 1)
        request = GenerationRequest(messages, max_output_tokens=tokens, request_id=f"probe-{time.monotonic_ns()}")
        async for _ in self._limited(request, WARM_UP_TIMEOUT_S, WARM_UP_TIMEOUT_S):
            pass

    async def _limited(
        self, request: GenerationRequest, first_s: float, next_s: float
    ) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
        async with aclosing(_owned(self._llm, request)) as items:
            limit_s = first_s
            while True:
                try:
                    async with asyncio.timeout(limit_s):
                        item = await anext(items, None)
                except TimeoutError as error:
                    raise DeadlineExceededError(
                        f"the {self.settings.name} tier was silent for {limit_s:g} s"
                    ) from error
                except RaydeskError:
                    raise
                except Exception as error:  # whatever an engine raises, its caller hears one thing
                    raise EngineDiedError(f"the {self.settings.name} tier broke off: {type(error).__name__}") from error
                if item is None:
                    return
                yield item
                limit_s = next_s


async def _owned(llm: LLM, request: GenerationRequest) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
    """Closing it closes the model's own iterator."""
    items = llm.generate(request)
    try:
        async for item in items:
            yield item
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
