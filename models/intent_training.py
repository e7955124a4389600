"""Training the intent head: learned from a company's examples, judged on examples that were held out.

Every probability, threshold and number of the card comes from cross-validation: of what a head says about its own
training examples nothing can be believed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.embedder import BertEmbedder
from models.intent_examples import Example, IntentDataError, checked, near_contradictions
from models.intent_features import Pieces, pieces, rarities, spelling
from models.intent_head import (
    NEVER,
    Changes,
    Floats,
    HeadArrays,
    LinearIntentHead,
    calibrated,
    log_odds,
    scope_features,
    sigmoid,
    softmax,
    unit,
    with_scope,
)
from models.intent_report import choose_threshold
from models.protocols import OUT_OF_SCOPE, Embedder, IntentPrediction, Vectors
from models.unrelated import UNRELATED

if TYPE_CHECKING:
    from models.intent_tuning import Tuned

Labels = NDArray[np.int_]  # (n,) indexes of labels
Progress = Callable[[str], None]

# Examples an intent from which tuning the encoder pays; with fewer, its held-out share is missed elsewhere.
_TUNED_FROM = 40
_TUNING_FOLDS = 8  # one part is held out from tuning: the card and the calibration rest on it
_LEAST_GAIN = 0.01  # of the held-out loss, as a share, that a tuned encoder has to bring

# How much a standardised embedding weighs beside spelling of length 1, and sklearn's C.
_EMBEDDING_SCALE = 0.045
_INVERSE_PENALTY = 10.0
_MANY = 4000  # examples from which fewer folds say as much
_SCALE_BOUNDS = (-3.0, 5.0)  # natural logarithm of the factor on the logits
_MAX_REFERENCES = 3000  # examples that a question is compared with; 5 MB and 0.3 ms at 384 dimensions

# Of a company's questions, how many are taken to be about nothing that any of its examples is about.
_OUT_OF_SCOPE_SHARE = 0.02
# Fewer held-out answers say too little about a precision near 1.
_MIN_ANSWERS = 100


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What cross-validation predicted about each example by the other ones."""

    texts: list[str]
    truths: list[str]
    predictions: list[IntentPrediction]


@dataclass(frozen=True, slots=True)
class Training:
    head: LinearIntentHead
    held_out: HeldOut
    unrelated: list[IntentPrediction]  # about questions that no company has an intent for
    threshold: float | None  # from which the target precision is reached; None: nowhere
    own_thresholds: dict[str, float]  # of the intents that have enough examples
    warnings: list[str]


def train_intent_head(
    embedder: Embedder,
    examples: Sequence[Example],
    target_precision: float = 0.99,
    seed: int = 0,
    progress: Progress = lambda line: None,
    fine_tune: bool | None = None,
) -> Training:
    """A head for these labels and `out_of_scope`, whether or not that one has examples.

    fine_tune: tune the encoder's highest layers, too; None: where there are examples enough for it to pay.

    Raises `IntentDataError` for examples that nothing can be learned from.
    """
    kept, found = checked(examples)
    labels = sorted({example.label for example in kept} | {OUT_OF_SCOPE})
    targets = np.array([labels.index(example.label) for example in kept])
    texts = [example.text for example in kept]
    progress(f"embedding {len(texts)} examples of {len(labels) - 1} intents")
    embeddings = embedder.embed_queries(texts)
    found += near_contradictions(kept, embeddings)
    data = _Data(embeddings, [pieces(text) for text in texts], targets)
    unrelated = data.like(embedder.embed_queries(UNRELATED), [pieces(text) for text in UNRELATED])
    wants = len(kept) >= _TUNED_FROM * (len(labels) - 1) if fine_tune is None else fine_tune
    if wants and not (isinstance(embedder, BertEmbedder) and embedder.bert is not None):
        if fine_tune:
            raise IntentDataError("this encoder cannot be tuned: only BERT models can")
        wants = False
    tuner = _Tuner(embedder, texts, seed, progress) if wants and isinstance(embedder, BertEmbedder) else None
    fitted = _fit(data, unrelated, labels.index(OUT_OF_SCOPE), len(labels), seed, progress, tuner)
    return _finish(fitted, labels, texts, embedder.identity, target_precision, found)


