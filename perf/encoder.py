"""How good and how fast encoders and their intent heads are: `python -m perf.encoder`.

Intents: Banking77 (a held-out fifth of its training file), and the sample company's questions where its files are
there, against a peer of the same run (character n-grams with logistic regression). Speed, and what a precision costs:
cosine to fp32, and how often the title of a rho-bank article finds it. Several encoders can be compared in one run.
Prints tables; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deployments.answering.rules_file import load_rules
from models.bundled import ensure_encoder
from models.embedder import PRECISIONS, BertEmbedder, EncoderConfig, Precision, fast_precision
from models.intent_examples import examples_of, read_examples
from models.intent_training import train_intent_head
from models.protocols import OUT_OF_SCOPE, Vectors
from perf.provenance import provenance

_ROOT = Path(__file__).parents[1]
_BANKING77 = _ROOT.parent / "shared" / "data" / "banking77" / "train.csv"
_COMPANY_INTENTS = _ROOT / "cluster" / "sample_company" / "intents.yaml"
_COMPANY_QUESTIONS = _ROOT / "perf" / "data" / "company_questions.jsonl"
_ARTICLES = _ROOT.parent / "shared" / "data" / "rho-bank" / "documents.jsonl"
_MAX_ARTICLES = 300
_SURE = 0.9  # confidence from which a rule would answer

# Question to (label, confidence), for many at once.
Classify = Callable[[Sequence[str]], list[tuple[str, float]]]
Train = Callable[[dict[str, list[str]]], Classify]


@dataclass(frozen=True, slots=True)
class IntentScore:
    """One classifier on one set of questions; shares are 0-1. The truth "" means that no rule should answer."""

    questions: str
    classifier: str
    n: int
    accuracy: float  # of the label at any confidence, over the questions that have one
    sure_coverage: float  # share of all questions answered at confidence >= 0.9, out of scope aside
    sure_precision: float  # share of those that are right
    mean_confidence: float  # equals accuracy where confidence is honest


def score(name: str, classifier: str, truths: Sequence[str], predictions: list[tuple[str, float]]) -> IntentScore:
    labels = np.array([label for label, _ in predictions])
    confidences = np.array([confidence for _, confidence in predictions])
    truth = np.array(truths)
    labelled = truth != ""
    right = labels == truth
    sure = (confidences >= _SURE) & (labels != OUT_OF_SCOPE)
    return IntentScore(
        questions=name,
        classifier=classifier,
        n=len(truths),
        accuracy=float(right[labelled].mean()) if labelled.any() else float("nan"),
        sure_coverage=float(sure.mean()),
        sure_precision=float(right[sure].mean()) if sure.any() else float("nan"),
        mean_confidence=float(confidences[labelled].mean()) if labelled.any() else float("nan"),
    )


def trainers(embedders: dict[str, BertEmbedder]) -> dict[str, Train]:
    """By the name of the encoder, and the peer's."""
    return {name: partial(_train_head, each) for name, each in embedders.items()} | {"character n-grams": _train_ngrams}


def _train_head(embedder: BertEmbedder, examples: dict[str, list[str]]) -> Classify:
    head = train_intent_head(embedder, examples_of(examples), fine_tune=False).head
    return lambda texts: [(p.label, p.confidence) for p in head.predict(texts, embedder.embed_queries(texts))]


def _train_ngrams(examples: dict[str, list[str]]) -> Classify:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = [text for group in examples.values() for text in group]
    labels = [label for label, group in examples.items() for _ in group]
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=1)
    pipeline = make_pipeline(vectorizer, LogisticRegression(C=20.0, max_iter=300, tol=1e-3)).fit(texts, labels)

    def classify(questions: Sequence[str]) -> list[tuple[str, float]]:
        probabilities = pipeline.predict_proba(questions)
        best = probabilities.argmax(axis=1)
        return [(str(pipeline.classes_[i]), float(row[i])) for i, row in zip(best, probabilities, strict=True)]

    return classify


