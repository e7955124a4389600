"""Training the intent head: learned from a company's examples, judged on examples that were held out.

Every probability, threshold and number of the card comes from cross-validation: of what a head says about its own
training examples nothing can be believed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.embedder import BertEmbedder
from models.intent_examples import Example, IntentDataError, checked, near_contradictions
from models.intent_features import Pieces, pieces, rarities, spelling
from models.intent_head import (
    NEVER,
    SURE,
    Changes,
    Floats,
    HeadArrays,
    LinearIntentHead,
    calibrated,
    likeness,
    log_odds,
    scope_features,
    sigmoid,
    softmax,
    unit,
    votes,
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
_SCALE_BOUNDS = (-3.0, 5.0)  # natural logarithm of the factors on logits
# Examples that a question is compared with: 11 MB with 77 intents at 384 dimensions. Training solves as many equations.
_MAX_REFERENCES = 10_000
_RIDGE = 0.08  # added to each example's likeness with itself: how little it is believed alone
_APART = 10.0  # what examples say for their label, above what they say for others; about as much as logits differ

_UNTUNED: dict[str, Any] = {
    "tuned_weights": np.zeros((0, 0), dtype=np.float32),
    "tuned_bias": np.zeros(0, dtype=np.float32),
    "tuned_centre": np.zeros(0, dtype=np.float32),
    "voters": np.zeros((0, 0), dtype=np.float16),
    "voices": np.zeros(0, dtype=np.int_),
    "vote": np.array(0.0, dtype=np.float32),
}

# Of a company's questions, how many are taken to be about nothing that any of its examples is about.
_OUT_OF_SCOPE_SHARE = 0.02
# Fewer held-out answers say too little about a precision near 1.
_MIN_ANSWERS = 100
_MOST_BENT = 0.955  # what becomes `SURE`, at most: it is said of what lies between that it is less sure than it is


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
    data = _Data(embeddings, [pieces(text) for text in texts], targets, labels, seed)
    unrelated = data.like(embedder.embed_queries(UNRELATED), [pieces(text) for text in UNRELATED])
    wants = len(kept) >= _TUNED_FROM * (len(labels) - 1) if fine_tune is None else fine_tune
    if wants and not (isinstance(embedder, BertEmbedder) and embedder.bert is not None):
        if fine_tune:
            raise IntentDataError("this encoder cannot be tuned: only BERT models can")
        wants = False
    tuner = _Tuner(embedder, texts, seed, progress) if wants and isinstance(embedder, BertEmbedder) else None
    fitted = _fit(data, unrelated, target_precision, progress, tuner)
    return _finish(fitted, labels, texts, embedder.identity, target_precision, found)


class _Data:
    """Features of examples. Scaling and rarity need no labels, so they are of all examples, held out or not."""

    def __init__(
        self, embeddings: Vectors, spelt: Sequence[Pieces], targets: Labels, labels: Sequence[str], seed: int
    ) -> None:
        self.n_labels, self.oos, self.seed = len(labels), labels.index(OUT_OF_SCOPE), seed
        self.mean: Floats = embeddings.mean(axis=0)
        self.deviation: Floats = embeddings.std(axis=0) + 1e-6
        self.rarity = rarities(spelt)
        self.targets = targets
        self.features, self.directions = self.like(embeddings, spelt)

    def like(self, embeddings: Vectors, spelt: Sequence[Pieces]) -> tuple[Floats, Floats]:
        """(n, dim + SPELLING_DIM) for the regression, and (n, dim) of length 1 for the examples near by."""
        standard = (embeddings - self.mean) / self.deviation
        features = np.hstack([_EMBEDDING_SCALE * standard, spelling(spelt, self.rarity)]).astype(np.float32)
        return features, unit(standard).astype(np.float16).astype(np.float32)  # as references are stored


@dataclass(frozen=True, slots=True)
class _Voters:
    centre: Floats  # (dim,)
    directions: NDArray[np.float16]  # (k, dim) tuned vectors less the centre, of length 1
    voices: Labels  # (k,)

    def ask(self, vectors: Floats, n_labels: int) -> Floats:
        """vectors: (n, dim) of the tuned encoder. Gives (n, labels) logits."""
        cosines = unit(vectors - self.centre) @ self.directions.T.astype(np.float32)
        return votes(cosines, np.eye(n_labels, dtype=np.float32)[self.voices])


@dataclass(frozen=True, slots=True)
class _TunedPart:
    tuned: Tuned
    voters: _Voters
    scales: Floats  # factors on the logits of the other parts, and on the two here
    held: Labels  # rows that were held out from tuning
    parts: list[Floats]  # (held, labels) logits of the regression over the tuned vectors, and of votes
    unrelated: list[Floats]  # (m, labels) the same

    def arrays(self) -> dict[str, Any]:
        """Its part of `HeadArrays`."""
        return {
            "tuned_weights": self.scales[2] * self.tuned.weights,
            "tuned_bias": self.scales[2] * self.tuned.bias,
            "tuned_centre": self.voters.centre,
            "voters": self.voters.directions,
            "voices": self.voters.voices,
            "vote": np.array(self.scales[3]),
        }


class _Tuner:
    """Tunes the encoder on most examples, and weighs it against the untuned one on the others."""

    def __init__(self, embedder: BertEmbedder, texts: Sequence[str], seed: int, progress: Progress) -> None:
        self._embedder, self._texts, self._seed, self._progress = embedder, texts, seed, progress

    def train(self, parts: Sequence[Floats], targets: Labels, n_labels: int) -> _TunedPart | None:
        """parts: (n, labels) logits each of the untuned encoder, held out. None where tuning does not help."""
        from models.intent_tuning import tune, tuned_layers

        rest, held = _folds(targets, _TUNING_FOLDS, self._seed)[0]
        learned = [self._texts[row] for row in rest]
        tuned = tune(self._embedder, learned, targets[rest], n_labels, self._seed, self._progress)
        layers = tuned_layers(self._embedder, tuned.changes)
        _, vectors = self._embedder.embed_queries_with([*self._texts, *UNRELATED], layers)
        voters = _voters(vectors[rest], targets[rest], self._seed)
        own = [vectors @ tuned.weights.T + tuned.bias, voters.ask(vectors, n_labels)]
        known, tuned_known = [part[held] for part in parts], [part[held] for part in own]
        alone, together = _scales(known, targets[held]), _scales([*known, *tuned_known], targets[held])
        before = _loss(_mixed(known, alone), targets[held])
        after = _loss(_mixed([*known, *tuned_known], together), targets[held])
        self._progress(f"held-out loss {before:.3f} without tuning, {after:.3f} with it")
        if after > (1 - _LEAST_GAIN) * before:
            return None
        return _TunedPart(tuned, voters, together, held, tuned_known, [part[len(targets) :] for part in own])


def _voters(vectors: Floats, targets: Labels, seed: int) -> _Voters:
    """Of tuned vectors and their labels; a random sample where there are many."""
    if len(targets) > _MAX_REFERENCES:
        chosen = np.random.default_rng(seed).choice(len(targets), _MAX_REFERENCES, replace=False)
        vectors, targets = vectors[chosen], targets[chosen]
    centre: Floats = vectors.mean(axis=0)
    return _Voters(centre, unit(vectors - centre).astype(np.float16), targets)


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
    target_precision: float,
    progress: Progress,
    tuner: _Tuner | None,
) -> _Fitted:
    folds, scope_folds = (3, 2) if len(data.targets) >= _MANY else (5, 3)
    progress(f"cross-validating in {folds} parts")
    parts, nearest = _held_out(data, folds)
    scale = _calibration_scale(parts[0], data.targets)
    parts[0] *= scale
    progress("learning what no intent covers, from intents left out")
    scope, loose, loose_nearest = _fit_scope(data, unrelated, scale, scope_folds)
    part = None if tuner is None else tuner.train(parts, data.targets, data.n_labels)
    rows = np.arange(len(data.targets)) if part is None else part.held
    scales = _scales(parts, data.targets) if part is None else part.scales
    mixed = _mixed([*(each[rows] for each in parts), *([] if part is None else part.parts)], scales)
    in_scope = _in_scope(parts[0][rows], nearest[rows], scope, data.oos)
    probabilities = with_scope(softmax(mixed), in_scope, data.oos)
    calibration = _fit_calibration(probabilities, data.targets[rows], data.oos, target_precision)
    progress("training on all examples")
    weights, bias = _fit_linear(data.features, data.targets, data.n_labels)
    near, inside = _choose_references(data, np.arange(len(data.targets)))
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
        references=data.directions[near].astype(np.float16),
        inside=np.array(inside),
        influence=scales[1] * _fit_influence(data.directions[near], data.targets[near], data.n_labels),
        scope=scope.astype(np.float32),
        calibration=calibration,
        share=np.array(scales[0], dtype=np.float32),
        thresholds=np.full(data.n_labels, np.nan, dtype=np.float32),
        **(_UNTUNED if part is None else part.arrays()),
    )
    far_logits = _mixed([*loose, *([] if part is None else part.unrelated)], scales)
    far = with_scope(softmax(far_logits), _in_scope(loose[0], loose_nearest, scope, data.oos), data.oos)
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


def _held_out(data: _Data, folds: int) -> tuple[list[Floats], Floats]:
    """What `_by` gives of each example by the examples of the other folds."""
    parts = [np.zeros((len(data.targets), data.n_labels), dtype=np.float32) for _ in range(2)]
    nearest = np.zeros(len(data.targets), dtype=np.float32)
    for rest, held in _folds(data.targets, folds, data.seed):
        found, nearest[held] = _by(data, rest, (data.features[held], data.directions[held]))
        for part, logits in zip(parts, found, strict=True):
            part[held] = logits
    return parts, nearest


def _by(data: _Data, rest: Labels, questions: tuple[Floats, Floats]) -> tuple[list[Floats], Floats]:
    """Of questions, by the examples `rest` alone: logits (n, labels) of the regression, and of the examples near by;
    and how near the nearest is (n,)."""
    weights, bias = _fit_linear(data.features[rest], data.targets[rest], data.n_labels)
    near, inside = _choose_references(data, rest)
    influence = _fit_influence(data.directions[near], data.targets[near], data.n_labels)
    features, directions = questions
    cosines = directions @ data.directions[near].T
    return [features @ weights.T + bias, likeness(cosines) @ influence], cosines[:, :inside].max(axis=1)


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


def _fit_influence(directions: Floats, targets: Labels, n_labels: int) -> Floats:
    """(m, labels) what examples say for each label: kernel ridge regression, whose kernel is `likeness`.

    It bends where the regression over the vectors is straight, which is worth as much as tuning the encoder.
    directions: (m, dim) of the examples, of length 1.
    """
    from scipy.linalg import cho_factor, cho_solve

    alike = likeness(directions @ directions.T)
    alike[np.diag_indices_from(alike)] += _RIDGE
    wanted = _APART * (np.eye(n_labels, dtype=np.float32)[targets] - np.float32(1 / n_labels))
    found: Floats = cho_solve(cho_factor(alike, overwrite_a=True), wanted)
    return found


def _calibration_scale(logits: Floats, targets: Labels) -> float:
    """The factor (1 / temperature) on the logits that makes the truth most likely."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_scale: _loss(logits * np.float32(np.exp(log_scale)), targets), bounds=_SCALE_BOUNDS, method="bounded"
    )
    return float(np.exp(found.x))