class _Data:
    """Features of examples. Scaling and rarity need no labels, so they are of all examples, held out or not."""

    def __init__(self, embeddings: Vectors, spelt: Sequence[Pieces], targets: Labels) -> None:
        self.mean: Floats = embeddings.mean(axis=0)
        self.deviation: Floats = embeddings.std(axis=0) + 1e-6
        self.rarity = rarities(spelt)
        self.targets = targets
        self.features, self.directions = self.like(embeddings, spelt)

    def like(self, embeddings: Vectors, spelt: Sequence[Pieces]) -> tuple[Floats, Floats]:
        """(n, dim + SPELLING_DIM) for the regression, and (n, dim) of length 1 for the nearest example."""
        standard = (embeddings - self.mean) / self.deviation
        features = np.hstack([_EMBEDDING_SCALE * standard, spelling(spelt, self.rarity)]).astype(np.float32)
        return features, unit(standard).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _TunedPart:
    tuned: Tuned  # scaled for the sum of logits
    share: float  # factor on the other logits
    held: Labels  # rows that were held out from tuning
    mixed: Floats  # (held, labels) logits of both together
    unrelated: Floats  # (m, labels) logits of the tuned encoder alone


class _Tuner:
    """Tunes the encoder on most examples, and weighs it against the regression on the others."""

    def __init__(self, embedder: BertEmbedder, texts: Sequence[str], seed: int, progress: Progress) -> None:
        self._embedder, self._texts, self._seed, self._progress = embedder, texts, seed, progress

    def train(self, logits: Floats, targets: Labels, n_labels: int) -> _TunedPart | None:
        """logits: (n, labels) of the regression, held out. None where tuning does not help."""
        from scipy.optimize import minimize

        from models.intent_tuning import Tuned, tune, tuned_layers

        rest, held = _folds(targets, _TUNING_FOLDS, self._seed)[0]
        learned = [self._texts[row] for row in rest]
        tuned = tune(self._embedder, learned, targets[rest], n_labels, self._seed, self._progress)
        asked = [*(self._texts[row] for row in held), *UNRELATED]
        _, vectors = self._embedder.embed_queries_with(asked, tuned_layers(self._embedder, tuned.changes))
        own = vectors @ tuned.weights.T + tuned.bias
        known, own_known = logits[held], own[: len(held)]

        def loss(weights: NDArray[np.float64]) -> float:
            mixed = softmax(np.exp(weights[0]) * known + np.exp(weights[1]) * own_known)
            return -float(np.log(mixed[np.arange(len(held)), targets[held]] + 1e-9).mean())

        found = minimize(loss, np.array([-0.5, -0.5]), method="Nelder-Mead")
        alone = loss(np.array([0.0, -20.0]))
        self._progress(f"held-out loss {alone:.3f} without tuning, {found.fun:.3f} with it")
        if found.fun > (1 - _LEAST_GAIN) * alone:
            return None
        share, scale = (float(each) for each in np.exp(found.x))
        scaled = Tuned(
            tuned.changes, (scale * tuned.weights).astype(np.float32), (scale * tuned.bias).astype(np.float32)
        )
        mixed = (share * known + scale * own_known).astype(np.float32)
        return _TunedPart(scaled, share, held, mixed, (scale * own[len(held) :]).astype(np.float32))


@dataclass(frozen=True, slots=True)
class _Fitted:
    arrays: HeadArrays  # without thresholds
    changes: Changes
    rows: Labels  # of the examples that were held out
    targets: Labels  # theirs
    probabilities: Floats  # (rows, labels)
    unrelated: Floats  # (m, labels)


def _fit(
    data: _Data,
    unrelated: tuple[Floats, Floats],
    oos: int,
    n_labels: int,
    seed: int,
    progress: Progress,
    tuner: _Tuner | None,
) -> _Fitted:
    folds, scope_folds = (3, 2) if len(data.targets) >= _MANY else (5, 3)
    progress(f"cross-validating in {folds} parts")
    logits, nearest = _held_out(data, n_labels, folds, seed)
    scale = _calibration_scale(logits, data.targets)
    logits *= scale
    progress("learning what no intent covers, from intents left out")
    scope, loose = _fit_scope(data, unrelated, oos, n_labels, scale, _scope_folds(data.targets, oos, scope_folds, seed))
    part = None if tuner is None else tuner.train(logits, data.targets, n_labels)
    rows = np.arange(len(logits)) if part is None else part.held
    mixed = logits if part is None else part.mixed
    in_scope = _in_scope(logits[rows], nearest[rows], scope, oos)
    probabilities = with_scope(softmax(mixed), in_scope, oos)
    calibration = _fit_calibration(probabilities, data.targets[rows])
    progress("training on all examples")
    weights, bias = _fit_linear(data.features, data.targets, n_labels)
    dim = len(data.mean)
    weights *= scale
    weights[:, :dim] *= _EMBEDDING_SCALE
    arrays = HeadArrays(
        weights=weights[:, :dim].astype(np.float32),
        bias=(scale * bias).astype(np.float32),
        mean=data.mean,
        deviation=data.deviation,
        spelling_weights=weights[:, dim:].astype(np.float16),
        rarity=data.rarity,
        references=data.directions[_choose_references(data.targets, oos, seed)].astype(np.float16),
        scope=scope.astype(np.float32),
        calibration=calibration,
        share=np.array(1.0 if part is None else part.share, dtype=np.float32),
        tuned_weights=np.zeros((0, 0), dtype=np.float32) if part is None else part.tuned.weights,
        tuned_bias=np.zeros(0, dtype=np.float32) if part is None else part.tuned.bias,
        thresholds=np.full(n_labels, np.nan, dtype=np.float32),
    )
    far_logits = loose[0] if part is None else part.share * loose[0] + part.unrelated
    far = with_scope(softmax(far_logits), _in_scope(*loose, scope, oos), oos)
    return _Fitted(
        arrays,
        {} if part is None else part.tuned.changes,
        rows,
        data.targets[rows],
        calibrated(probabilities, calibration),
        calibrated(far, calibration),
    )


