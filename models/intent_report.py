"""How good intent predictions are, and how honest: pure functions over labels and confidences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.protocols import OUT_OF_SCOPE, IntentPrediction

BINS = 15  # of equal width, for the calibration error
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
_Z = 1.96  # standard deviations on either side of a 95 % interval
_SHOWN = 3  # examples of a confusion


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What a rule would answer from this confidence on. Shares are 0-1."""

    threshold: float
    coverage: float  # share of the questions that an intent is meant for
    precision: float  # share of the answered questions, out-of-scope ones included, that have the right label
    low: float  # 95 % interval (Wilson) of the precision
    high: float
    answered: int


@dataclass(frozen=True, slots=True)
class IntentScore:
    label: str
    examples: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Confusion:
    truth: str
    predicted: str
    count: int
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Accuracy, F1 and calibration are over the questions that an intent is meant for."""

    examples: int
    accuracy: float
    macro_f1: float
    ece: float  # expected calibration error of the confidence in the best intent, `BINS` bins
    at: tuple[AtThreshold, ...]
    by_intent: tuple[IntentScore, ...]  # the worst first
    confusions: tuple[Confusion, ...]  # the most frequent first
    oos_examples: int
    oos_recall: float | None  # share of the out-of-scope questions that get that label; None where there are none
    oos_auroc: float | None  # that a question in scope has the higher scope score than one out of scope

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def report(
    texts: Sequence[str],
    truths: Sequence[str],
    predictions: Sequence[IntentPrediction],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Report:
    """All of the same questions in the same order; a truth may be `out_of_scope`."""
    truth, label = np.array(truths, dtype=object), np.array([each.label for each in predictions], dtype=object)
    confidence = np.array([each.confidence for each in predictions])
    meant, answer, right = truth != OUT_OF_SCOPE, label != OUT_OF_SCOPE, label == truth
    scores = [_score(each, truth, label) for each in sorted(set(truth[meant]))]
    scope = scope_scores(predictions)
    return Report(
        examples=len(truth),
        accuracy=_mean(right[meant]),
        macro_f1=_mean([each.f1 for each in scores]),
        ece=calibration_error(confidence[meant], right[meant]),
        at=tuple(at_threshold(each, confidence, answer, right, meant) for each in thresholds),
        by_intent=tuple(sorted(scores, key=lambda each: (each.f1, each.label))),
        confusions=_confusions(texts, truth, label),
        oos_examples=int((~meant).sum()),
        oos_recall=_mean(~answer[~meant]) if (~meant).any() else None,
        oos_auroc=auroc(scope[meant], scope[~meant]) if meant.any() and (~meant).any() else None,
    )


def scope_scores(predictions: Sequence[IntentPrediction]) -> NDArray[np.float64]:
    """(n,) the higher, the surer that an intent is meant."""
    return np.array([each.confidence if each.label != OUT_OF_SCOPE else -each.confidence for each in predictions])


def calibration_error(confidence: NDArray[Any], right: NDArray[Any]) -> float:
    """Mean distance between confidence and accuracy over the bins, weighted by how many fall into each."""
    if len(confidence) == 0:
        return float("nan")
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(float((confidence[bins == each] - right[bins == each]).sum())) for each in range(BINS)]
    return sum(gaps) / len(confidence)


def at_threshold(
    threshold: float, confidence: NDArray[Any], answer: NDArray[Any], right: NDArray[Any], meant: NDArray[Any]
) -> AtThreshold:
    """All (n,). answer: where an intent is predicted. meant: where one is meant."""
    sure = (confidence >= threshold) & answer
    answered, good = int(sure.sum()), int(right[sure].sum())
    low, high = interval(good, answered)
    precision = good / answered if answered else float("nan")
    return AtThreshold(threshold, _mean(sure[meant]), precision, low, high, answered)


def at_threshold_of(threshold: float, truths: Sequence[str], predictions: Sequence[IntentPrediction]) -> dict[str, Any]:
    return asdict(report([""] * len(truths), truths, predictions, [threshold]).at[0])


def choose_threshold(confidence: NDArray[Any], right: NDArray[Any], target_precision: float) -> float | None:
    """The lowest threshold from which the share of right ones is at least the target. None where none is."""
    order = np.argsort(-confidence, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last_of_equal = np.append(np.diff(confidence[order]) != 0, True)
    reached = np.flatnonzero((precision >= target_precision) & last_of_equal)
    return float(confidence[order][reached[-1]]) if len(reached) else None


def interval(good: int, n: int) -> tuple[float, float]:
    """95 % interval (Wilson) of a share."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = good / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def auroc(higher: NDArray[Any], lower: NDArray[Any]) -> float:
    """Chance that one of `higher` is above one of `lower`; a tie counts half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([higher, lower]))[: len(higher)].sum()
    return float((ranks - len(higher) * (len(higher) + 1) / 2) / (len(higher) * len(lower)))


def _score(intent: str, truth: NDArray[Any], label: NDArray[Any]) -> IntentScore:
    both, predicted, meant = (
        ((truth == intent) & (label == intent)).sum(),
        (label == intent).sum(),
        (truth == intent).sum(),
    )
    return IntentScore(
        intent,
        int(meant),
        precision=float(both / predicted) if predicted else 0.0,
        recall=float(both / meant) if meant else 0.0,
        f1=float(2 * both / (predicted + meant)) if predicted + meant else 0.0,
    )


def _confusions(texts: Sequence[str], truth: NDArray[Any], label: NDArray[Any]) -> tuple[Confusion, ...]:
    wrong = np.flatnonzero(truth != label)
    pairs = Counter((truth[i], label[i]) for i in wrong)
    return tuple(
        Confusion(*pair, count, tuple([texts[i] for i in wrong if (truth[i], label[i]) == pair][:_SHOWN]))
        for pair, count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    )


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