def _scales(parts: Sequence[Floats], targets: Labels) -> Floats:
    """A factor for each of the parts, (n, labels) logits each, whose sum then makes the truth most likely."""
    from scipy.optimize import minimize

    def factors(log_scales: NDArray[np.float64]) -> Floats:
        result: Floats = np.exp(np.clip(log_scales, *_SCALE_BOUNDS)).astype(np.float32)
        return result

    found = minimize(
        lambda log_scales: _loss(_mixed(parts, factors(log_scales)), targets),
        np.full(len(parts), -0.5),
        method="Nelder-Mead",
    )
    return factors(found.x)


def _mixed(parts: Sequence[Floats], scales: Floats) -> Floats:
    result: Floats = np.sum([scale * part for scale, part in zip(scales, parts, strict=True)], axis=0)
    return result


def _loss(logits: Floats, targets: Labels) -> float:
    """Mean negative log-likelihood."""
    return -float(np.log(softmax(logits)[np.arange(len(targets)), targets] + 1e-9).mean())


def _fit_calibration(probabilities: Floats, targets: Labels, oos: int, target_precision: float) -> Floats:
    """(3,) Slope and intercept on the log-odds of the best label, after Platt, and the confidence that becomes `SURE`.

    A probability of 0.9 is right nine times in ten, and those above it more often: how often, only the share of all
    above it says. Who answers from 0.9 on is to be right as often as was aimed at, where `_MOST_BENT` allows it.
    probabilities: (n, labels), held out.
    """
    from sklearn.linear_model import LogisticRegression

    best = probabilities.argmax(axis=1)
    right = best == targets
    if right.all() or not right.any():
        return np.array([1.0, 0.0, SURE], dtype=np.float32)
    odds = log_odds(probabilities[np.arange(len(best)), best])
    regression = LogisticRegression(C=1.0).fit(odds[:, None], right)
    slope = max(float(regression.coef_[0, 0]), 0.1)  # surer must stay surer, however few the examples
    intercept = float(regression.intercept_[0])
    confidence, meant = sigmoid(slope * odds + intercept), best != oos
    sure = choose_threshold(confidence[meant], right[meant], target_precision)
    if sure is None or (confidence[meant] >= sure).sum() < _MIN_ANSWERS:
        sure = SURE
    return np.array([slope, intercept, np.clip(sure, SURE, _MOST_BENT)], dtype=np.float32)


