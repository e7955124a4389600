"""The intent head: multinomial logistic regression over query embeddings, with honest confidence.

Training (scikit-learn) happens once per company: `python -m models.intent_head --intents FILE --encoder FOLDER --out
FOLDER`. Prediction is two matrix products in numpy. Knows vectors and labels; what is done about a label is not known
here.
"""

from __future__ import annotations

import argparse
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import yaml
from numpy.typing import NDArray

from models.embedder import PRECISIONS, EncoderConfig, ModelLoadError
from models.protocols import OUT_OF_SCOPE, Embedder, IntentPrediction, Vectors

Floats = NDArray[np.float32]

# sklearn's C, on standardised features: best of 0.005-0.5 on Banking77, with 12 as with 130 examples per intent.
_INVERSE_PENALTY = 0.02
_FOLDS = 5
_MIN_EXAMPLES = _FOLDS  # per label, so that every fold holds out one of it
_SCALE_BOUNDS = (-3.0, 5.0)  # natural logarithm of the factor on the logits

# A question is far away if its nearest example is less similar to it than examples of different intents commonly are
# to each other (their 10 % quantile; the examples of one intent may be near-copies, so they cannot be the measure).
# On subsets of Banking77 that took 1 % of new in-scope questions and 20 of 20 unrelated ones ("1+1=?"). Far questions
# keep a tenth of their in-scope probability: with one question in ten out of scope, Bayes gives
# 0.01 * 0.9 / (0.01 * 0.9 + 1.0 * 0.1), which is about 0.1.
_FAR_QUANTILE = 0.1
_FAR_FACTOR = 0.1
_MAX_REFERENCES = 1000  # examples kept for that; 1.5 MB and 0.1 ms at 384 dimensions

_NEVER = -1e4  # a logit whose softmax is 0

_FORMAT = 1
_ARRAYS_FILE = "head.npz"
_DESCRIPTION_FILE = "head.json"


class IntentDataError(ValueError):
    """Examples or a saved head that cannot be used; the message names the place."""


@dataclass(frozen=True, slots=True)
class HeadArrays:
    """What training found. Standardisation and temperature are folded into weights and bias."""

    weights: Floats  # (labels, dim)
    bias: Floats  # (labels,)
    references: Floats  # (m, dim) in-scope examples, L2-normalised
    far_similarity: Floats  # () cosine similarity to the nearest reference below which a question is far away


