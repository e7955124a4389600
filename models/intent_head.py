"""The intent head: what a question wants, from its embedding, its spelling and the examples near by.

Prediction is a few matrix products in numpy. How a head is trained is in `models/intent_training.py`; what is done
about a label is not known here.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.intent_examples import IntentDataError
from models.intent_features import SPELLING_DIM, pieces, spelling
from models.protocols import OUT_OF_SCOPE, IntentPrediction, Vectors

Floats = NDArray[np.float32]

Changes = dict[str, NDArray[np.float16]]

NEVER = -1e4  # a logit whose softmax is 0

FORMAT = 5
SURE = 0.9  # from this confidence on as many are right as was aimed at
_BENT_FROM = 0.85  # below it confidences stay as they are
_SHARPNESS = 20.0  # of votes: an example that is 0.1 nearer in cosine has seven times the say
_LEAST_VOTES = 1e-4  # share of the votes that counts as none
_CHANGE = "change:"  # before the names of changes, in the file of the arrays
_ARRAYS_FILE = "head.npz"
_DESCRIPTION_FILE = "head.json"


@dataclass(frozen=True, slots=True)
class HeadArrays:
    """What training found. Scaling and calibration are folded in."""

    weights: Floats  # (labels, dim), on standardised embeddings
    bias: Floats  # (labels,)
    mean: Floats  # (dim,) of the training embeddings
    deviation: Floats  # (dim,)
    spelling_weights: NDArray[np.float16]  # (labels, SPELLING_DIM)
    rarity: NDArray[np.float16]  # (buckets,) of pieces of words
    references: NDArray[np.float16]  # (m, dim) examples, those of intents first; standardised, L2-normalised
    inside: NDArray[np.int_]  # () how many of the references are of intents, not out of scope
    influence: Floats  # (m, labels) what each reference says for each label, where a question is like it
    scope: Floats  # (1 + scope features,) log-odds of being in scope: intercept, then one weight a feature
    calibration: Floats  # (3,) slope and intercept, on the best label's log-odds; the confidence that becomes `SURE`
    share: Floats  # () factor on the logits of weights and bias where they are added to the others
    tuned_weights: Floats  # (labels, dim) on vectors of the tuned encoder; (0, 0) where there is none
    tuned_bias: Floats  # (labels,); (0,) where there is none
    tuned_centre: Floats  # (dim,) mean of the vectors that follow; (0,) where there is none
    voters: NDArray[np.float16]  # (k, dim) tuned vectors of examples, less the centre, L2-normalised
    voices: NDArray[np.int_]  # (k,) the label each one votes for
    vote: Floats  # () factor on the logarithm of the votes' shares
    thresholds: Floats  # (labels,) confidence from which the label is right often enough; NaN where unknown


class LinearIntentHead:
    """softmax over the intents, times the probability that the question is about one of them at all."""

    def __init__(
        self, labels: Sequence[str], arrays: HeadArrays, embedder_identity: str, changes: Changes | None = None
    ) -> None:
        """changes: to the encoder's highest layers; see `models/intent_tuning.py`."""
        self.changes: Changes = changes or {}
        self._labels = tuple(labels)
        self._arrays = arrays
        self._embedder_identity = embedder_identity
        self._out_of_scope = self._labels.index(OUT_OF_SCOPE)
        self._spelling_weights: Floats = arrays.spelling_weights.T.astype(np.float32)
        self._references: Floats = arrays.references.T.astype(np.float32)
        self._voters: Floats = arrays.voters.T.astype(np.float32)
        self._voices: Floats = np.eye(len(self._labels), dtype=np.float32)[arrays.voices]

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def embedder_identity(self) -> str:
        """Identity of the embedder whose vectors this head was trained on."""
        return self._embedder_identity

    def predict(
        self, texts: Sequence[str], embeddings: Vectors, tuned: Vectors | None = None
    ) -> list[IntentPrediction]:
        """tuned: (n, dim) vectors of the tuned encoder, needed where the head has `changes`."""
        return self.decide(self.probabilities(texts, embeddings, tuned)) if len(embeddings) else []

    def probabilities(self, texts: Sequence[str], embeddings: Vectors, tuned: Vectors | None = None) -> Floats:
        """(n, labels), each row adds up to 1."""
        arrays = self._arrays
        standard: Floats = (embeddings - arrays.mean) / arrays.deviation
        spelt = spelling([pieces(text) for text in texts], arrays.rarity)
        cosines = unit(standard) @ self._references  # (n, m)
        nearest = cosines[:, : arrays.inside].max(axis=1)  # (n,)
        logits = standard @ arrays.weights.T + spelt @ self._spelling_weights + arrays.bias  # (n, labels)
        in_scope = sigmoid(scope_features(nearest, logits, self._out_of_scope) @ arrays.scope[1:] + arrays.scope[0])
        logits = arrays.share * logits + likeness(cosines) @ arrays.influence
        if self.changes:
            if tuned is None:
                raise ValueError("a head with a tuned encoder needs its vectors")
            cosines = unit(tuned - arrays.tuned_centre) @ self._voters
            logits += tuned @ arrays.tuned_weights.T + arrays.tuned_bias
            logits += arrays.vote * votes(cosines, self._voices)
        return calibrated(with_scope(softmax(logits), in_scope, self._out_of_scope), arrays.calibration)

    def decide(self, probabilities: Floats) -> list[IntentPrediction]:
        """(n, labels) to n predictions."""
        top = np.argsort(probabilities, axis=1, kind="stable")[:, -2:]
        return [self._prediction(row, *pair) for row, pair in zip(probabilities, top, strict=True)]

    def with_thresholds(self, thresholds: Floats) -> Self:
        """thresholds: (labels,), NaN where there is none."""
        arrays = replace(self._arrays, thresholds=thresholds)
        return type(self)(self._labels, arrays, self._embedder_identity, self.changes)

    def _prediction(self, row: Floats, second: int, first: int) -> IntentPrediction:
        confidence, threshold = float(row[first]), float(self._arrays.thresholds[first])
        return IntentPrediction(
            self._labels[first],
            confidence,
            margin=confidence - float(row[second]),
            runner_up=self._labels[second],
            threshold=None if np.isnan(threshold) else threshold,
        )

    def save(self, folder: Path) -> None:
        """Writes two files, none of them pickled; the description holds the checksum of the other."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self._arrays, name) for name in HeadArrays.__slots__}
        changes = {_CHANGE + name: change for name, change in self.changes.items()}
        np.savez_compressed(folder / _ARRAYS_FILE, allow_pickle=False, **arrays, **changes)
        description = {
            "format": FORMAT,
            "embedder": self._embedder_identity,
            "labels": self._labels,
            "sha256": _sha256(folder / _ARRAYS_FILE),
        }
        (folder / _DESCRIPTION_FILE).write_text(json.dumps(description, indent=2, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, folder: Path, embedder_identity: str) -> Self:
        """Reads what `save` wrote; refuses a head trained on another embedder, whose vectors mean other things."""
        description = _read_description(folder)
        if description["embedder"] != embedder_identity:
            raise IntentDataError(
                f"the intent head in {folder} was trained on {description['embedder']!r}, but the embedder is "
                f"{embedder_identity!r}: train it again (raydesk intents train)"
            )
        arrays, changes = _read_arrays(folder / _ARRAYS_FILE, description)
        return cls(description["labels"], arrays, embedder_identity, changes)


def softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def sigmoid(log_odds: Floats) -> Floats:
    result: Floats = (1.0 / (1.0 + np.exp(-np.clip(log_odds, -50.0, 50.0)))).astype(np.float32)
    return result


def unit(vectors: Floats) -> Floats:
    """Each row L2-normalised."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: Floats = vectors / np.where(norms == 0.0, 1.0, norms)
    return result