# --- what no intent covers --------------------------------------------------------------------------------------


def _fit_scope(
    data: _Data, unrelated: tuple[Floats, Floats], scale: float, n_folds: int
) -> tuple[Floats, list[Floats], Floats]:
    """Log-odds of being in scope: intercept and weights. And what `_by` gives of `unrelated`, held out like the rest.

    A head that never saw some of the intents shows what questions look like to it that no intent covers. Examples of
    `out_of_scope` have no part in it: that label is learned like the others.
    """
    from sklearn.linear_model import LogisticRegression

    features, inside, weights = [], [], []
    loose: tuple[list[Floats], Floats] | None = None
    for rest, held, left_out in _scope_folds(data, n_folds):
        asked = np.concatenate([held, left_out])
        parts, nearest = _by(
            data,
            rest,
            (np.vstack([data.features[asked], unrelated[0]]), np.vstack([data.directions[asked], unrelated[1]])),
        )
        parts[0] *= scale
        loose = loose or ([part[len(asked) :] for part in parts], nearest[len(asked) :])
        far = len(nearest) - len(asked)
        meant = np.arange(len(asked)) < len(held)
        features.append(scope_features(nearest, parts[0], data.oos))
        inside.append(np.concatenate([meant, np.zeros(far, dtype=bool)]))
        weights.append(np.concatenate([_shares(meant), np.full(far, 0.25 / far)]))
    assert loose is not None, "there is at least one fold"
    is_in = np.concatenate(inside)
    weight = np.concatenate(weights)
    weight *= np.where(is_in, 0.5 / weight[is_in].sum(), 0.5 / weight[~is_in].sum()) * len(weight)
    regression = LogisticRegression(C=100.0).fit(np.concatenate(features), is_in, sample_weight=weight)
    prior = np.log((1 - _OUT_OF_SCOPE_SHARE) / _OUT_OF_SCOPE_SHARE)
    return np.concatenate([regression.intercept_ + prior, regression.coef_[0]]).astype(np.float32), *loose