class LinearIntentHead:
    """softmax(weights @ embedding + bias), and `out_of_scope` for what is far from every example."""

    def __init__(self, labels: Sequence[str], arrays: HeadArrays, embedder_identity: str) -> None:
        self._labels = tuple(labels)
        self._arrays = arrays
        self._embedder_identity = embedder_identity
        self._out_of_scope = self._labels.index(OUT_OF_SCOPE)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def embedder_identity(self) -> str:
        """Identity of the embedder whose vectors this head was trained on."""
        return self._embedder_identity

    def predict(self, embeddings: Vectors) -> list[IntentPrediction]:
        if len(embeddings) == 0:
            return []
        probabilities = self._probabilities(embeddings)
        top = np.argsort(probabilities, axis=1, kind="stable")[:, -2:]
        return [self._prediction(row, *pair) for row, pair in zip(probabilities, top, strict=True)]

    def _probabilities(self, embeddings: Vectors) -> Floats:
        probabilities = _softmax(embeddings @ self._arrays.weights.T + self._arrays.bias)  # (n, labels)
        nearest = (embeddings @ self._arrays.references.T).max(axis=1)  # (n,)
        far = nearest < self._arrays.far_similarity
        probabilities[far] *= _FAR_FACTOR
        probabilities[far, self._out_of_scope] += 1.0 - _FAR_FACTOR
        return probabilities

    def _prediction(self, row: Floats, second: int, first: int) -> IntentPrediction:
        confidence = float(row[first])
        return IntentPrediction(
            self._labels[first], confidence, margin=confidence - float(row[second]), runner_up=self._labels[second]
        )

    def save(self, folder: Path) -> None:
        """Writes two files, none of them pickled."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self._arrays, name) for name in HeadArrays.__slots__}
        np.savez(folder / _ARRAYS_FILE, allow_pickle=False, **arrays)
        description = {"format": _FORMAT, "embedder": self._embedder_identity, "labels": self._labels}
        (folder / _DESCRIPTION_FILE).write_text(json.dumps(description, indent=2, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, folder: Path, embedder_identity: str) -> Self:
        """Reads what `save` wrote; refuses a head trained on another embedder, whose vectors mean other things."""
        description = _read_description(folder)
        if description["embedder"] != embedder_identity:
            raise IntentDataError(
                f"the intent head in {folder} was trained on {description['embedder']!r}, but the embedder is "
                f"{embedder_identity!r}: train it again (python -m models.intent_head)"
            )
        return cls(description["labels"], _read_arrays(folder / _ARRAYS_FILE), embedder_identity)


def _softmax(logits: Floats) -> Floats:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / _DESCRIPTION_FILE
    try:
        description: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise IntentDataError(
            f"there is no intent head in {folder}: train one (python -m models.intent_head)"
        ) from error
    except json.JSONDecodeError as error:
        raise IntentDataError(f"{file} is damaged: {error}") from error
    if description.get("format") != _FORMAT:
        raise IntentDataError(f"{file} has format {description.get('format')!r}, not {_FORMAT}: train the head again")
    return description


def _read_arrays(file: Path) -> HeadArrays:
    try:
        with np.load(file, allow_pickle=False) as archive:
            return HeadArrays(**{name: archive[name] for name in HeadArrays.__slots__})
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise IntentDataError(f"{file} is missing or damaged: {error}") from error


# --- training ---------------------------------------------------------------------------------------------------


def train_intent_head(embedder: Embedder, examples: Mapping[str, Sequence[str]], seed: int = 0) -> LinearIntentHead:
    """A head for these labels and `out_of_scope`, whether or not that one has examples. 10,000 examples: 3 s.

    The temperature is fitted to logits of examples held out by cross-validation; logits of the training examples
    themselves would make the head far too sure.
    """
    _check_examples(examples)
    labels = sorted(examples)
    texts = [text for label in labels for text in examples[label]]
    targets = np.repeat(np.arange(len(labels)), [len(examples[label]) for label in labels])  # (n,)
    embeddings = embedder.embed_queries(texts)  # (n, dim)
    return fit_intent_head(embeddings, targets, labels, embedder.identity, seed)


def fit_intent_head(
    embeddings: Vectors, targets: NDArray[np.int_], labels: Sequence[str], embedder_identity: str, seed: int = 0
) -> LinearIntentHead:
    """`train_intent_head` for examples that are embedded already; `targets` are indexes into sorted `labels`."""
    scale = _calibration_scale(_held_out_logits(embeddings, targets, seed), targets)
    weights, bias = _fit_linear(embeddings, targets)
    chosen = _choose_references(targets, labels, seed)
    all_labels, weights, bias = _with_out_of_scope(labels, scale * weights, scale * bias)
    arrays = HeadArrays(
        weights=weights.astype(np.float32),
        bias=bias.astype(np.float32),
        references=embeddings[chosen],
        far_similarity=np.array(_far_similarity(embeddings[chosen], targets[chosen]), dtype=np.float32),
    )
    return LinearIntentHead(all_labels, arrays, embedder_identity)


def _check_examples(examples: Mapping[str, Sequence[str]]) -> None:
    if len(examples.keys() - {OUT_OF_SCOPE}) < 2:
        raise IntentDataError(f"training needs at least two intents besides {OUT_OF_SCOPE!r}")
    owner: dict[str, str] = {}
    for label, texts in examples.items():
        if len(set(texts)) < _MIN_EXAMPLES:
            raise IntentDataError(
                f"intent {label!r} has {len(set(texts))} different examples; it needs at least {_MIN_EXAMPLES}"
            )
        for text in texts:
            if owner.setdefault(text, label) != label:
                raise IntentDataError(f"{text!r} is an example of both {owner[text]!r} and {label!r}")


def _fit_linear(embeddings: Vectors, targets: NDArray[np.int_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights (labels, dim) and bias (labels,) on raw embeddings, uncalibrated; targets must be 0, 1, 2 …"""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
    regression = LogisticRegression(C=_INVERSE_PENALTY, max_iter=500, tol=1e-3)
    regression.fit((embeddings - mean) / deviation, targets)
    weights, bias = regression.coef_, regression.intercept_
    if len(weights) == 1:  # two labels: sklearn keeps one logit, of the second against the first
        weights, bias = np.vstack([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    weights = weights / deviation
    return weights, bias - weights @ mean


def _held_out_logits(embeddings: Vectors, targets: NDArray[np.int_], seed: int) -> NDArray[Any]:
    from sklearn.model_selection import StratifiedKFold

    logits = np.zeros((len(targets), targets.max() + 1))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    for rest, held_out in folds.split(embeddings, targets):
        weights, bias = _fit_linear(embeddings[rest], targets[rest])
        logits[held_out] = embeddings[held_out] @ weights.T + bias
    return logits


def _calibration_scale(logits: NDArray[Any], targets: NDArray[np.int_]) -> float:
    """The factor (1 / temperature) that makes the held-out logits most likely."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def loss(log_scale: float) -> float:
        log_probabilities = log_softmax(logits * np.exp(log_scale), axis=1)
        return -float(log_probabilities[np.arange(len(targets)), targets].mean())

    return float(np.exp(minimize_scalar(loss, bounds=_SCALE_BOUNDS, method="bounded").x))


def _with_out_of_scope(
    labels: Sequence[str], weights: NDArray[Any], bias: NDArray[Any]
) -> tuple[list[str], NDArray[Any], NDArray[Any]]:
    """Adds the label, with probability 0 from the regression, where it had no examples."""
    if OUT_OF_SCOPE in labels:
        return list(labels), weights, bias
    all_labels = sorted([*labels, OUT_OF_SCOPE])
    at = all_labels.index(OUT_OF_SCOPE)
    return all_labels, np.insert(weights, at, 0.0, axis=0), np.insert(bias, at, _NEVER)


def _choose_references(targets: NDArray[np.int_], labels: Sequence[str], seed: int) -> NDArray[np.int_]:
    """Indexes of in-scope examples: all of them, or a random sample where there are many."""
    in_scope = np.array([label != OUT_OF_SCOPE for label in labels])
    candidates: NDArray[np.int_] = np.flatnonzero(in_scope[targets])
    if len(candidates) <= _MAX_REFERENCES:
        return candidates
    return np.sort(np.random.default_rng(seed).choice(candidates, _MAX_REFERENCES, replace=False))


def _far_similarity(references: Floats, targets: NDArray[np.int_]) -> float:
    similarities = references @ references.T  # (m, m)
    similarities[targets[:, None] == targets[None, :]] = -1.0
    return float(np.quantile(similarities.max(axis=1), _FAR_QUANTILE))


# --- files and command line -------------------------------------------------------------------------------------


def load_examples(file: Path) -> dict[str, list[str]]:
    """Label to examples, from `intents: [{name, description, examples}]`; other keys are for other readers."""
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise IntentDataError(f"there is no file {file}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise IntentDataError(f"{file} is not valid YAML: {error}") from error
    intents = document.get("intents") if isinstance(document, dict) else None
    if not isinstance(intents, list):
        raise IntentDataError(f"{file} needs a list under 'intents'")
    examples: dict[str, list[str]] = {}
    for number, intent in enumerate(intents, start=1):
        name, texts = _read_intent(intent, f"{file}, intent {number}")
        if name in examples:
            raise IntentDataError(f"{file} has two intents named {name!r}")
        examples[name] = texts
    return examples


def _read_intent(intent: object, place: str) -> tuple[str, list[str]]:
    name = intent.get("name") if isinstance(intent, dict) else None
    if not isinstance(intent, dict) or not isinstance(name, str) or not name:
        raise IntentDataError(f"{place}: needs a 'name'")
    texts = intent.get("examples")
    if not isinstance(texts, list) or not texts:
        raise IntentDataError(f"{place} ({name}): needs a list of 'examples'")
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise IntentDataError(f"{place} ({name}): {text!r} is not a text; put it in quotes")
    return name, texts


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        examples = load_examples(options.intents)
        print(f"{sum(map(len, examples.values()))} examples of {len(examples)} intents", flush=True)
        embedder = EncoderConfig(
            model=options.encoder,
            query_prefix=options.query_prefix,
            passage_prefix=options.passage_prefix,
            pooling=options.pooling,
            max_tokens=options.max_tokens,
            precision=options.precision,
            threads=options.threads,
        ).load()
        print(f"encoder {embedder.identity} loaded; training", flush=True)
        train_intent_head(embedder, examples, options.seed).save(options.out)
    except (IntentDataError, ModelLoadError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"intent head saved in {options.out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = EncoderConfig("")
    parser = argparse.ArgumentParser(
        prog="python -m models.intent_head",
        description="Train the intent head on a company's examples. Give the encoder's options as the application "
        "uses them: a head works only with the embedder it was trained on.",
    )
    parser.add_argument("--intents", type=Path, required=True, help="intents.yaml: intents: [{name, examples}]")
    parser.add_argument("--encoder", required=True, help="encoder folder, or its id on the Hugging Face hub")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the head to")
    parser.add_argument(
        "--query-prefix", default=defaults.query_prefix, help="put before questions (default: %(default)r)"
    )
    parser.add_argument(
        "--passage-prefix", default=defaults.passage_prefix, help="put before passages (default: %(default)r)"
    )
    parser.add_argument("--pooling", choices=["mean", "cls"], default=defaults.pooling)
    parser.add_argument(
        "--max-tokens", type=int, default=defaults.max_tokens, help="longer texts are cut (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default=defaults.precision)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the cross-validation's split (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
