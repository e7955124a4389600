"""The suites of the fakes over the remote ends, and what a remote end adds: deadlines, and errors that cross.

test_rooms_apart.py runs it in a process that joins the desk's Ray. The rooms are those of `build_app`, each a
deployment of its own.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from ray.serve.handle import DeploymentHandle

from cluster.processes import ProcessId
from deployments.answering.errors import (
    DeadlineExceededError,
    DependencyError,
    OverloadedError,
    RoomUnavailableError,
)
from deployments.answering.types import CacheScope
from deployments.app import turn_log_of
from deployments.encoder import encoder_config
from deployments.remote import RemoteCache, RemoteIntentClassifier, RemoteRetriever, RemoteTurnLog
from deployments.settings import AppSettings, load_settings
from tests.conformance.cache_suite import QUESTION, CacheSuite, answer, scope, vector
from tests.conformance.classifier_suite import ClassifierSuite
from tests.conformance.retriever_suite import RetrieverSuite, publish, search
from tests.conformance.turn_log_suite import TurnLogSuite, row, tenant
from tests.e2e.conftest import ROOT, Desk

__all__ = ["scope", "tenant"]  # fixtures
pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("joined_ray")]

T = TypeVar("T")
APP = "raydesk"
PATIENCE_S = 60.0  # the machine may be busy
HASTE_S = 1.0


@pytest.fixture(scope="session")
def settings() -> AppSettings:
    """The desk's own: the environment is that of its launcher."""
    return load_settings(ROOT / "cluster" / "local.yaml")


@pytest.fixture(scope="session")
def knowledge(settings: AppSettings) -> None:
    """Vectors of the fake embedder under the name of the encoder: a retriever looks at the name, and embeds nothing."""
    publish(Path(settings.knowledge.root), encoder_config(settings.encoder).identity())


@pytest.fixture
def classifier() -> RemoteIntentClassifier:
    return RemoteIntentClassifier(DeploymentHandle("intent_classifier", APP), PATIENCE_S)


@pytest.fixture
def retriever(knowledge: None) -> RemoteRetriever:
    return RemoteRetriever(DeploymentHandle("retriever", APP), PATIENCE_S)


@pytest.fixture
def cache() -> RemoteCache:
    return RemoteCache(DeploymentHandle("semantic_cache", APP), PATIENCE_S)


@pytest.fixture
def turn_log() -> RemoteTurnLog:
    return turn_log_of(APP, PATIENCE_S)


class TestRemoteIntentClassifier(ClassifierSuite):
    pass


class TestRemoteRetriever(RetrieverSuite):
    pass


class TestRemoteCache(CacheSuite):
    pass


class TestRemoteTurnLog(TurnLogSuite):
    pass


async def test_a_vector_goes_from_room_to_room(
    classifier: RemoteIntentClassifier, cache: RemoteCache, scope: CacheScope
) -> None:
    embedding = (await classifier.understand(QUESTION)).embedding
    await cache.put(scope, "q", embedding, answer())
    hit = await cache.lookup_semantic(scope, QUESTION, embedding)
    assert hit is not None
    assert hit.similarity == pytest.approx(1.0, abs=1e-6)


# --- what goes wrong only at a distance ---


def replica(room: str) -> ProcessId:
    (process,) = Desk("", Path(os.environ["RAYDESK_STATE"]), {}).processes(f"ServeReplica:{APP}:{room}")
    return process


@contextmanager
def hanging(room: str) -> Iterator[None]:
    process = replica(room)
    process.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.signal(signal.SIGCONT)


async def once_it_is_back(call: Callable[[], Awaitable[T]]) -> T:
    """A call that fails meanwhile may say nothing but that the room is away."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await call()
            except DependencyError:
                await asyncio.sleep(0.1)


async def test_a_fault_of_the_room_is_a_room_that_is_away_without_a_traceback(turn_log: RemoteTurnLog) -> None:
    with pytest.raises(RoomUnavailableError) as caught:
        await turn_log.append([{"turn_id": "without all else"}])
    assert caught.value.message == "the room failed: KeyError"


async def test_a_room_without_a_replica_is_waited_for_no_longer_than_the_deadline() -> None:
    nobody = RemoteRetriever(DeploymentHandle("nobody", APP), HASTE_S)
    for _ in range(2):
        with pytest.raises(DeadlineExceededError):
            await nobody.ping()


async def test_a_room_that_hangs_is_waited_for_no_longer_than_the_deadline(retriever: RemoteRetriever) -> None:
    before = await search(retriever, "citric acid")
    hasty = RemoteRetriever(DeploymentHandle("retriever", APP), HASTE_S)
    await once_it_is_back(hasty.ping)
    with hanging("retriever"), pytest.raises(DeadlineExceededError):
        await search(hasty, "citric acid")
    assert (await search(retriever, "citric acid")).chunks == before.chunks


async def test_more_calls_than_may_wait_are_refused_and_the_others_answered(
    settings: AppSettings, retriever: RemoteRetriever
) -> None:
    await once_it_is_back(retriever.ping)
    too_many = settings.retriever.replicas.max_queued_requests + 10
    with hanging("retriever"):
        calls = [asyncio.create_task(retriever.ping()) for _ in range(too_many)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)  # whatever ends now was refused
    came = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in came} == {type(None), OverloadedError}


async def test_who_waits_on_a_room_that_is_killed_hears_of_it_and_what_it_confirmed_is_kept(
    turn_log: RemoteTurnLog, tenant: str
) -> None:
    batches = [[row(f"{batch}-{number}", tenant) for number in range(250)] for batch in range(40)]
    process = replica("turn_log")
    calls = [asyncio.create_task(turn_log.append(batch)) for batch in batches]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)  # it is at work, and writes one after the other
    process.signal(signal.SIGKILL)
    came = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in came} == {type(None), RoomUnavailableError}

    confirmed = 250 * sum(one is None for one in came)
    assert await once_it_is_back(lambda: turn_log.count(tenant)) >= confirmed
    await turn_log.append([one for batch in batches for one in batch])  # as whoever was refused does
    assert await turn_log.count(tenant) == 250 * 40


async def test_a_cache_that_is_killed_is_replaced_and_knows_what_was_stored(
    cache: RemoteCache, scope: CacheScope
) -> None:
    await cache.put(scope, "q", vector(), answer())
    replica("semantic_cache").signal(signal.SIGKILL)
    hit = await once_it_is_back(lambda: cache.lookup_semantic(scope, QUESTION, vector()))
    assert hit is not None
    assert hit.answer == answer()
    assert await cache.lookup_exact(scope, "q") is not None


async def test_a_retriever_that_is_killed_is_replaced_and_finds_the_same(retriever: RemoteRetriever) -> None:
    before = await search(retriever, "citric acid")
    replica("retriever").signal(signal.SIGKILL)
    assert (await once_it_is_back(lambda: search(retriever, "citric acid"))).chunks == before.chunks
