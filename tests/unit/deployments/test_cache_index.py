"""Which stored answers go when there are too many, and what the operator is told of the rest."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.cache import neighbours, report_lines
from deployments.answering.types import CacheScope
from deployments.cache_index import CacheIndex, Indexed
from deployments.cache_store import Entry, decode, encode, entry_key
from deployments.settings import CacheSettings
from tests.conformance.cache_suite import answer, vector

pytestmark = pytest.mark.unit
SCOPE = CacheScope("demo", frozenset({"public"}), "help", "en", "p")
NOW_S = 10_000.0


def entry(name: str, question: str, hits: int = 0) -> Entry:
    made = answer(name, question)
    return Entry(entry_key(SCOPE, question), SCOPE, made, vector(), frozenset({"v1", "v2"}), hits=hits, size=1000)


def test_the_least_value_goes_first() -> None:
    index = CacheIndex(max_entries=3, max_bytes=10**9)
    for key, tokens, age_s, hits in [
        ("old", 0, 5000, 0),
        ("new", 0, 10, 0),
        ("asked", 0, 5000, 900),
        ("dear", 400, 5000, 2),
    ]:
        index.add("s", Indexed(key, key, 100, tokens, NOW_S - age_s, hits), vector())
    assert index.surplus(NOW_S) == ["old"]
    index.remove("old", "s")
    assert index.surplus(NOW_S) == []
    assert index.bytes == 300


def test_bytes_are_limited_too() -> None:
    index = CacheIndex(max_entries=100, max_bytes=1000)
    for number in range(20):
        index.add("s", Indexed(str(number), "q", 100, 0, NOW_S - 20 + number), vector())
    surplus = index.surplus(NOW_S)
    assert len(surplus) >= 10
    assert "19" not in surplus


def test_an_entry_comes_back_from_the_store_as_it_was() -> None:
    stored = entry("a1", "How long does a refund take?", hits=3)
    found = {
        name.encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in encode(stored).items()
    }
    read = decode(stored.key, found)
    assert (read.answer, read.scope, read.versions, read.hits) == (stored.answer, SCOPE, stored.versions, 3)
    np.testing.assert_array_equal(read.embedding, stored.embedding)


def test_an_explanation_says_what_the_verifier_and_the_budget_say() -> None:
    entries = [entry("a1", "How long does a refund take?"), entry("a2", "How long does a refund not take?")]
    same, other = neighbours("how long does the refund take please", vector(0.97), entries, CacheSettings(), {})
    assert same.is_hit
    assert same.entry.answer.id == "a1"
    assert same.similarity == pytest.approx(0.97, abs=1e-5)
    assert 0 < same.wrong_rate <= 0.01
    assert not other.is_hit
    assert other.verdict == "another question: negation"


def test_the_report_adds_up() -> None:
    counts = {"hit:exact": 6, "hit:semantic": 2, "miss": 2, "refused:quantity": 5, "tokens saved": 2_000_000}
    lines = report_lines([entry("a1", "q", hits=7)], counts, CacheSettings())
    assert "10, of these hits 80.0%; saved 2000000 tokens, 1.00 in money" in lines[1]
    assert any(line.startswith("refused") and "quantity 5" in line for line in lines)
    assert lines[-1].split()[:3] == ["7", "hits", "a1"]