def _in_scope(logits: Floats, nearest: Floats, scope: Floats, oos: int) -> Floats:
    return sigmoid(scope_features(nearest, logits, oos) @ scope[1:] + scope[0])


def _finish(
    fitted: _Fitted, labels: list[str], texts: list[str], identity: str, target_precision: float, found: list[str]
) -> Training:
    head = LinearIntentHead(labels, fitted.arrays, identity, fitted.changes)
    truths = [labels[target] for target in fitted.targets]
    chosen, own = _thresholds(head.decide(fitted.probabilities), truths, target_precision)
    thresholds = [own.get(label, np.nan if chosen is None else chosen) for label in labels]
    head = head.with_thresholds(np.array(thresholds, dtype=np.float32))
    held_out = HeldOut([texts[row] for row in fitted.rows], truths, head.decide(fitted.probabilities))
    return Training(head, held_out, head.decide(fitted.unrelated), chosen, own, found)


def _thresholds(
    predictions: Sequence[IntentPrediction], truths: Sequence[str], target_precision: float
) -> tuple[float | None, dict[str, float]]:
    answer = [(p, truth) for p, truth in zip(predictions, truths, strict=True) if p.label != OUT_OF_SCOPE]
    labels = np.array([p.label for p, _ in answer], dtype=object)
    confidence = np.array([p.confidence for p, _ in answer])
    right = np.array([p.label == truth for p, truth in answer])
    own = {}
    for label in sorted(set(labels)):
        mine = labels == label
        threshold = choose_threshold(confidence[mine], right[mine], target_precision)
        if threshold is not None and (confidence[mine] >= threshold).sum() >= _MIN_ANSWERS:
            own[label] = threshold
    chosen = choose_threshold(confidence, right, target_precision)
    enough = chosen is not None and (confidence >= chosen).sum() >= _MIN_ANSWERS
    return chosen if enough else None, own


def _held_out(data: _Data, n_labels: int, folds: int, seed: int) -> tuple[Floats, Floats]:
    """(n, labels) logits and (n,) nearest examples, of each example by the examples of the other folds."""
    logits = np.zeros((len(data.targets), n_labels), dtype=np.float32)
    nearest = np.zeros(len(data.targets), dtype=np.float32)
    for rest, held in _folds(data.targets, folds, seed):
        logits[held], nearest[held] = _by(data, rest, (data.features[held], data.directions[held]), n_labels)
    return logits, nearest


def _by(data: _Data, rest: Labels, questions: tuple[Floats, Floats], n_labels: int) -> tuple[Floats, Floats]:
    """Logits (n, labels) and nearest example (n,) of questions, by the examples `rest` alone."""
    weights, bias = _fit_linear(data.features[rest], data.targets[rest], n_labels)
    features, directions = questions
    logits = (features @ weights.T + bias).astype(np.float32)
    return logits, (directions @ data.directions[rest].T).max(axis=1)


