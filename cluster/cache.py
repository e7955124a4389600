"""Looks into the cache of the running application, and evicts from it: in its store, whose changes replicas follow."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.instance import Instance
from deployments.answering.cache_policy import closeness, differs_in, same_question
from deployments.answering.error_budget import Tally, is_within, wrong_rate
from deployments.answering.errors import RoomUnavailableError
from deployments.answering.meaning import read
from deployments.answering.near_exact import BITS, MOST_DISTANCE, distance, simhash
from deployments.answering.query import normalize
from deployments.cache_store import CacheStore, Entry, topic_of
from deployments.encoder import encoder_config
from deployments.settings import AppSettings, CacheSettings, load_settings
from models.protocols import Vectors

_NEIGHBOURS = 5  # stored questions that are explained
_BEST = 10  # answers that the report names


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A stored question beside the one that is asked."""

    entry: Entry
    similarity: float  # cosine
    bits: int  # of the SimHash, that differ
    verdict: str
    wrong_rate: float  # estimated, 0-1
    is_hit: bool


def explain(state: Path, question: str, tenant: str, collection: str) -> int:
    return _run(state, lambda store, settings: _explain(store, settings, question, tenant, collection))


def evict(state: Path, tenant: str, answer_id: str | None, question: str | None, everything: bool, block: bool) -> int:
    if sum((answer_id is not None, question is not None, everything)) != 1:
        print("Say what to evict: --id, --question or --all, one of them.", file=sys.stderr)
        return 2
    return _run(state, lambda store, settings: _evict(store, settings, tenant, answer_id, question, block))


def report(state: Path) -> int:
    return _run(state, _report)


def _run(state: Path, work: Any) -> int:
    instance = Instance(state)
    running = instance.read()
    if running is None:
        print("Raydesk is not running in this folder, and the cache runs with it: 'make serve' starts both.")
        return 1
    settings = load_settings(Path(running.settings_file))
    if not settings.cache.enabled:
        print(f"The cache is switched off in {running.settings_file} (cache.enabled).")
        return 1
    return asyncio.run(_with_store(store_url(instance, settings), settings, work))


def store_url(instance: Instance, settings: AppSettings) -> str:
    """Of the running application's store: the bundled one listens on a socket of the instance's."""
    is_bundled = settings.cache.url == CacheSettings().url
    return f"unix://{instance.tmp / 'valkey.sock'}" if is_bundled else settings.cache.url


async def _with_store(url: str, settings: AppSettings, work: Any) -> int:
    store = CacheStore(url)
    try:
        done: Coroutine[Any, Any, int] = work(store, settings)
        return await done
    except RoomUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        await store.close()


# --- explain ---


async def _explain(store: CacheStore, settings: AppSettings, question: str, tenant: str, collection: str) -> int:
    entries = [
        entry async for entry in store.entries() if (entry.scope.tenant, entry.scope.collection) == (tenant, collection)
    ]
    if not entries:
        print(f"No answer of tenant '{tenant}', collection '{collection}' is stored.")
        return 0
    embedding = await asyncio.to_thread(lambda: encoder_config(settings.encoder).load().embed_queries([question])[0])
    topics = await store.topics()
    for found in neighbours(question, embedding, entries, settings.cache, topics)[:_NEIGHBOURS]:
        entry, answer = found.entry, found.entry.answer
        blocked = ", blocked" if await store.is_blocked(entry.key) else ""
        print(f"{'HIT ' if found.is_hit else 'miss'}  {answer.question}")
        print(f"      {found.verdict}; similarity {found.similarity:.3f}, {found.bits} of {BITS} bits differ")
        accepted = settings.cache.max_wrong_hit_rate
        print(f"      wrong hits expected {found.wrong_rate:.2%}, accepted {accepted:.2%}{blocked}")
        scope = f"{','.join(sorted(entry.scope.audiences))} {entry.scope.language}"
        print(f"      {answer.path} answer {answer.id}, {entry.hits} hits, {scope}; stands under {_versions(entry)}")
    return 0


def _versions(entry: Entry) -> str:
    return ", ".join(sorted(entry.versions))


