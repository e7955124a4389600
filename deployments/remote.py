"""Rooms behind Serve handles: each looks like the room itself. The only file that calls `.remote(`.

A handle waits for ever when a deployment has no replica, and its errors carry tracebacks and host paths: every call
here has a deadline, and what comes out is one of ours.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from deployments.answering.errors import (
    DeadlineExceededError,
    EngineDiedError,
    EngineRefusedError,
    OverloadedError,
    RaydeskError,
    RoomUnavailableError,
)
from deployments.answering.protocols import Rating
from deployments.answering.types import (
    CachedAnswer,
    CacheHit,
    CacheScope,
    Evidence,
    Language,
    Principal,
    Standing,
    Understanding,
)
from deployments.engine_wire import EngineRequest, wire_messages
from deployments.lease import Renewals, new_generation
from deployments.retriever import Candidates
from models.protocols import Generated, GenerationEnd, GenerationRequest, TextDelta, ToolCallDelta, Vectors

START_TIMEOUT_S = 120.0  # a cache reads all that is stored, a retriever loads its knowledge
RENEW_TIMEOUT_S = 2.0
PING_TIMEOUT_S = 5.0  # a room that is slow is not away


class _Room:
    def __init__(self, handle: DeploymentHandle, timeout_s: float) -> None:
        self._handle = handle
        self._timeout_s = timeout_s

    async def _call(self, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        limit_s = timeout_s or self._timeout_s
        try:
            async with asyncio.timeout(limit_s):
                response = getattr(self._handle, method).remote(*args)
                try:
                    return await response
                except asyncio.CancelledError:  # time is up, or the customer has left: the room need not go on
                    response.cancel()
                    raise
        except TimeoutError as error:
            raise DeadlineExceededError(f"{method} took longer than {limit_s:g} s") from error
        except BackPressureError as error:
            raise OverloadedError() from error
        except Exception as error:
            raise _ours(error) from error


class RemoteIntentClassifier(_Room):
    async def understand(self, text: str, tenant: str = "") -> Understanding:
        understanding: Understanding = await self._call("understand", text, tenant)
        return understanding


class RemoteRetriever(_Room):
    async def ping(self) -> None:
        await self._call("ping")

    async def version(self, principal: Principal, collection: str) -> str:
        version: str = await self._call("version", principal, collection)
        return version

    async def still_stands(self, principal: Principal, collection: str, standing: Standing) -> str | None:
        version: str | None = await self._call("still_stands", principal, collection, standing)
        return version

    async def warm_up(self, tenant: str, collection: str) -> None:
        await self._call("warm_up", tenant, collection, timeout_s=START_TIMEOUT_S)

    async def candidates(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language | None,
        embedding: Vectors | None,
        version: str | None = None,
    ) -> Candidates:
        found: Candidates = await self._call("candidates", principal, collection, text, language, embedding, version)
        return found

    async def search(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language,
        embedding: Vectors | None,
        top_k: int,
    ) -> Evidence:
        evidence: Evidence = await self._call("search", principal, collection, text, language, embedding, top_k)
        return evidence


class RemoteCache(_Room):
    """Its time limit is that of a look-up, which is worth a moment's wait and no more."""

    counts: Mapping[str, int] = MappingProxyType({})

    async def start(self) -> None:
        await self._call("start", timeout_s=START_TIMEOUT_S)

    async def ping(self) -> None:
        await self._call("ping", timeout_s=PING_TIMEOUT_S)

    async def lookup_exact(self, scope: CacheScope, normalized: str) -> CacheHit | None:
        hit: CacheHit | None = await self._call("lookup_exact", scope, normalized)
        return hit

    async def lookup_semantic(self, scope: CacheScope, text: str, embedding: Vectors) -> CacheHit | None:
        hit: CacheHit | None = await self._call("lookup_semantic", scope, text, embedding)
        return hit

    async def put(
        self,
        scope: CacheScope,
        normalized: str,
        embedding: Vectors,
        answer: CachedAnswer,
        askers: frozenset[str] = frozenset(),
    ) -> bool:
        stored: bool = await self._call("put", scope, normalized, embedding, answer, askers)
        return stored

    async def confirm(self, hit: CacheHit, version: str) -> None:
        await self._call("confirm", hit, version)

    async def discard(self, hit: CacheHit, reason: str) -> None:
        await self._call("discard", hit, reason)

    async def observe(self, scope: CacheScope, hit: CacheHit, is_same: bool) -> None:
        await self._call("observe", scope, hit, is_same)

    async def block(self, scope: CacheScope, question: str) -> bool:
        evicted: bool = await self._call("block", scope, question)
        return evicted

    async def lease(self, scope: CacheScope, normalized: str, asker: str) -> str | None:
        token: str | None = await self._call("lease", scope, normalized, asker)
        return token

    async def release(self, scope: CacheScope, normalized: str, token: str) -> None:
        await self._call("release", scope, normalized, token)

    async def evict(self, scope: CacheScope, answer_id: str) -> bool:
        evicted: bool = await self._call("evict", scope, answer_id)
        return evicted