def likeness(cosines: Floats) -> Floats:
    """How much of what an example says holds for a question: nothing where the two have nothing in common."""
    result: Floats = np.exp(cosines) - np.float32(1.0)  # numpy's expm1 takes ten times as long
    return result


def votes(cosines: Floats, voices: Floats) -> Floats:
    """(n, labels) logarithm of each label's share. cosines: (n, k) with the voters; voices: (k, labels) 0 or 1."""
    shares = np.exp(_SHARPNESS * (cosines - 1.0)) @ voices
    result: Floats = np.log(shares / shares.sum(axis=1, keepdims=True) + _LEAST_VOTES)
    return result


def scope_features(nearest: Floats, logits: Floats, out_of_scope: int) -> Floats:
    """(n, 2): nearness of the nearest example, and how much any intent is excited; logits add up to about 0."""
    intents = np.delete(logits, out_of_scope, axis=1)
    excitement = np.log1p(np.maximum(intents.max(axis=1), 0.0))
    result: Floats = np.stack([nearest, excitement], axis=1)
    return result


def with_scope(probabilities: Floats, in_scope: Floats, out_of_scope: int) -> Floats:
    """What is not in scope belongs to the label `out_of_scope` (its index), whatever the others say."""
    result: Floats = probabilities * in_scope[:, None]
    result[:, out_of_scope] += 1.0 - in_scope
    return result


