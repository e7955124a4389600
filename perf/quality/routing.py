"""What routing saves: `python -m perf.quality.routing --log LOG.jsonl`.

The log holds, one JSON object a line, how well a small and a large model answered each question:
{"question", "features" (optional: as the turn log has them, `route_features`), "small_quality", "large_quality" (0-1),
"small_cost", "large_cost" (one unit), "embedding" (optional)}. Of a question without features is known what its words
alone tell; embeddings that are missing are made with the bundled encoder.

The measure is the cost at a share (95 %) of the quality of always asking the large model. Ours (the fitted model, and
the weights set by hand) stands beside always-small, always-large, a random choice, kNN on embeddings (RouterBench's
baseline; the best of k = 5, 10, 20 and 40 in hindsight, which favours it) and an oracle. Everything fitted is judged on
folds that it has not seen. "swept": the cheapest threshold that reaches the target is found in hindsight, as such
tables are usually made; "chosen": it was chosen on the training folds, as it would be in use, so the target can be
missed. Prints a table; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import timeit
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from deployments.answering.query import build_query, normalize
from deployments.answering.routing import BUILT_IN, Router, TierView, features
from deployments.answering.types import ChatRequest, Principal, RetrievedChunk
from deployments.routing_fit import fit
from deployments.routing_outcomes import Outcome, OutcomesError, Tally, cheapest, read_outcomes, tally
from deployments.settings import RoutingSettings
from ingestion.chunk import Chunk
from models.bundled import ensure_encoder
from models.embedder import EncoderConfig
from models.protocols import ChatMessage
from perf.provenance import ROOT, provenance
from perf.quality.vectors import KeptVectors

_FOLDS = 5
_NEIGHBOURS = (5, 10, 20, 40)
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """One way to choose."""

    name: str
    how: str  # "", "swept" or "chosen"
    quality: float  # share of that of always asking the large model
    cost: float  # share of its cost
    small_share: float


def row(name: str, how: str, found: Tally, large: Tally) -> Row:
    return Row(name, how, found.quality / large.quality, found.cost / large.cost, found.small_share)


def rows_of(outcomes: Sequence[Outcome], vectors: Matrix, target: float, seed: int) -> list[Row]:
    """vectors: (n, dim), L2-normalised. target: share of the large model's quality."""
    n = len(outcomes)
    small, large = tally(outcomes, [True] * n), tally(outcomes, [False] * n)
    labels = np.array([each.is_good_enough for each in outcomes])
    ours, by_neighbours = np.zeros(n), np.zeros((n, len(_NEIGHBOURS)))
    chosen, chosen_by_neighbours = np.zeros(n, bool), np.zeros((n, len(_NEIGHBOURS)), bool)
    groups = [normalize(each.question) for each in outcomes]
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(vectors, labels, groups):
        known = [outcomes[place] for place in train]
        model = fit(known, target, seed).model
        ours[test] = [model.score(model.parts(outcomes[place].features)) for place in test]
        chosen[test] = ours[test] >= model.threshold
        for column, k in enumerate(_NEIGHBOURS):
            by_neighbours[test, column] = _knn(vectors[train], labels[train], vectors[test], k)
            own = _knn(vectors[train], labels[train], vectors[train], k, leave_out=True)
            least = cheapest(known, own.tolist(), target)
            chosen_by_neighbours[test, column] = by_neighbours[test, column] >= least
    by_hand = [BUILT_IN.score(BUILT_IN.parts(each.features)) for each in outcomes]

    def swept(name: str, scores: Sequence[float]) -> Row:
        least = cheapest(outcomes, scores, target)
        return row(name, "swept", tally(outcomes, [score >= least for score in scores]), large)

    neighbours = [swept(f"kNN, k = {k}", by_neighbours[:, at].tolist()) for at, k in enumerate(_NEIGHBOURS)]
    at_best = min(range(len(_NEIGHBOURS)), key=lambda at: neighbours[at].cost)
    knn = tally(outcomes, chosen_by_neighbours[:, at_best].tolist())
    return [
        row("always small", "", small, large),
        row("always large", "", large, large),
        _random(small, large, target),
        neighbours[at_best],
        swept("by hand", by_hand),
        swept("fitted", ours.tolist()),
        swept("oracle", [float(label) for label in labels]),
        row(neighbours[at_best].name, "chosen", knn, large),
        row("fitted", "chosen", tally(outcomes, chosen.tolist()), large),
    ]