class RemoteTurnLog(_Room):
    async def ping(self) -> None:
        await self._call("ping")

    async def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        await self._call("append", rows)

    async def recent(self, tenant: str, limit: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._call("recent", tenant, limit)
        return rows

    async def count(self, tenant: str) -> int:
        count: int = await self._call("count", tenant)
        return count

    async def find(self, tenant: str, key_id: str, turn_id: str) -> dict[str, Any] | None:
        row: dict[str, Any] | None = await self._call("find", tenant, key_id, turn_id)
        return row

    async def conversations(self, tenant: str, key_id: str, limit: int) -> list[tuple[str, datetime]]:
        found: list[tuple[str, datetime]] = await self._call("conversations", tenant, key_id, limit)
        return found

    async def rate(self, row: Mapping[str, Any]) -> None:
        await self._call("rate", row)

    async def rated(self, tenant: str, rating: Rating, limit: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._call("rated", tenant, rating, limit)
        return rows


class RemoteLLM:
    """A tier's replicas, streamed. Time limits are `deployments.llm.Tier`'s, but for one: until a replica has taken it.

    accept_timeout_s: after that `RoomUnavailableError`; no replica is alive, or all are full. holder: the name of the
    actor in which this is; the engine ends what it generates for it when that is gone (`deployments/lease.py`).
    """

    def __init__(self, handle: DeploymentHandle, accept_timeout_s: float, holder: str = "") -> None:
        self._handle = handle.options(stream=True)
        self._accept_timeout_s = accept_timeout_s
        self._holder = holder
        self._renewals = Renewals(self._renew)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Generated, None]:
        generation = new_generation(request.request_id)
        if self._holder:
            self._renewals.add(generation)
        response = self._handle.generate.remote(_body(request), self._holder, generation)
        has_ended = False
        try:
            batches = _mapped(response)
            batch: list[dict[str, Any]] | None = await self._accepted(batches)
            while batch is not None:
                for item in map(_item, batch):
                    has_ended = has_ended or isinstance(item, GenerationEnd)
                    yield item
                batch = await anext(batches, None)
            if not has_ended:
                raise EngineDiedError()
        finally:
            self._renewals.remove(generation)
            if not has_ended:
                response.cancel()  # the customer left, or time is up: the engine must stop as well

    async def _renew(self, generations: list[str]) -> None:
        told = self._handle.broadcast("renew", self._holder, generations)
        await told.results_async(timeout_s=RENEW_TIMEOUT_S, return_exceptions=True)

    async def _accepted(self, batches: AsyncIterator[list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """The first batch."""
        try:
            async with asyncio.timeout(self._accept_timeout_s):
                return await anext(batches)
        except TimeoutError as error:
            raise RoomUnavailableError(f"no replica has taken it within {self._accept_timeout_s:g} s") from error


class RemoteScript(_Room):
    """What a scripted engine tells of itself, for tests."""

    async def running(self) -> tuple[int, int]:
        """(process id, generations at work) of one of its replicas."""
        pid, count = await self._call("running")
        return pid, count


async def _mapped(response: AsyncIterator[list[dict[str, Any]]]) -> AsyncGenerator[list[dict[str, Any]], None]:
    try:
        async for items in response:
            yield items
    except BackPressureError as error:
        raise OverloadedError() from error
    except Exception as error:  # an actor that died, a broken channel, a fault of the engine
        if isinstance(_cause(error), EngineRefusedError):
            raise EngineRefusedError() from error
        raise EngineDiedError(f"the generation broke off: {type(error).__name__}") from error


def _item(wire: dict[str, Any]) -> Generated:
    """As `deployments.engine.TierServer.generate` sends it."""
    if "text" in wire:
        return TextDelta(**wire)
    return ToolCallDelta(**wire) if "arguments" in wire else GenerationEnd(**wire)


def _body(request: GenerationRequest) -> EngineRequest:
    messages = wire_messages(request.messages)
    body = EngineRequest(messages=messages, max_tokens=request.max_output_tokens, temperature=request.temperature)
    body |= request.tools
    if request.seed is not None:
        body["seed"] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.tenant:  # nobody can tell from its first token whether another tenant has asked the same
        body["cache_salt"] = hashlib.sha256(f"raydesk|{request.tenant}".encode()).hexdigest()
    if request.continuation:
        messages.append({"role": "assistant", "content": request.continuation})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def _ours(error: Exception) -> RaydeskError:
    """A room's own error as it was raised; anything else means that the room is away."""
    cause = _cause(error)
    if isinstance(cause, RaydeskError):
        return type(cause)(cause.message)
    return RoomUnavailableError(f"the room failed: {type(cause).__name__}")


def _cause(error: Exception) -> Exception:
    """What a replica raised. It comes as it is, or as the cause of a `RayTaskError`, whose text is a traceback: that
    depends on how the handle speaks to the replica."""
    cause: Exception = getattr(error, "cause", error)
    return cause
