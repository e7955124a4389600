import json
from pathlib import Path

import numpy as np
import pytest

from deployments.routing_outcomes import read_outcomes
from perf.quality.routing import rows_of
from perf.quality.routing_log import curated_questions, fact_questions, row_of, says
from tests.unit.deployments.test_routing_fit import rows

pytestmark = pytest.mark.unit


def test_every_choice_is_between_the_oracle_and_always_large(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows(100)), "utf-8")
    outcomes = read_outcomes(log)
    vectors = np.random.default_rng(0).normal(size=(100, 8))
    found = {(row.name, row.how): row for row in rows_of(outcomes, vectors, 0.95, 0)}
    oracle, fitted = found["oracle", "swept"], found["fitted", "swept"]
    assert found["always large", ""].quality == found["always large", ""].cost == 1.0
    assert found["always small", ""].cost == pytest.approx(0.05)
    assert found["random", "swept"].quality == pytest.approx(0.95)
    assert oracle.cost <= fitted.cost < found["random", "swept"].cost
    assert all(row.quality >= 0.95 - 1e-9 for row in found.values() if row.how == "swept")


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        ("Express delivery costs 12.90 EUR.", True),
        ("The cost of express delivery is 12.90 EUR.", True),
        ("Express delivery costs 9.90 EUR.", False),
        ("12.90 EUR", False),
        ("", False),
    ],
)
def test_what_says_a_curated_answer(text: str, is_right: bool) -> None:
    assert says(text, "Express delivery costs 12.90 EUR.") is is_right


def test_large_quality_is_what_the_evidence_holds() -> None:
    asked = next(each for each in fact_questions() if each.is_right("30 m² it is"))
    completion = {"choices": [{"message": {"content": "No idea."}}], "usage": {"total_tokens": 100}}
    turn = {"evidence_ids": ["c1"], "route_features": {"covered": 0.5}}
    row = row_of(asked, completion, turn, {"c1": "Rooms up to 30 m²."})
    assert (row["small_quality"], row["large_quality"]) == (0.0, 1.0)
    assert row_of(asked, completion, turn, {"c1": "Large rooms."})["large_quality"] == 0.0
    assert row["large_cost"] > row["small_cost"] > 0


def test_curated_questions_are_asked_in_other_words_and_the_same_for_a_seed() -> None:
    first, again = [[each.question for each in curated_questions(1)] for _ in range(2)]
    assert first == again
    assert len(first) > 200