def _shares(meant: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Half of the weight to what is meant, a quarter to what is not."""
    outside = max(1, int((~meant).sum()))
    return np.where(meant, 0.5 / max(1, int(meant.sum())), 0.25 / outside)


def _scope_folds(data: _Data, folds: int) -> list[tuple[Labels, Labels, Labels]]:
    """(trained on, held out, intents left out). With few intents none is left out."""
    targets = data.targets
    intents = np.random.default_rng(data.seed).permutation(np.setdiff1d(np.unique(targets), [data.oos]))
    groups = np.array_split(intents, 3)[:folds] if len(intents) >= 6 else [intents[:0]] * folds
    parts = []
    for (rest, held), group in zip(_folds(targets, folds, data.seed), groups, strict=False):
        gone = np.isin(targets, group)
        parts.append((rest[~gone[rest]], held[~gone[held] & (targets[held] != data.oos)], np.flatnonzero(gone)))
    return parts


def _choose_references(data: _Data, rest: Labels) -> tuple[Labels, int]:
    """Indexes of examples, those of intents first, and how many these are. A random sample where there are many."""
    if len(rest) > _MAX_REFERENCES:
        rest = np.random.default_rng(data.seed).choice(rest, _MAX_REFERENCES, replace=False)
    outside = data.targets[rest] == data.oos
    return np.concatenate([rest[~outside], rest[outside]]), int((~outside).sum())