def _knn(train: Matrix, labels: NDArray[np.bool_], asked: Matrix, k: int, leave_out: bool = False) -> Matrix:
    """(n,) shares of the nearest questions that the small model answered well enough; leave_out: but itself."""
    near = asked @ train.T
    if leave_out:
        np.fill_diagonal(near, -np.inf)
    nearest = np.argsort(-near, axis=1, kind="stable")[:, : min(k, len(train) - leave_out)]
    shares: Matrix = labels[nearest].mean(axis=1)
    return shares


def _random(small: Tally, large: Tally, target: float) -> Row:
    """As many questions for the small model as the target leaves, whichever they are."""
    lost = large.quality - small.quality
    share = min(1.0, (1 - target) * large.quality / lost) if lost > 0 else 1.0
    mixed = Tally(large.quality - share * lost, large.cost + share * (small.cost - large.cost), share)
    return row("random", "swept", mixed, large)


def decision_us() -> float:
    """Microseconds from question and evidence to the route; the best of some tries, a question it has not seen."""
    text = "Is express better than standard, and how much would 3 parcels to Norway cost if I return one of them?"
    principal = Principal("demo", frozenset({"public"}), "perf")
    request = ChatRequest(principal, (ChatMessage("user", text),), "help", "r", "t", "c")
    chunks = [
        Chunk(f"c{n}", f"d{n}", 0, "passage", f"{text} {n} " * 8, f"Page {n}", "en", "public", "a.md") for n in range(5)
    ]
    evidence = [RetrievedChunk(chunk, 1.0, similarity=0.9, lexical_score=0.4) for chunk in chunks]
    query, router = build_query(request), Router(RoutingSettings())
    tiers = [TierView("small"), TierView("large")]

    def decide() -> None:
        router.choose(tiers, lambda: features(query, None, evidence))

    return min(timeit.repeat(decide, number=500, repeat=5)) / 500 * 1e6


def _vectors(outcomes: Sequence[Outcome]) -> Matrix:
    if all(each.embedding for each in outcomes):
        vectors = np.array([each.embedding for each in outcomes], dtype=np.float64)
    else:
        model = str(ensure_encoder(ROOT / ".raydesk" / "models", lambda line: print(line, file=sys.stderr)))
        recipe = EncoderConfig(model, threads=os.cpu_count() or 1).located()
        kept = KeptVectors(ROOT / ".raydesk" / "perf" / "vectors", recipe)
        vectors = kept.queries([each.question for each in outcomes]).astype(np.float64)
    normed: Matrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normed


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.quality.routing",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--log", type=Path, default=ROOT / "perf" / "data" / "routing.jsonl", help="(%(default)s)")
    parser.add_argument("--target-quality", type=float, default=0.95, help="share of the large model's (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the folds (%(default)s)")
    options = parser.parse_args()
    origin = provenance()
    if not 0 < options.target_quality <= 1:
        parser.error("--target-quality is over 0 and at most 1")
    try:
        outcomes = read_outcomes(options.log)
        rows = rows_of(outcomes, _vectors(outcomes), options.target_quality, options.seed)
    except OutcomesError as error:
        sys.exit(str(error))
    decision = decision_us()
    print(
        f"{len(outcomes)} questions, {options.log.name}; shares of what always asking the large model gives and costs\n"
    )
    print(f"{'choice':<16}{'':<8}{'quality':>9}{'cost':>9}{'small writes':>14}")
    for each in rows:
        print(f"{each.name:<16}{each.how:<8}{each.quality:>9.1%}{each.cost:>9.1%}{each.small_share:>14.1%}")
    print(f"\none decision: {decision:.0f} µs")
    result = {
        "benchmark": "routing",
        **origin,
        "log": options.log.name,
        "questions": len(outcomes),
        "target_quality": options.target_quality,
        "decision_us": round(decision, 1),
        "rows": [asdict(each) for each in rows],
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
