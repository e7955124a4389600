"""The rules against worked examples, input that cannot be used, and the table's last line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from perf.quality.cache import (
    GPTCACHE_SIMILARITY,
    BadInputError,
    Outcome,
    Pair,
    best_threshold,
    by_threshold,
    outcome,
    product,
    read_pairs,
    report,
)

pytestmark = pytest.mark.unit

_SAME = Pair("How do I cancel my order?", "How can I cancel my order?", True, "synonym")
_SAME_TOO = Pair("怎么退票", "如何退票", True, "synonym")
_DAYS = Pair("Can I return it within 3 days?", "Can I return it within 30 days?", False, "digits")
_OFF = Pair("怎么开启通知", "怎么关闭通知", False, "opposite")
PAIRS = [_SAME, _SAME_TOO, _DAYS, _OFF]


def test_rates_and_kinds() -> None:
    # one of two true hits, one of two wrong ones; a kind without wrong hits is named, too
    assert outcome(PAIRS, [True, False, False, True]) == Outcome(0.5, 0.5, {"digits": 0, "opposite": 1})
    assert outcome([_SAME], [True]) == Outcome(1.0, None, {})


@pytest.mark.parametrize(
    ("similarities", "most_wrong", "expected"),
    [
        # wrong ones at 0.8 and 0.6: none may be hit, so the lowest similarity above 0.8
        ([0.9, 0.7, 0.8, 0.6], 0.0, 0.9),
        ([0.9, 0.7, 0.8, 0.6], 0.49, 0.9),
        # one of two may be hit: the lowest above 0.6
        ([0.9, 0.7, 0.8, 0.6], 0.5, 0.7),
        ([0.9, 0.7, 0.8, 0.6], 1.0, 0.6),
        # a wrong one on top, and one as high as a true one: no threshold helps
        ([0.9, 0.7, 0.95, 0.6], 0.0, np.inf),
        ([0.9, 0.7, 0.9, 0.6], 0.0, np.inf),
    ],
)
def test_oracle_spends_what_it_may(similarities: list[float], most_wrong: float, expected: float) -> None:
    assert best_threshold(PAIRS, similarities, most_wrong) == expected


def test_a_candidate_has_to_be_near_and_to_be_verified() -> None:
    assert product(PAIRS, [0.97, 0.97, 0.99, 0.99], 0.9).true_hit_rate == 1.0
    assert product(PAIRS, [0.97, 0.89, 0.99, 0.99], 0.9) == Outcome(0.5, 0.0, {"digits": 0, "opposite": 0})


def test_gptcache_hits_from_four_fifths_of_the_distance_of_four() -> None:
    # 4 - d² >= 0.8 * 4 at d² = 2 - 2 cos: cos >= 0.6
    assert pytest.approx(0.6) == GPTCACHE_SIMILARITY
    assert by_threshold(PAIRS, [0.61, 0.59, 0.61, 0.59], GPTCACHE_SIMILARITY) == Outcome(
        0.5, 0.5, {"digits": 1, "opposite": 0}
    )


def test_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    last = report(PAIRS, [0.97, 0.96, 0.99, 0.91], 0.9)
    # no wrong hit of ours; the oracle may spend 1 %, which of two is none: above 0.99 there is nothing
    assert json.loads(json.dumps(last)) == {
        "pairs": 4,
        "true_hit_rate": 1.0,
        "wrong_hit_rate": 0.0,
        "wrong_hits_by_kind": {"digits": 0, "opposite": 0},
        "oracle_true_hit_rate": 0.0,
        "oracle_wrong_hit_rate": 0.0,
        "gptcache_true_hit_rate": 1.0,
        "gptcache_wrong_hit_rate": 1.0,
    }
    assert "GPTCache" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pairs"),
        ("{", ":1: is not JSON"),
        ('{"a": "x", "b": "y", "same": 1, "kind": "k"}', ":1: is not"),
        ('\n{"a": " ", "b": "y", "same": true}', ":2: is not"),
    ],
)
def test_unusable_pairs_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match=message):
        read_pairs(path)


def test_pairs_of_a_split(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"a": "x", "b": "y", "same": True, "kind": "k", "split": split} for split in ("dev", "held_out", "dev")]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert len(read_pairs(path)) == 3
    assert read_pairs(path, "held_out") == [Pair("x", "y", True, "k", "held_out")]


def test_our_own_pairs_are_many_and_half_of_them_hard() -> None:
    pairs = read_pairs(Path(__file__).parents[3] / "perf" / "data" / "cache_pairs.jsonl")
    assert len(pairs) >= 440
    assert len({(pair.a, pair.b) for pair in pairs}) == len(pairs)
    for split in ("dev", "held_out"):
        same = [pair.same for pair in pairs if pair.split == split]
        assert 0.45 <= sum(same) / len(same) <= 0.55
