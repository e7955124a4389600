from __future__ import annotations

import numpy as np
import pytest

from models.intent_report import auroc, calibration_error, choose_threshold, interval, report
from models.protocols import OUT_OF_SCOPE, IntentPrediction

pytestmark = pytest.mark.unit


def said(label: str, confidence: float) -> IntentPrediction:
    return IntentPrediction(label, confidence, margin=confidence, runner_up="z")


def test_a_report_of_five_questions() -> None:
    result = report(
        ["q1", "q2", "q3", "q4", "q5"],
        ["a", "a", "b", "b", OUT_OF_SCOPE],
        [said("a", 0.95), said("b", 0.6), said("b", 0.9), said("b", 0.92), said("a", 0.91)],
        thresholds=[0.9],
    )
    assert result.accuracy == 0.75
    assert [(s.label, round(s.f1, 3)) for s in result.by_intent] == [("a", 0.5), ("b", 0.8)]
    assert result.macro_f1 == pytest.approx(0.65)
    (at,) = result.at
    assert (at.coverage, at.precision, at.answered) == (0.75, 0.75, 4)  # the out-of-scope one is answered, and wrong
    assert [(c.truth, c.predicted, c.texts) for c in result.confusions] == [
        ("a", "b", ("q2",)),
        (OUT_OF_SCOPE, "a", ("q5",)),
    ]
    assert (result.oos_examples, result.oos_recall) == (1, 0.0)
    assert result.oos_auroc == 0.5  # of 0.95, 0.6, 0.9 and 0.92 two are above 0.91


def test_nothing_out_of_scope_has_no_such_numbers() -> None:
    result = report(["q"], ["a"], [said("a", 0.9)])
    assert (result.oos_recall, result.oos_auroc) == (None, None)


def test_calibration_error_is_the_distance_from_confidence_to_accuracy() -> None:
    confidence = np.full(10, 0.9)
    assert calibration_error(confidence, np.arange(10) < 9) == pytest.approx(0.0)
    assert calibration_error(confidence, np.arange(10) < 5) == pytest.approx(0.4)


def test_the_threshold_is_the_lowest_that_reaches_the_target() -> None:
    confidence = np.array([0.99, 0.9, 0.8, 0.7, 0.6])
    assert choose_threshold(confidence, np.array([1, 1, 0, 1, 1]), 0.8) == 0.6
    assert choose_threshold(confidence, np.array([1, 1, 0, 1, 0]), 0.75) == 0.7
    assert choose_threshold(confidence, np.array([0, 1, 1, 1, 1]), 0.99) is None
    assert choose_threshold(np.array([0.9, 0.9]), np.array([1, 0]), 0.99) is None  # equals stand or fall together


def test_the_interval_is_wilsons() -> None:
    low, high = interval(95, 100)
    assert (round(low, 4), round(high, 4)) == (0.8882, 0.9785)
    assert interval(0, 0) == (0.0, 1.0)


def test_a_tie_counts_half() -> None:
    assert auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1])) == pytest.approx(0.875)