def neighbours(
    question: str, embedding: Vectors, entries: list[Entry], limits: CacheSettings, topics: dict[str, Tally]
) -> list[Neighbour]:
    """Nearest first, and what verifier and budget say of each: as the room decides, but for scope and version."""
    found = []
    for entry in entries:
        similarity = float(np.dot(entry.embedding, embedding))
        bits = distance(simhash(normalize(question)), simhash(normalize(entry.answer.question)))
        by_vector = (
            closeness(similarity, limits.similarity_threshold) if similarity >= limits.similarity_threshold else None
        )
        by_letters = 1 - bits / BITS if bits <= MOST_DISTANCE else None
        ways = [way for way in (by_vector, by_letters) if way is not None]
        topic = topics.get(topic_of(entry.scope, entry.answer), Tally())
        close = max(ways, default=0.0)
        is_exact = normalize(question) == normalize(entry.answer.question)
        is_same = any(same_question(question, entry.answer.question, way) for way in ways)
        within = is_within(limits.max_wrong_hit_rate, close, entry.observations, topic)
        difference = differs_in(read(question), read(entry.answer.question))
        verdict = f"another question: {difference}" if difference else "the same question, as far as words tell"
        rate = wrong_rate(close, entry.observations, topic)
        found.append(Neighbour(entry, similarity, bits, verdict, rate, is_exact or (is_same and within)))
    return sorted(found, key=lambda each: (not each.is_hit, -each.similarity))


# --- evict ---


async def _evict(
    store: CacheStore, settings: AppSettings, tenant: str, answer_id: str | None, question: str | None, block: bool
) -> int:
    gone = []
    wanted = None if question is None else normalize(question)
    async for entry in store.entries():
        is_named = answer_id in (None, entry.answer.id) and wanted in (None, normalize(entry.answer.question))
        if entry.scope.tenant == tenant and is_named:
            gone.append(entry)
    if not gone:
        print(f"Nothing of tenant '{tenant}' is stored under that. 'raydesk cache report' names what is.")
        return 1
    keys = [entry.key for entry in gone]
    if block:
        await store.block(keys, settings.cache.block_ttl_s)
    await store.delete(keys)
    await store.add_counts({"evicted:by hand": len(gone)})
    for entry in gone[:_BEST]:
        print(f"evicted{' and blocked' if block else ''}: {entry.answer.question}")
    if len(gone) > _BEST:
        print(f"… and {len(gone) - _BEST} more")
    return 0


# --- report ---


async def _report(store: CacheStore, settings: AppSettings) -> int:
    entries = [entry async for entry in store.entries()]
    counts = await store.counts()
    for line in report_lines(entries, counts, settings.cache):
        print(line)
    return 0


def report_lines(entries: list[Entry], counts: dict[str, int], limits: CacheSettings) -> list[str]:
    tokens = counts.pop("tokens saved", 0)
    kinds: dict[str, dict[str, int]] = defaultdict(dict)
    for name, count in counts.items():
        kind, _, detail = name.partition(":")
        kinds[kind][detail] = count
    hits, misses = sum(kinds["hit"].values()), sum(kinds["miss"].values())
    share = f"{hits / (hits + misses):.1%}" if hits + misses else "-"
    money = tokens / 1_000_000 * limits.price_per_million_tokens
    size = sum(entry.size for entry in entries)
    lines = [
        f"stored     {len(entries)} answers of at most {limits.max_entries}, "
        f"{size / 1e6:.1f} of {limits.max_bytes / 1e6:.0f} MB",
        f"look-ups   {hits + misses}, of these hits {share}; saved {tokens} tokens, {money:.2f} in money",
    ]
    for kind in ("hit", "refused", "judged", "not admitted", "evicted"):
        of_kind = sorted(kinds[kind].items(), key=lambda item: -item[1])
        if of_kind:
            lines.append(f"{kind:<13}" + ", ".join(f"{detail} {count}" for detail, count in of_kind))
    best = sorted(entries, key=lambda entry: -entry.hits)[:_BEST]
    lines += [f"{entry.hits:7} hits  {entry.answer.id}  {entry.answer.question}" for entry in best if entry.hits]
    return lines
