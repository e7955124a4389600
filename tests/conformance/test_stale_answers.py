"""What a plan says of the cached answers that it would make stale: from a real store, with a fake encoder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from cluster.stale_answers import MOST_EMBEDDED, StaleAnswers
from deployments.answering.types import CacheScope, EvidenceBound, EvidenceRef
from deployments.cache_store import CacheStore, Entry, entry_key
from ingestion.chunk import Chunk
from ingestion.difference import Difference
from ingestion.report import Plan
from models.fakes import HashEncoder
from tests.conformance.cache_suite import answer

pytestmark = pytest.mark.integration
NOTHING = Difference((), frozenset(), 3, 0, 0, 0, 0)
ENCODER = HashEncoder()
Count = Callable[[Plan], Awaitable[str]]


def planned(collection: str, gone: frozenset[tuple[str, str]] = frozenset(), came: tuple[Chunk, ...] = ()) -> Plan:
    return Plan("demo", collection, "v000001", 1, 1, 0, NOTHING, len(came), None, gone=gone, came=came)


def chunk(text: str) -> Chunk:
    return Chunk("new", "d9", 0, "passage", text, "", "en", "public", "new.md")


@pytest.fixture
async def collection(valkey_url: str) -> str:
    """One with two stored answers: one on chunk c1, one on c2, which other passages on opening hours disturb."""
    name = f"help-{uuid4().hex[:8]}"
    store = CacheStore(valkey_url)
    for number, question in enumerate(("How long does a refund take?", "When do you open on Sunday?"), start=1):
        scope = CacheScope("demo", frozenset({"public"}), name, "en", "p")
        bound = EvidenceBound((EvidenceRef(f"c{number}", "h"),), 0.6, 0.9, 0.75)
        made = replace(answer(f"a{number}", question, chunk=f"c{number}"), evidence=bound)
        embedding = ENCODER.load().embed_queries([question])[0]
        entry = Entry(entry_key(scope, question), scope, made, embedding, frozenset({"v000001-x"}), hits=0, size=100)
        await store.write(entry, question.lower(), 600)
    await store.close()
    return name


@pytest.fixture
def count(valkey_url: str, tmp_path: Path) -> Count:
    """In a folder where no application runs."""
    return lambda plan: asyncio.to_thread(StaleAnswers(tmp_path).count, plan, ENCODER, valkey_url)


async def test_nothing_that_changes_takes_nothing(collection: str, count: Count) -> None:
    assert await count(planned(collection)) == "0 of 2"


async def test_an_answer_goes_with_what_it_rests_on(collection: str, count: Count) -> None:
    assert await count(planned(collection, gone=frozenset({("c1", "h")}))) == "1 of 2"
    assert await count(planned(collection, gone=frozenset({("c1", "moved, not changed")}))) == "0 of 2"


async def test_an_answer_goes_when_something_nearer_is_added(collection: str, count: Count) -> None:
    assert await count(planned(collection, came=(chunk("When do you open on Sunday? At ten."),))) == "1 of 2"
    assert await count(planned(collection, came=(chunk("We plant trees."),))) == "0 of 2"


async def test_of_very_many_new_chunks_some_are_compared(collection: str, count: Count) -> None:
    many = tuple(replace(chunk("We plant trees."), id=str(number)) for number in range(MOST_EMBEDDED + 1))
    assert await count(planned(collection, came=many)) == "at least 0 of 2"


async def test_all_go_where_everything_is_embedded_anew(collection: str, count: Count) -> None:
    assert await count(replace(planned(collection), rebuilds=True)) == "all 2"
    assert await count(planned(f"{collection}-other")) == "none: no answer is stored"


def test_without_a_store_it_is_not_known(tmp_path: Path) -> None:
    for store in (None, f"unix://{tmp_path}/no-socket"):
        assert StaleAnswers(tmp_path).count(planned("help"), ENCODER, store).startswith("not known")
