"""Outcomes of routing, read from a log and fitted; seeded, so that what comes out is certain."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from cluster.routing import fit_and_write, print_model
from deployments.answering.routing import load_routing
from deployments.routing_fit import fit
from deployments.routing_outcomes import Outcome, OutcomesError, cheapest, read_outcomes, tally

pytestmark = pytest.mark.unit
EASY = ("What does item {} cost?", "{}号商品多少钱？")
HARD = (
    "Why is item {} better than the old one, and what do 2 cost if I pay later?",
    "{}号和旧款有什么区别？如果买两个，一共多少钱？",
)


def rows(count: int = 120, seed: int = 3) -> list[dict[str, object]]:
    """The small model answers nine of ten easy questions and one of ten hard ones; the large one all."""
    rng = random.Random(seed)
    made: list[dict[str, object]] = []
    for number in range(count):
        is_hard = rng.random() < 0.5
        good = rng.random() < (0.1 if is_hard else 0.9)
        question = rng.choice(HARD if is_hard else EASY).format(number)
        costs = {"small_cost": 1, "large_cost": 20}
        made.append({"question": question, "small_quality": float(good), "large_quality": 1, **costs})
    return made


def written(tmp_path: Path, lines: list[dict[str, object]]) -> Path:
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return file


def test_what_the_question_tells_is_known_without_logged_features(tmp_path: Path) -> None:
    lines = [rows(1)[0] | {"question": HARD[1].format(1)}, rows(1)[0] | {"features": {"covered": 0.4, "parts": 3}}]
    first, second = read_outcomes(written(tmp_path, lines))
    assert (first.features.compares, first.features.chinese, first.features.covered) == (1.0, 1.0, None)
    assert (second.features.covered, second.features.parts) == (0.4, 3.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"question": None}, "has no question"),
        ({"small_quality": 2}, "small_quality has to be a number from 0 to 1"),
        ({"large_cost": -1}, "large_cost has to be a number from 0"),
        ({"large_quality": True}, "large_quality"),
        ({"features": {"mood": 1}}, "there is no feature mood"),
    ],
)
def test_log_that_is_wrong_is_refused_by_its_line(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(OutcomesError, match=rf"log\.jsonl:2: .*{said}"):
        read_outcomes(written(tmp_path, [rows(1)[0], rows(1)[0] | change]))


def test_empty_and_missing_logs_are_named(tmp_path: Path) -> None:
    with pytest.raises(OutcomesError, match="nothing in it"):
        read_outcomes(written(tmp_path, []))
    with pytest.raises(OutcomesError, match="cannot read"):
        read_outcomes(tmp_path / "none.jsonl")


def outcomes(*good: int) -> list[Outcome]:
    from deployments.answering.routing import Features

    return [Outcome("q", Features(), float(each), 1.0, 1.0, 10.0) for each in good]


def test_cheapest_threshold_that_keeps_the_quality() -> None:
    found = outcomes(1, 1, 0, 1)
    scores = [0.9, 0.8, 0.6, 0.3]
    assert cheapest(found, scores, 1.0) == 0.8
    assert cheapest(found, scores, 0.75) == 0.3  # one wrong of four, and everything for the small model
    assert cheapest(outcomes(0, 1), [0.9, 0.2], 1.0) > 0.9  # nothing can be spared
    assert cheapest(found, [0.5] * 4, 1.0) > 0.5  # equal scores go one way
    chosen = tally(found, [score >= 0.8 for score in scores])
    assert (chosen.quality, chosen.cost, chosen.small_share) == (1.0, 5.5, 0.5)


def test_fit_finds_what_is_hard_and_saves_without_losing(tmp_path: Path) -> None:
    found = read_outcomes(written(tmp_path, rows(200)))
    fitted = fit(found, 0.9)
    report = fitted.report
    assert report.auc > 0.8
    assert report.routed.quality >= 0.9 * report.always_large.quality
    assert report.routed.cost < 0.7 * report.always_large.cost
    assert sum(each.n for each in report.calibration) == 200
    weights = {name: term.weight for name, term in fitted.model.terms.items()}
    assert weights["reckons"] < 0
    assert fit(found, 0.9) == fitted


def test_too_few_outcomes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutcomesError, match="at least 30 are needed"):
        fit(read_outcomes(written(tmp_path, rows(20))), 0.95)
    alike = [row | {"small_quality": 1.0} for row in rows(60)]
    with pytest.raises(OutcomesError, match="8 of either kind"):
        fit(read_outcomes(written(tmp_path, alike)), 0.95)


def test_command_writes_a_model_that_is_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log, out = written(tmp_path, rows()), tmp_path / "made" / "routing.json"
    assert fit_and_write(log, out, 0.9, 0) == 0
    said = capsys.readouterr().out
    assert "held out: AUC" in said
    assert "always large" in said
    model = load_routing(out)
    assert model.about["log"] == "log.jsonl"
    assert model.about["held_out"]["outcomes"] == 120
    assert print_model(out, tmp_path / "none.yaml") == 0
    assert model.fingerprint in capsys.readouterr().out
    assert fit_and_write(tmp_path / "none.jsonl", out, 0.9, 0) == 1
    assert "cannot read" in capsys.readouterr().err