def measure_banking77(train: dict[str, Train], per_intent: int | None) -> list[IntentScore]:
    """A fifth held out at random; `per_intent` limits the training examples to what a company might write."""
    with _BANKING77.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    order = np.random.default_rng(0).permutation(len(rows))
    held_out, rest = order[: len(rows) // 5], order[len(rows) // 5 :]
    examples: dict[str, list[str]] = {}
    for i in rest:
        group = examples.setdefault(rows[i]["category"], [])
        if per_intent is None or len(group) < per_intent:
            group.append(rows[i]["text"])
    texts = [rows[i]["text"] for i in held_out]
    truths = [rows[i]["category"] for i in held_out]
    name = "banking77" if per_intent is None else f"banking77, {per_intent} per intent"
    return [score(name, kind, truths, make(examples)(texts)) for kind, make in train.items()]


def measure_company(train: dict[str, Train]) -> list[IntentScore]:
    examples: dict[str, list[str]] = {}
    for example in read_examples(_COMPANY_INTENTS):
        examples.setdefault(example.label, []).append(example.text)
    flows = load_rules(_COMPANY_INTENTS.with_name("rules.yaml"), _SURE, 0.0).intents
    rows = [json.loads(line) for line in _COMPANY_QUESTIONS.read_text("utf-8").splitlines() if line.strip()]
    scores = []
    for kind, make in train.items():
        classify = make(examples)
        for language in sorted({row["language"] for row in rows}):
            chosen = [row for row in rows if row["language"] == language]
            truths = [str(row["expect"].get("intent") or "") for row in chosen]
            # An intent without a flow answers nothing, as sure as it may be: the knowledge does.
            predictions = [
                (label if label in flows else OUT_OF_SCOPE, confidence)
                for label, confidence in classify([row["question"] for row in chosen])
            ]
            scores.append(score(f"company, {language}", kind, truths, predictions))
    return scores


@dataclass(frozen=True, slots=True)
class Speed:
    """One setting of an encoder on this machine."""

    encoder: str
    precision: str
    threads: int
    query_ms: float  # median, one question of about 12 tokens at a time
    passages_per_s: float  # of about 100 tokens, 32 at a time


_QUERY = "Where is my parcel, it should have come on Monday"
_PASSAGE = (
    "Returns are accepted within 30 days of delivery if the item is unused and in its original packaging. Refunds are "
    "issued to the original payment method within five business days. Sale items are excluded. Shipping fees are not "
    "refunded unless the return is due to our error. Contact the service desk with your order number before you send "
    "anything back, and keep the receipt until the refund has arrived. "
)


def measure_speed(encoder: str, config: EncoderConfig) -> Speed:
    embedder = config.load()
    passages = [_PASSAGE + str(n) for n in range(32)]
    return Speed(
        encoder,
        config.precision,
        config.threads,
        query_ms=1000 * _median_s(lambda: embedder.embed_queries([_QUERY]), 30),
        passages_per_s=len(passages) / _median_s(lambda: embedder.embed_passages(passages), 5),
    )


def computed() -> list[Precision]:
    """The precisions that this machine computes with: one that it emulates takes ten times as long."""
    import torch

    fast = fast_precision("cuda" if torch.cuda.is_available() else "cpu")
    return [precision for precision in PRECISIONS if precision != "bf16" or fast == "bf16"]


def _median_s(call: Callable[[], Any], repeats: int) -> float:
    call()  # the first one warms up
    durations_s = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        durations_s.append(time.perf_counter() - started)
    return float(np.median(durations_s))


@dataclass(frozen=True, slots=True)
class PrecisionScore:
    """What a precision loses; the titles of articles are the questions, and each article's text has to be found."""

    precision: str
    articles: int
    passages_per_s: float
    cosine_mean: float  # to the fp32 vector of the same text
    cosine_min: float
    first_hits: float  # share of titles whose own article is nearest, 0-1
    first_five: float
    first_hits_of_fp32_titles: float  # the same where the titles have fp32 vectors: are the two comparable?


def measure_precisions(config: EncoderConfig) -> list[PrecisionScore]:
    """Those that the embedder offers, and int8 as torch can do it: linear layers, their weights by channel."""
    articles = [json.loads(line) for line in _ARTICLES.read_text("utf-8").splitlines()[:_MAX_ARTICLES]]
    titles, texts = [a["title"] for a in articles], [a["content"] for a in articles]
    exact: tuple[Vectors, Vectors] | None = None
    scores = []
    embedders: dict[str, Callable[[], BertEmbedder]] = {
        precision: replace(config, precision=precision).load for precision in computed()
    }
    for name, load in (embedders | {"int8": partial(_int8, config)}).items():
        embedder = load()
        asked = embedder.embed_queries(titles)
        started = time.perf_counter()
        passages = embedder.embed_passages(texts)
        duration_s = time.perf_counter() - started
        exact = exact or (asked, passages)
        cosines = np.concatenate([(asked * exact[0]).sum(axis=1), (passages * exact[1]).sum(axis=1)])
        scores.append(
            PrecisionScore(
                name,
                len(articles),
                passages_per_s=len(texts) / duration_s,
                cosine_mean=float(cosines.mean()),
                cosine_min=float(cosines.min()),
                first_hits=_found(asked, passages, 1),
                first_five=_found(asked, passages, 5),
                first_hits_of_fp32_titles=_found(exact[0], passages, 1),
            )
        )
    return scores


def _int8(config: EncoderConfig) -> BertEmbedder:
    import torch
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic
    from transformers import AutoModel

    embedder = config.load()
    exact = AutoModel.from_pretrained(config.model, dtype=torch.float32, add_pooling_layer=False).eval()
    model = quantize_dynamic(exact, {torch.nn.Linear: per_channel_dynamic_qconfig})
    embedder._model = lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state
    return embedder


def _found(asked: Vectors, passages: Vectors, top_k: int) -> float:
    """Share of rows of `asked` that have the passage of the same row among their nearest."""
    nearest = np.argsort(-(asked @ passages.T), axis=1)[:, :top_k]
    return float((nearest == np.arange(len(asked))[:, None]).any(axis=1).mean())


def _print_tables(scores: list[IntentScore], speeds: list[Speed], precisions: list[PrecisionScore]) -> None:
    print(
        f"{'questions':<26}{'classifier':<24}{'n':>6}{'accuracy':>10}{'cov@0.9':>10}{'prec@0.9':>10}{'mean conf':>11}"
    )
    for s in scores:
        print(
            f"{s.questions:<26}{s.classifier:<24}{s.n:>6}{s.accuracy:>10.3f}{s.sure_coverage:>10.3f}"
            f"{s.sure_precision:>10.3f}{s.mean_confidence:>11.3f}"
        )
    print(f"\n{'encoder':<24}{'precision':<12}{'threads':>8}{'query ms':>10}{'passages/s':>12}")
    for speed in speeds:
        print(
            f"{speed.encoder:<24}{speed.precision:<12}{speed.threads:>8}{speed.query_ms:>10.1f}"
            f"{speed.passages_per_s:>12.1f}"
        )
    if precisions:
        print(
            f"\n{'precision':<12}{'articles':>9}{'passages/s':>12}{'cosine':>10}{'least':>10}{'first hit':>11}"
            f"{'first 5':>10}{'fp32 titles':>13}"
        )
    for p in precisions:
        print(
            f"{p.precision:<12}{p.articles:>9}{p.passages_per_s:>12.1f}{p.cosine_mean:>10.5f}{p.cosine_min:>10.5f}"
            f"{p.first_hits:>11.3f}{p.first_five:>10.3f}{p.first_hits_of_fp32_titles:>13.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.encoder", description=__doc__)
    parser.add_argument(
        "--encoder", action="append", default=[], help="folder or hub id, of the E5 kind (default: the bundled one)"
    )
    parser.add_argument(
        "--plain-encoder", action="append", default=[], help="folder or hub id, trained without prefixes"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="for the intents")
    options = parser.parse_args()
    origin = provenance()
    configs = [EncoderConfig(model, precision=options.precision, threads=2) for model in options.encoder]
    configs += [
        EncoderConfig(model, query_prefix="", passage_prefix="", precision=options.precision, threads=2)
        for model in options.plain_encoder
    ]
    if not configs:
        model = str(ensure_encoder(_ROOT / ".raydesk" / "models", print))
        configs.append(EncoderConfig(model, precision=options.precision, threads=2))

    if len(computed()) < len(PRECISIONS):
        print("left out: bf16, which this machine emulates")
    embedders = {config.identity().partition("@")[0]: config.load() for config in configs}
    speeds = [
        measure_speed(name, replace(config, precision=precision, threads=threads))
        for name, config in zip(embedders, configs, strict=True)
        for precision in computed()
        for threads in (1, 2)
    ]
    train = trainers(embedders)
    scores: list[IntentScore] = []
    if _BANKING77.is_file():
        scores += measure_banking77(train, None) + measure_banking77(train, 12)
    else:
        print(f"left out: Banking77, there is no {_BANKING77}")
    if _COMPANY_INTENTS.is_file() and _COMPANY_QUESTIONS.is_file():
        scores += measure_company(train)
    else:
        print(f"left out: the sample company, which needs {_COMPANY_INTENTS} and {_COMPANY_QUESTIONS}")
    precisions = []
    if _ARTICLES.is_file():
        precisions = measure_precisions(replace(configs[0], threads=2))
    else:
        print(f"left out: what a precision costs, there is no {_ARTICLES}")

    _print_tables(scores, speeds, precisions)
    result = {
        "benchmark": "encoder",
        **origin,
        "encoders": {name: each.identity for name, each in embedders.items()},
        "intents": [asdict(each) for each in scores],
        "speed": [asdict(each) for each in speeds],
        "precision": [asdict(each) for each in precisions],
    }
    # NaN ("no such questions") is not JSON
    print(json.dumps(json.loads(json.dumps(result), parse_constant=lambda _: None)))


if __name__ == "__main__":
    main()
