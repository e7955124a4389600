"""How often the semantic cache is right and wrong: `python -m perf.quality.cache [--pairs FILE.jsonl]`.

Pairs are `{a, b, same: bool, kind}`, one a line: would the answer to `a` do for `b`? Each pair goes through what the
product does with a candidate: the encoder's similarity against the threshold of the cache's settings, then
`same_question`. Beside it stand the best single threshold, tuned on these very pairs (an oracle: no deployed threshold
can know them), and GPTCache's default rule on the same vectors. `--replay LOG.jsonl` sends a stream of questions
through the pipeline and the real room instead (perf/quality/replay.py). Prints a table; the last line is one JSON
document. Vectors are kept in .raydesk/perf/cache_vectors, so a second run takes a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from deployments.answering.cache_policy import closeness, same_question
from deployments.settings import CacheSettings
from models.bundled import ensure_encoder
from models.embedder import EncoderConfig
from perf.provenance import provenance
from perf.quality.replay import BadLogError, Line, Prices, Replay, read_log, stored_forms
from perf.quality.replay import report as replay_report
from perf.quality.vectors import KeptVectors

_ROOT = Path(__file__).parents[2]
_PAIRS = _ROOT / "perf" / "data" / "cache_pairs.jsonl"

# GPTCache is dormant, so its published default is computed and not run: `init_similar_cache` of 0.1.44 judges by
# `SearchDistanceEvaluation`, which hits when `4 - distance >= similarity_threshold * 4`, its threshold 0.8 by default,
# and the distance FAISS's squared Euclidean one (similarity_evaluation/distance.py, adapter/adapter.py). Between
# vectors of length 1 that is 2 - 2 * cosine: a hit from cosine 0.6.
GPTCACHE_SIMILARITY = 1 - (1 - 0.8) * 4 / 2
_ORACLE_WRONG_RATE = 0.01  # what the oracle may always spend; more where ours spends more

Split = Literal["all", "dev", "held_out", "first", "second", "third"]  # what `split` says in our own files


class BadInputError(Exception):
    """A file of pairs cannot be used; the message says which line, and why."""


@dataclass(frozen=True, slots=True)
class Pair:
    a: str
    b: str
    same: bool
    kind: str
    split: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one rule on all pairs; rates are 0-1, None where there is no pair to take one of."""

    true_hit_rate: float | None  # of the pairs with the same answer
    wrong_hit_rate: float | None  # of the pairs with different answers
    wrong_hits_by_kind: dict[str, int]  # each kind of the latter, 0 included


# --- input ---


def read_pairs(path: Path, split: Split = "all") -> list[Pair]:
    """Raises `BadInputError`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: {error}") from error
    pairs = [_pair(f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    chosen = [pair for pair in pairs if split in ("all", pair.split)]
    if not chosen:
        raise BadInputError(f"{path}: there are no pairs in it" + ("" if split == "all" else f" of split {split!r}"))
    return chosen


def _pair(where: str, line: str) -> Pair:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise BadInputError(f"{where}: is not JSON: {error}") from error
    match row:
        case {"a": str(a), "b": str(b), "same": bool(same)} if a.strip() and b.strip():
            return Pair(a, b, same, str(row.get("kind", "")), str(row.get("split", "")))
        case _:
            raise BadInputError(f'{where}: is not {{"a": "…", "b": "…", "same": true or false, "kind": "…"}}')


# --- rules ---


def outcome(pairs: Sequence[Pair], hits: Sequence[bool]) -> Outcome:
    """hits: for each pair, whether the answer to one question was given to the other."""
    same = [hit for pair, hit in zip(pairs, hits, strict=True) if pair.same]
    different = [hit for pair, hit in zip(pairs, hits, strict=True) if not pair.same]
    wrong = Counter({pair.kind: 0 for pair in pairs if not pair.same})
    wrong.update(pair.kind for pair, hit in zip(pairs, hits, strict=True) if hit and not pair.same)
    return Outcome(_rate(same), _rate(different), dict(sorted(wrong.items())))


def by_threshold(pairs: Sequence[Pair], similarities: Sequence[float], threshold: float) -> Outcome:
    return outcome(pairs, [similarity >= threshold for similarity in similarities])


def best_threshold(pairs: Sequence[Pair], similarities: Sequence[float], most_wrong: float) -> float:
    """The lowest one whose wrong-hit rate is at most `most_wrong`; above all similarities when there is none."""
    different = sorted((s for pair, s in zip(pairs, similarities, strict=True) if not pair.same), reverse=True)
    affordable = int(most_wrong * len(different) + 1e-9)  # wrong hits
    bound = different[affordable] if affordable < len(different) else -np.inf  # this one must not be hit
    return min((s for s in similarities if s > bound), default=np.inf)


def product(pairs: Sequence[Pair], similarities: Sequence[float], threshold: float) -> Outcome:
    """As the cache's room takes a candidate, the stored question being `a`."""
    return outcome(
        pairs,
        [s >= threshold and _verified(pair, s, threshold) for pair, s in zip(pairs, similarities, strict=True)],
    )


def _verified(pair: Pair, similarity: float, threshold: float) -> bool:
    return same_question(pair.b, pair.a, closeness(similarity, threshold))


