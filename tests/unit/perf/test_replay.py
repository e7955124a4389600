import json
from pathlib import Path

import numpy as np
import pytest

from perf.quality.replay import (
    BadLogError,
    Line,
    Outcome,
    Prices,
    best_threshold,
    by_threshold,
    nearest_before,
    read_log,
)
from perf.quality.replay_log import company_questions, generate

pytestmark = pytest.mark.unit


def test_log_is_the_same_for_the_same_seed_and_asks_some_far_more_often() -> None:
    questions = company_questions()
    rows = list(generate(questions, 500, seed=3))
    assert rows == list(generate(questions, 500, seed=3))
    assert rows != list(generate(questions, 500, seed=4))
    assert [row.at_s for row in rows] == sorted(row.at_s for row in rows)
    counts = sorted((sum(row.truth == truth for row in rows) for truth in {row.truth for row in rows}), reverse=True)
    assert counts[0] > 20 * counts[len(counts) // 2]
    assert {row.kind for row in rows} == {"repeat", "courtesy", "wording", "typo", "near"}


def test_what_differs_in_one_word_has_a_truth_of_its_own() -> None:
    questions = company_questions()
    near = [row for row in generate(questions, 500, seed=3) if row.kind == "near"]
    assert near
    assert all(row.truth == row.question and row.truth not in questions for row in near)


def test_log_is_read_by_time_and_a_bad_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"at_s": 9, "question": "b", "truth": "1"}\n\n{"at_s": 3, "question": "a", "truth": "1"}\n')
    assert [line.question for line in read_log(file)] == ["a", "b"]
    file.write_text('{"question": "b", "truth": "1"}\n' + json.dumps({"question": "b"}))
    with pytest.raises(BadLogError, match=r"log\.jsonl:2"):
        read_log(file)


def test_threshold_is_the_lowest_that_the_stream_allows() -> None:
    lines = [Line(0, "a", "1", ""), Line(1, "b", "1", ""), Line(2, "c", "2", "")]
    vectors = {"a": np.array([1.0, 0.0]), "b": np.array([0.8, 0.6]), "c": np.array([0.6, 0.8])}
    nearest = nearest_before(lines, vectors)
    assert [(round(similarity, 2), right) for similarity, right in nearest] == [(-1, False), (0.8, True), (0.96, False)]
    assert best_threshold(nearest, 0.5) == pytest.approx(0.8)
    assert best_threshold(nearest, 0.0) == float("inf")
    assert by_threshold(nearest, 0.7) == Outcome(2, 1)


def test_cost_is_of_prompt_and_answer() -> None:
    assert Prices(1.0, 2.0, 1000, 500).cost(3) == pytest.approx(0.006)