def _folds(targets: Labels, folds: int, seed: int) -> list[tuple[Labels, Labels]]:
    from sklearn.model_selection import StratifiedKFold

    folds = max(2, min(folds, int(np.bincount(targets).max())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an intent of two examples is held out in two folds alone
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(targets, targets))


def _fit_linear(features: Floats, targets: Labels, n_labels: int) -> tuple[Floats, Floats]:
    """Weights (labels, features) and bias (labels,), uncalibrated; labels without examples can never win."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=_INVERSE_PENALTY, max_iter=60, tol=1e-3).fit(features, targets)
    found, offsets = regression.coef_, regression.intercept_
    if len(found) == 1:  # two labels: sklearn keeps one logit, of the second against the first
        found, offsets = np.vstack([-found, found]) / 2, np.concatenate([-offsets, offsets]) / 2
    weights = np.zeros((n_labels, features.shape[1]), dtype=np.float32)
    bias = np.full(n_labels, NEVER, dtype=np.float32)
    weights[regression.classes_], bias[regression.classes_] = found, offsets
    return weights, bias


def _calibration_scale(logits: Floats, targets: Labels) -> float:
    """The factor (1 / temperature) on the logits that makes the truth most likely."""
    from scipy.optimize import minimize_scalar

    def loss(log_scale: float) -> float:
        probabilities = softmax(logits * np.float32(np.exp(log_scale)))
        return -float(np.log(probabilities[np.arange(len(targets)), targets] + 1e-9).mean())

    return float(np.exp(minimize_scalar(loss, bounds=_SCALE_BOUNDS, method="bounded").x))


def _fit_calibration(probabilities: Floats, targets: Labels) -> Floats:
    """Slope and intercept (2,) on the log-odds of the best label, after Platt. Held-out probabilities (n, labels)."""
    from sklearn.linear_model import LogisticRegression

    best = probabilities.argmax(axis=1)
    right = best == targets
    if right.all() or not right.any():
        return np.array([1.0, 0.0], dtype=np.float32)
    odds = log_odds(probabilities[np.arange(len(best)), best])
    regression = LogisticRegression(C=1.0).fit(odds[:, None], right)
    slope = max(float(regression.coef_[0, 0]), 0.1)  # surer must stay surer, however few the examples
    return np.array([slope, regression.intercept_[0]], dtype=np.float32)


# --- what no intent covers --------------------------------------------------------------------------------------


def _fit_scope(
    data: _Data,
    unrelated: tuple[Floats, Floats],
    oos: int,
    n_labels: int,
    scale: float,
    folds: list[tuple[Labels, Labels, Labels]],
) -> tuple[Floats, tuple[Floats, Floats]]:
    """Log-odds of being in scope: intercept and weights. And logits and nearest of `unrelated`, held out like the rest.

    A head that never saw some of the intents shows what questions look like to it that no intent covers. Examples of
    `out_of_scope` have no part in it: that label is learned like the others.
    """
    from sklearn.linear_model import LogisticRegression

    features, inside, weights = [], [], []
    loose: tuple[Floats, Floats] | None = None
    for rest, held, left_out in folds:
        asked = np.concatenate([held, left_out])
        logits, nearest = _by(data, rest, (data.features[asked], data.directions[asked]), n_labels)
        far_logits, far_nearest = _by(data, rest, unrelated, n_labels)
        loose = loose or (far_logits * scale, far_nearest)
        meant = np.concatenate([np.ones(len(held), dtype=bool), np.zeros(len(left_out), dtype=bool)])
        features += [scope_features(nearest, logits * scale, oos), scope_features(far_nearest, far_logits * scale, oos)]
        inside += [meant, np.zeros(len(far_nearest), dtype=bool)]
        weights += [_shares(meant), np.full(len(far_nearest), 0.25 / len(far_nearest))]
    assert loose is not None, "there is at least one fold"
    is_in = np.concatenate(inside)
    weight = np.concatenate(weights)
    weight *= np.where(is_in, 0.5 / weight[is_in].sum(), 0.5 / weight[~is_in].sum()) * len(weight)
    regression = LogisticRegression(C=100.0).fit(np.concatenate(features), is_in, sample_weight=weight)
    prior = np.log((1 - _OUT_OF_SCOPE_SHARE) / _OUT_OF_SCOPE_SHARE)
    return np.concatenate([regression.intercept_ + prior, regression.coef_[0]]).astype(np.float32), loose


def _shares(meant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Half of the weight to what is meant, a quarter to what is not."""
    outside = max(1, int((~meant).sum()))
    return np.where(meant, 0.5 / max(1, int(meant.sum())), 0.25 / outside)


def _scope_folds(targets: Labels, oos: int, folds: int, seed: int) -> list[tuple[Labels, Labels, Labels]]:
    """(trained on, held out, intents left out). With few intents none is left out."""
    intents = np.random.default_rng(seed).permutation(np.setdiff1d(np.unique(targets), [oos]))
    groups = np.array_split(intents, 3)[:folds] if len(intents) >= 6 else [intents[:0]] * folds
    parts = []
    for (rest, held), group in zip(_folds(targets, folds, seed), groups, strict=False):
        gone = np.isin(targets, group)
        parts.append((rest[~gone[rest]], held[~gone[held] & (targets[held] != oos)], np.flatnonzero(gone)))
    return parts


def _choose_references(targets: Labels, oos: int, seed: int) -> Labels:
    """Indexes of examples of intents: all of them, or a random sample where there are many."""
    candidates: Labels = np.flatnonzero(targets != oos)
    if len(candidates) <= _MAX_REFERENCES:
        return candidates
    return np.sort(np.random.default_rng(seed).choice(candidates, _MAX_REFERENCES, replace=False))