def calibrated(probabilities: Floats, calibration: Floats) -> Floats:
    """(n, labels). The best label's probability is corrected and stays the best; the others share what it leaves."""
    rows = np.arange(len(probabilities))
    best = probabilities.argmax(axis=1)
    top = probabilities[rows, best]
    corrected = bent(sigmoid(calibration[0] * log_odds(top) + calibration[1]), calibration[2])
    others = probabilities / np.maximum(1.0 - top, 1e-7)[:, None]  # each one's part of what the best leaves
    others[rows, best] = 0.0
    second = others.max(axis=1)
    corrected = np.maximum(corrected, second / (1.0 + second))  # an equal share with the second one, at the least
    result: Floats = others * (1.0 - corrected)[:, None]
    result[rows, best] = corrected
    return result


def bent(confidence: Floats, sure: float) -> Floats:
    """So that `sure`, which is `SURE` or above, becomes `SURE`; the order stays."""
    known, wanted = [0.0, _BENT_FROM, sure, 1.0], [0.0, _BENT_FROM, SURE, 1.0]
    result: Floats = np.interp(confidence, known, wanted).astype(np.float32)
    return result


def log_odds(probability: Floats) -> Floats:
    result: Floats = np.log(np.maximum(probability, 1e-7)) - np.log(np.maximum(1.0 - probability, 1e-7))
    return result


def labels_of(folder: Path) -> frozenset[str]:
    """Of a saved head, without loading it. Raises `IntentDataError`."""
    return frozenset(_read_description(folder)["labels"])


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / _DESCRIPTION_FILE
    try:
        description: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise IntentDataError(f"there is no intent head in {folder}: train one (raydesk intents train)") from error
    except (OSError, ValueError) as error:
        raise IntentDataError(f"{file} is damaged: {error}") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise IntentDataError(f"{file} is not of format {FORMAT}: train the head again (raydesk intents train)")
    if missing := {"embedder", "labels", "sha256"} - description.keys():
        raise IntentDataError(f"{file} is damaged: it lacks {', '.join(sorted(missing))}")
    return description


def _read_arrays(file: Path, description: Mapping[str, Any]) -> tuple[HeadArrays, Changes]:
    try:
        if _sha256(file) != description["sha256"]:
            raise IntentDataError(f"{file} is damaged: its checksum is not the one that was written with it")
        with np.load(file, allow_pickle=False) as archive:
            arrays = HeadArrays(**{name: archive[name] for name in HeadArrays.__slots__})
            names = [name for name in archive.files if name.startswith(_CHANGE)]
            changes = {name.removeprefix(_CHANGE): archive[name] for name in names}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise IntentDataError(f"{file} is missing or damaged: {error}") from error
    if arrays.spelling_weights.shape != (len(description["labels"]), SPELLING_DIM):
        raise IntentDataError(f"{file} does not fit its description: train the head again (raydesk intents train)")
    return arrays, changes


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
