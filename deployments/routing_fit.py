"""Fits the routing model to logged outcomes: a regularised logistic regression, judged on questions it has not seen.

How strongly it is regularised, and the threshold, are chosen by cross-validation; questions with the same words are
never on both sides. scikit-learn fits, the result is plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from deployments.answering.query import normalize
from deployments.answering.routing import FEATURE_NAMES, Features, RoutingModel, Term
from deployments.routing_outcomes import Outcome, OutcomesError, Tally, cheapest, tally

LEAST = 30  # outcomes
LEAST_EACH = 8  # that are good enough, and that are not
_FOLDS = 5
_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)  # scikit-learn's C: smaller is closer to no model at all
_BINS = 5
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    n: int
    predicted: float  # mean probability
    seen: float  # share that was good enough


@dataclass(frozen=True, slots=True)
class Report:
    """All of it on questions that the model was not fitted to."""

    outcomes: int
    good_enough: float  # share of the outcomes
    strength: float  # C
    auc: float
    brier: float
    ece: float  # expected calibration error, 0-1
    calibration: tuple[CalibrationBin, ...]
    routed: Tally
    always_small: Tally
    always_large: Tally


@dataclass(frozen=True, slots=True)
class Fitted:
    model: RoutingModel
    report: Report


def fit(outcomes: Sequence[Outcome], target_quality: float, seed: int = 0) -> Fitted:
    """target_quality: share of the large model's quality to keep, 0-1.

    Raises `OutcomesError` where there are too few to learn from.
    """
    labels = np.array([each.is_good_enough for each in outcomes])
    least = min(int(labels.sum()), int((~labels).sum()))
    if len(outcomes) < LEAST or least < LEAST_EACH:
        raise OutcomesError(
            f"{len(outcomes)} outcomes, {int(labels.sum())} of them good enough: at least {LEAST} are needed, and "
            f"{LEAST_EACH} of either kind"
        )
    by_strength = {strength: _held_out(outcomes, labels, strength, seed) for strength in _STRENGTHS}
    strength = min(_STRENGTHS, key=lambda each: float(log_loss(labels, by_strength[each])))
    scores = by_strength[strength]
    threshold = min(1.0, cheapest(outcomes, scores.tolist(), target_quality))
    n = len(outcomes)
    report = Report(
        outcomes=n,
        good_enough=float(labels.mean()),
        strength=strength,
        auc=float(roc_auc_score(labels, scores)),
        brier=float(brier_score_loss(labels, scores)),
        ece=_calibration_error(_calibration(labels, scores)),
        calibration=_calibration(labels, scores),
        routed=tally(outcomes, [score >= threshold for score in scores.tolist()]),
        always_small=tally(outcomes, [True] * n),
        always_large=tally(outcomes, [False] * n),
    )
    return Fitted(replace(_model(outcomes, labels, strength), threshold=round(threshold, 4)), report)


def _held_out(outcomes: Sequence[Outcome], labels: NDArray[np.bool_], strength: float, seed: int) -> Matrix:
    """(n,) probabilities, each of a model that has not seen the question."""
    scores = np.zeros(len(outcomes))
    groups = [normalize(each.question) for each in outcomes]
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(np.zeros(len(outcomes)), labels, groups):
        model = _model([outcomes[place] for place in train], labels[train], strength)
        scores[test] = [model.score(model.parts(outcomes[place].features)) for place in test]
    return scores


def _model(outcomes: Sequence[Outcome], labels: NDArray[np.bool_], strength: float) -> RoutingModel:
    """With no threshold of its own yet."""
    if labels.all() or not labels.any():
        rate = (labels.sum() + 1) / (len(labels) + 2)
        return RoutingModel(math.log(rate / (1 - rate)), {}, 0.5)
    values = np.array([_row(each.features) for each in outcomes])
    names = [name for name, column in zip(FEATURE_NAMES, values.T, strict=True) if _varies(column)]
    values = values[:, [FEATURE_NAMES.index(name) for name in names]]
    means, scales = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    standard = np.nan_to_num((values - means) / scales, nan=0.0).clip(-3.0, 3.0)
    regression = LogisticRegression(C=strength, max_iter=1000).fit(standard, labels)
    terms = {
        name: Term(round(float(weight), 5), round(float(mean), 5), round(float(scale), 5))
        for name, weight, mean, scale in zip(names, regression.coef_[0], means, scales, strict=True)
    }
    return RoutingModel(round(float(regression.intercept_[0]), 5), terms, 0.5)


def _varies(column: Matrix) -> bool:
    known = column[~np.isnan(column)]
    return len(known) > 1 and float(known.std()) > 1e-4


def _row(seen: Features) -> list[float]:
    return [math.nan if (value := getattr(seen, name)) is None else value for name in FEATURE_NAMES]


def _calibration(labels: NDArray[np.bool_], scores: Matrix) -> tuple[CalibrationBin, ...]:
    """Bins of about as many outcomes each, by rising probability."""
    order = np.argsort(scores, kind="stable")
    return tuple(
        CalibrationBin(len(part), float(scores[part].mean()), float(labels[part].mean()))
        for part in np.array_split(order, min(_BINS, len(order)))
    )


def _calibration_error(bins: Sequence[CalibrationBin]) -> float:
    return sum(each.n * abs(each.predicted - each.seen) for each in bins) / sum(each.n for each in bins)
