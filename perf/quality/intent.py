"""Intents beside their peer: `python -m perf.quality.intent --train T.csv --test E.csv [--oos-label oos]`.

Trains a head as `raydesk intents train` does and asks it the test questions (without --test, a fifth of the training
file that is held out): accuracy, macro-F1, calibration, coverage and precision from a confidence of 0.9 on, and whether
it can be told what no intent covers. Where the test has no such questions, some intents are held out: a second head is
trained without them, and asked about them. The peer of the same run is all-MiniLM-L6-v2 in fp32 with logistic
regression; both answer the same texts on as many threads. Prints tables; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.intents import print_report
from models.bundled import ensure_encoder
from models.embedder import PRECISIONS, EncoderConfig
from models.intent_examples import Example, IntentDataError, read_examples
from models.intent_model import IntentModel
from models.intent_report import auroc, report, scope_scores
from models.intent_training import train_intent_head
from models.protocols import OUT_OF_SCOPE, Embedder, IntentPrediction
from perf.minilm import MiniLMClassifier, ensure_minilm, load_minilm
from perf.provenance import ROOT, provenance

_TIMED = 2000  # questions at most
_ROUNDS = 3  # of both, in turn; the best counts
_LEFT_OUT = 8  # one intent in so many, where the test has nothing out of scope


def main() -> int:
    options = _parser().parse_args()
    origin = provenance()
    try:
        train = read_examples(options.train, options.oos_label)
        if options.test is None:
            train, test = _split(train, options.seed)
        else:
            test = read_examples(options.test, options.oos_label)
        embedder = _encoder(options).load()
        started = time.monotonic()
        fine_tune = {"auto": None, "yes": True, "no": False}[options.fine_tune]
        training = train_intent_head(embedder, train, seed=options.seed, progress=_tell, fine_tune=fine_tune)
        train_s = time.monotonic() - started
        model = IntentModel(embedder, training.head)
        predictions = _ask(model, test)
        left_out = {} if _any_out_of_scope(test) else _leave_intents_out(embedder, train, test, options.seed)
    except IntentDataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    texts, truths = [each.text for each in test], [each.label for each in test]
    result = report(texts, truths, predictions)
    print_report(result, f"\n{options.test or 'held out'}")
    _tell("the peer")
    by, embed = load_minilm(ensure_minilm(options.baseline), options.threads)
    peer = MiniLMClassifier(embed, [each.text for each in train], [each.label for each in train])
    meant = [truth != OUT_OF_SCOPE for truth in truths]
    right = [said == truth for said, truth in zip(peer.predict(texts), truths, strict=True)]
    speeds = _speeds([model.understand, peer.predict], texts[:_TIMED])
    at = next(each for each in result.at if each.threshold == 0.9)
    out = {
        "accuracy": result.accuracy,
        "macro_f1": result.macro_f1,
        "ece": result.ece,
        "coverage_at_0.9": at.coverage,
        "precision_at_0.9": at.precision,
        "oos_auroc": result.oos_auroc,
        "oos_recall": result.oos_recall,
        "oos_kind": "given",
        **left_out,
        "queries_per_s": speeds[0],
        "baseline_accuracy": float(np.array(right)[meant].mean()),
        "baseline_queries_per_s": speeds[1],
        "queries_ratio": speeds[0] / speeds[1],
        "baseline_by": by,
        "train_s": train_s,
        "threads": options.threads,
        "encoder": embedder.identity,
        **origin,
    }
    _print(out)
    print(json.dumps({name: None if _is_nan(value) else value for name, value in out.items()}))
    return 0


def _encoder(options: argparse.Namespace) -> EncoderConfig:
    model = options.encoder or str(ensure_encoder(ROOT / ".raydesk" / "models", _tell))
    return EncoderConfig(model, precision=options.precision, threads=options.threads)


def _split(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    order = np.random.default_rng(seed).permutation(len(examples))
    fifth = len(examples) // 5
    return [examples[i] for i in order[fifth:]], [examples[i] for i in order[:fifth]]


def _any_out_of_scope(examples: Sequence[Example]) -> bool:
    return any(example.label == OUT_OF_SCOPE for example in examples)


def _ask(model: IntentModel, questions: Sequence[Example]) -> list[IntentPrediction]:
    return model.understand([each.text for each in questions])[1]


def _leave_intents_out(
    embedder: Embedder, train: Sequence[Example], test: Sequence[Example], seed: int
) -> dict[str, Any]:
    """What a head that has never seen some of the test's intents makes of them: related, so harder than small talk.

    Not tuned: whether a question is in scope is judged by the plain encoder anyway.
    """
    labels = sorted({each.label for each in train} - {OUT_OF_SCOPE})
    gone = set(np.random.default_rng(seed).choice(labels, max(1, len(labels) // _LEFT_OUT), replace=False))
    if len(labels) - len(gone) < 2:
        return {"oos_kind": "none: too few intents to hold any out"}
    _tell(f"a second head, without {len(gone)} of the {len(labels)} intents")
    kept = [each for each in train if each.label not in gone]
    model = IntentModel(embedder, train_intent_head(embedder, kept, seed=seed, fine_tune=False).head)
    inside = _ask(model, [each for each in test if each.label not in gone])
    outside = _ask(model, [each for each in test if each.label in gone])
    if not inside or not outside:
        return {"oos_kind": "none: the test has too few intents"}
    return {
        "oos_auroc": auroc(scope_scores(inside), scope_scores(outside)),
        "oos_recall": float(np.mean([each.label == OUT_OF_SCOPE for each in outside])),
        "oos_kind": f"held out: {len(gone)} of the intents",
    }


def _speeds(ways: Sequence[Callable[[list[str]], object]], texts: list[str]) -> list[float]:
    """Questions/s of each way, all texts at once."""
    best = [math.inf] * len(ways)
    for _ in range(_ROUNDS):
        for number, way in enumerate(ways):
            started = time.perf_counter()
            way(texts)
            best[number] = min(best[number], time.perf_counter() - started)
    return [len(texts) / duration_s for duration_s in best]


def _print(out: dict[str, Any]) -> None:
    print(f"\n{'':<28}{'this head':>12}{'MiniLM + LR':>14}")
    print(f"{'accuracy':<28}{out['accuracy']:>12.1%}{out['baseline_accuracy']:>14.1%}")
    print(f"{'questions/s, all at once':<28}{out['queries_per_s']:>12.0f}{out['baseline_queries_per_s']:>14.0f}")
    if out["oos_auroc"] is not None:
        print(f"out of scope ({out['oos_kind']}): AUROC {out['oos_auroc']:.3f}, recall {out['oos_recall']:.1%}")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _tell(line: str) -> None:
    print(f"- {line}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m perf.quality.intent", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True, help="CSV with the columns text,category (or YAML)")
    parser.add_argument("--test", type=Path, help="the same, of questions to ask (default: a fifth of --train)")
    parser.add_argument("--oos-label", default=OUT_OF_SCOPE, help="category of what no intent covers (%(default)s)")
    parser.add_argument("--encoder", default="", help="folder or hub id, of the E5 kind (default: the bundled one)")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="of the encoder (%(default)s)")
    parser.add_argument("--baseline", type=Path, default=ROOT / ".raydesk" / "perf" / "all-MiniLM-L6-v2")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of both (%(default)s)")
    parser.add_argument("--fine-tune", choices=["auto", "yes", "no"], default="auto", help="the encoder's top layers")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    sys.exit(main())