def _rate(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


# --- report ---


def report(pairs: Sequence[Pair], similarities: Sequence[float], threshold: float) -> dict[str, Any]:
    """Prints the table; returns the last line."""
    ours = product(pairs, similarities, threshold)
    most_wrong = max(ours.wrong_hit_rate or 0.0, _ORACLE_WRONG_RATE)
    best = best_threshold(pairs, similarities, most_wrong)
    oracle = by_threshold(pairs, similarities, best)
    gptcache = by_threshold(pairs, similarities, GPTCACHE_SIMILARITY)
    rows = {
        f"threshold {threshold:g} and verifier": ours,
        f"threshold {threshold:g} alone": by_threshold(pairs, similarities, threshold),
        f"oracle threshold {best:.4f}": oracle,
        f"GPTCache's default (cosine {GPTCACHE_SIMILARITY:g})": gptcache,
    }
    print(f"{'rule':40} {'true hits':>10} {'wrong hits':>10}  wrong hits by kind")
    for name, each in rows.items():
        kinds = ", ".join(f"{kind} {count}" for kind, count in each.wrong_hits_by_kind.items() if count)
        print(f"{name:40} {_percent(each.true_hit_rate)} {_percent(each.wrong_hit_rate)}  {kinds or '-'}")
    _print_true_hits_by_kind(pairs, similarities, threshold)
    return {
        "pairs": len(pairs),
        "true_hit_rate": ours.true_hit_rate,
        "wrong_hit_rate": ours.wrong_hit_rate,
        "wrong_hits_by_kind": ours.wrong_hits_by_kind,
        "oracle_true_hit_rate": oracle.true_hit_rate,
        "oracle_wrong_hit_rate": oracle.wrong_hit_rate,
        "gptcache_true_hit_rate": gptcache.true_hit_rate,
        "gptcache_wrong_hit_rate": gptcache.wrong_hit_rate,
    }


def _print_true_hits_by_kind(pairs: Sequence[Pair], similarities: Sequence[float], threshold: float) -> None:
    kinds = Counter(pair.kind for pair in pairs if pair.same)
    for kind, count in sorted(kinds.items()):
        chosen = [i for i, pair in enumerate(pairs) if pair.same and pair.kind == kind]
        hits = product([pairs[i] for i in chosen], [similarities[i] for i in chosen], threshold)
        print(f"  same answer, {kind or 'no kind':25} {_percent(hits.true_hit_rate)} of {count}")


def _percent(rate: float | None) -> str:
    return f"{'-':>10}" if rate is None else f"{rate:10.1%}"


def _print_failures(pairs: Sequence[Pair], similarities: Sequence[float], threshold: float) -> None:
    for pair, similarity in zip(pairs, similarities, strict=True):
        verified = _verified(pair, similarity, threshold)
        if (similarity >= threshold and verified) != pair.same:
            why = "wrong hit" if not pair.same else "too far" if verified else "refused"
            print(f"{why:9} {similarity:.3f} {pair.kind:12} {pair.a} | {pair.b}")


def _replay(lines: list[Line], vectors: KeptVectors, origin: dict[str, Any], options: argparse.Namespace) -> None:
    forms = stored_forms(lines)
    known = dict(zip(forms, vectors.queries(forms), strict=True))
    replay = Replay(lines, known)
    asyncio.run(replay.run())
    prices = Prices(
        options.usd_per_million_input, options.usd_per_million_output, options.prompt_tokens, options.answer_tokens
    )
    print(f"{len(lines)} questions of {options.replay.name}, encoder {vectors.identity}")
    print(", ".join(f"{key} {value}" for key, value in origin.items()))
    if options.show_failures:
        for path, line, given in replay.wrong():
            print(f"wrong {path} {line.kind}: {line.question} | answered as {given}")
    print(json.dumps(replay_report(replay, lines, known, GPTCACHE_SIMILARITY, prices)))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.quality.cache", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, default=_PAIRS, help="JSON lines; our own otherwise")
    parser.add_argument("--split", choices=get_args(Split), default="all", help="pairs with this `split`")
    parser.add_argument("--replay", type=Path, help="a log of questions instead of pairs (perf.quality.replay_log)")
    parser.add_argument(
        "--usd-per-million-input", type=float, default=0.15, help="price of prompt tokens (%(default)s)"
    )
    parser.add_argument("--usd-per-million-output", type=float, default=0.60, help="of answer tokens (%(default)s)")
    parser.add_argument("--prompt-tokens", type=int, default=1200, help="of one generated answer (%(default)s)")
    parser.add_argument("--answer-tokens", type=int, default=150, help="of one generated answer (%(default)s)")
    parser.add_argument("--encoder", help="folder or hub id; the bundled encoder otherwise")
    parser.add_argument("--show-failures", action="store_true", help="each wrong hit and each miss")
    options = parser.parse_args()

    origin = provenance()
    try:
        pairs = [] if options.replay else read_pairs(options.pairs, options.split)
        lines = read_log(options.replay) if options.replay else []
    except (BadInputError, BadLogError) as error:
        parser.error(str(error))
    model = options.encoder or str(
        ensure_encoder(_ROOT / ".raydesk" / "models", lambda line: print(line, file=sys.stderr))
    )
    vectors = KeptVectors(_ROOT / ".raydesk" / "perf" / "cache_vectors", EncoderConfig(model).located())
    if options.replay:
        _replay(lines, vectors, origin, options)
        return
    first, second = vectors.queries([pair.a for pair in pairs]), vectors.queries([pair.b for pair in pairs])
    similarities = [float(similarity) for similarity in np.sum(first * second, axis=1)]
    threshold = CacheSettings().similarity_threshold

    print(f"{len(pairs)} pairs of {options.pairs.name}, split {options.split}, encoder {vectors.identity}")
    print(", ".join(f"{key} {value}" for key, value in origin.items()))
    if options.show_failures:
        _print_failures(pairs, similarities, threshold)
    print(json.dumps(report(pairs, similarities, threshold)))


if __name__ == "__main__":
    main()
