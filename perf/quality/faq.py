"""How well curated answers are matched: `python -m perf.quality.faq [--pairs FILE.jsonl --questions FILE.jsonl]`.

Pairs are `{company, id, question}` and what customers ask is `{company, question, expect: [ids]}`, one a line: one id,
or none where no pair answers it, or several where it might be any of them and asking back is right. The pairs nearest
by the encoder go through the decision of the product. Beside it stand a threshold on the cosine alone, and the same
with a lead over the next pair, both tuned on these very questions to the precision that the product reaches (an oracle:
no deployed threshold can know them). With `--fit` the weights are fitted to the questions of the split "dev", and
judged on companies that they were not fitted to. Prints tables; the last line is one JSON document. Vectors are kept in
.raydesk/perf/faq_vectors, so a second run takes seconds.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np

from deployments.answering.curated import WEIGHTS, Asked, Features, Given, decide, features, matches
from deployments.answering.query import detect_language
from deployments.answering.types import Language, RetrievedChunk
from deployments.retriever import PAIRS
from deployments.settings import RetrieverSettings
from ingestion.chunk import Chunk
from models.bundled import ensure_encoder
from models.embedder import EncoderConfig
from models.protocols import Vectors
from perf.provenance import provenance
from perf.quality.json_lines import BadInputError, json_lines
from perf.quality.vectors import KeptVectors

_ROOT = Path(__file__).parents[2]
_DATA = _ROOT / "perf" / "data"
_PAIRS, _QUESTIONS = _DATA / "faq_pairs.jsonl", _DATA / "faq_questions.jsonl"
_BINS = 10
_RIDGE = 0.02  # of a weight times its feature's deviation: 150 to 300 questions fit ten weights
_NAMES = tuple(field.name for field in fields(Features))
_FORMER_COSINE, _ORACLE_LEAD = 0.93, 0.02  # of the peers: settings of a decision by cosine alone


@dataclass(frozen=True, slots=True)
class Question:
    company: str
    text: str
    language: Language
    expected: frozenset[str]  # ids of pairs: none, one, or several that it might be
    split: str  # "dev" or "held-out"


@dataclass(frozen=True, slots=True)
class Case:
    """A question with the pairs that the encoder finds for it."""

    question: Question
    pairs: tuple[RetrievedChunk, ...]  # nearest first

    def is_right(self, pair: RetrievedChunk) -> bool:
        return pair.chunk.id in self.question.expected


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one way to decide. Shares are 0-1, None where there is nothing to take one of."""

    n: int
    given: int
    precision: float | None  # of the answers given; one of several that it might be is no fault
    coverage: float | None  # of the questions that one pair answers: given the right one
    wrong: float  # of all questions: given another pair's answer
    asked_back: float  # of all questions
    asked_well: float | None  # of those: the right one was offered


# --- input ---


def read_pairs(path: Path) -> dict[str, list[Chunk]]:
    """By company. Raises `BadInputError`."""
    pairs: dict[str, list[Chunk]] = {}
    for where, row in json_lines(path):
        match row:
            case {"id": str(key), "question": str(text)} if text.strip():
                company, answer = str(row.get("company", "")), str(row.get("answer", key))
                chunk = Chunk(
                    key,
                    key,
                    0,
                    "qa",
                    text,
                    "",
                    "und",
                    "public",
                    path.name,
                    question=text,
                    answer=answer,
                    is_curated=True,
                )
                pairs.setdefault(company, []).append(chunk)
            case _:
                raise BadInputError(f'{where}: is not {{"company": "…", "id": "…", "question": "…"}}')
    return pairs


def read_questions(path: Path, pairs: Mapping[str, Sequence[Chunk]]) -> list[Question]:
    """Raises `BadInputError`."""
    questions = []
    for where, row in json_lines(path):
        match row:
            case {"question": str(text), "expect": [*expected]} if text.strip():
                company = str(row.get("company", ""))
                known = {pair.id for pair in pairs.get(company, ())}
                if unknown := {str(each) for each in expected} - known:
                    raise BadInputError(f"{where}: {company!r} has no pairs {', '.join(sorted(unknown))}")
                questions.append(
                    Question(
                        company,
                        text,
                        detect_language(text),
                        frozenset(map(str, expected)),
                        str(row.get("split", "held-out")),
                    )
                )
            case _:
                raise BadInputError(f'{where}: is not {{"company": "…", "question": "…", "expect": ["id", …]}}')
    return questions


def read_utterances(path: Path, count: int, seed: int = 0) -> tuple[dict[str, list[Chunk]], list[Question]]:
    """A CSV `text,category` as a company. Raises `BadInputError`.

    Of each category one text is the pair's question and others are asked; a fifth of the categories has no pair.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row["text"].strip(), row["category"]) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise BadInputError(f"{path}: needs the columns text and category: {error}") from error
    choose = random.Random(seed)
    categories = sorted({category for _, category in rows})
    left_out = frozenset(choose.sample(categories, len(categories) // 5))
    asked_as = {each: choose.choice([text for text, category in rows if category == each]) for each in categories}
    pairs = [
        Chunk(each, each, 0, "qa", text, "", "und", "public", path.name, question=text, answer=each, is_curated=True)
        for each, text in asked_as.items()
        if each not in left_out
    ]
    others = [(text, category) for text, category in rows if text not in asked_as.values()]
    questions = [
        Question(path.stem, text, "en", frozenset() if category in left_out else frozenset([category]), "held-out")
        for text, category in choose.sample(others, min(count, len(others)))
    ]
    return {path.stem: pairs}, questions


def cases(pairs: Mapping[str, Sequence[Chunk]], questions: Sequence[Question], vectors: KeptVectors) -> list[Case]:
    of_pairs = {company: vectors.queries([pair.question for pair in chunks]) for company, chunks in pairs.items()}
    asked = vectors.queries([question.text for question in questions])
    return [
        Case(question, _nearest(pairs[question.company], of_pairs[question.company] @ vector))
        for question, vector in zip(questions, asked, strict=True)
    ]


def _nearest(chunks: Sequence[Chunk], cosines: Vectors) -> tuple[RetrievedChunk, ...]:
    best = np.argsort(-cosines, kind="stable")[:PAIRS]
    return tuple(RetrievedChunk(chunks[i], float(cosines[i]), similarity=float(cosines[i])) for i in best)


# --- ways to decide ---

Decision = RetrievedChunk | tuple[RetrievedChunk, ...] | None  # given, offered, neither
Decide = Callable[[Case], Decision]


def product(limits: RetrieverSettings) -> Decide:
    def of(case: Case) -> Decision:
        decided = decide(
            case.question.text,
            case.question.language,
            case.pairs,
            give_from=limits.faq_confidence,
            ask_from=limits.clarify_confidence,
        )
        match decided:
            case Given(match):
                return match.pair
            case Asked(found):
                return tuple(match.pair for match in found)
        return None

    return of


def by_cosine(threshold: float, lead: float = 0.0) -> Decide:
    def of(case: Case) -> Decision:
        best, *rest = case.pairs
        leads = not rest or _cosine(best) - _cosine(rest[0]) >= lead
        return best if _cosine(best) >= threshold and leads else None

    return of


def tuned(given: Sequence[Case], precision: float, lead: float = 0.0) -> float:
    """The lowest threshold from which on the precision is reached; above all cosines where there is none."""
    reached = [
        threshold
        for threshold in sorted({_cosine(case.pairs[0]) for case in given})
        if (outcome(given, by_cosine(threshold, lead)).precision or 0.0) >= precision
    ]
    return reached[0] if reached else 1.01


def _cosine(pair: RetrievedChunk) -> float:
    return pair.similarity or 0.0


def outcome(given: Sequence[Case], way: Decide) -> Outcome:
    decisions = [(case, way(case)) for case in given]
    answers = [(case, found) for case, found in decisions if isinstance(found, RetrievedChunk)]
    offers = [(case, found) for case, found in decisions if isinstance(found, tuple)]
    right = sum(case.is_right(found) for case, found in answers)
    right_single = sum(case.is_right(found) for case, found in answers if len(case.question.expected) == 1)
    single = sum(len(case.question.expected) == 1 for case in given)
    well = sum(any(case.is_right(pair) for pair in found) for case, found in offers)
    return Outcome(
        n=len(given),
        given=len(answers),
        precision=right / len(answers) if answers else None,
        coverage=right_single / single if single else None,
        wrong=(len(answers) - right) / len(given),
        asked_back=len(offers) / len(given),
        asked_well=well / len(offers) if offers else None,
    )


# --- confidence ---


def confidences(given: Sequence[Case], weights: Features = WEIGHTS) -> list[tuple[float, bool]]:
    """Of each question that is not open to several pairs: how sure the likeliest pair is, and whether it is right."""
    found = []
    for case in given:
        if len(case.question.expected) < 2:
            best = matches(case.question.text, case.question.language, case.pairs, weights)[0]
            found.append((best.confidence, case.is_right(best.pair)))
    return found


def calibration_error(found: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error over ten bins of equal width, 0-1."""
    total = 0.0
    for number in range(_BINS):
        inside = [each for each in found if min(int(each[0] * _BINS), _BINS - 1) == number]
        if inside:
            total += abs(sum(confidence - is_right for confidence, is_right in inside))
    return total / len(found)


# --- fitting ---


def fitted(given: Sequence[Case]) -> Features:
    """Weights under which the pairs expected, or none of them, are likeliest; the ridge keeps rare features small."""
    from scipy.optimize import minimize

    seen = np.zeros((len(given), PAIRS + 1, len(_NAMES)))  # the last row of each is none of the pairs: all zero
    there = np.zeros((len(given), PAIRS + 1), bool)
    right = np.zeros((len(given), PAIRS + 1), bool)
    for i, case in enumerate(given):
        there[i, -1], right[i, -1] = True, not any(case.is_right(pair) for pair in case.pairs)
        for j, pair in enumerate(case.pairs):
            rivals = [other for other in case.pairs if other is not pair]
            values = features(case.question.text, case.question.language, pair, rivals)
            seen[i, j], there[i, j], right[i, j] = list(asdict(values).values()), True, case.is_right(pair)
    scale = seen[there].std(axis=0)
    scale[_NAMES.index("one")] = 1.0
    scale[scale == 0] = 1.0
    ridge = np.array([0.0 if name == "one" else _RIDGE * len(given) for name in _NAMES])

    def loss(weights: Any) -> tuple[float, Any]:
        scores = np.where(there, (seen / scale) @ weights, -np.inf)
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        likely /= likely.sum(axis=1, keepdims=True)
        of_right = (likely * right).sum(axis=1)
        surplus = likely - likely * right / of_right[:, None]
        gradient = np.einsum("ij,ijk->k", surplus, seen / scale) + ridge * weights
        return -np.log(of_right).sum() + (ridge * weights**2).sum() / 2, gradient

    found = minimize(loss, np.zeros(len(_NAMES)), jac=True, method="L-BFGS-B").x / scale
    return Features(**{name: round(float(weight), 3) for name, weight in zip(_NAMES, found, strict=True)})


def cross_fitted(given: Sequence[Case]) -> list[tuple[float, bool]]:
    """Confidences for each company under weights that were fitted to the others."""
    found = []
    for company in sorted({case.question.company for case in given}):
        weights = fitted([case for case in given if case.question.company != company])
        own = [case for case in given if case.question.company == company]
        found += confidences(own, weights)
    return found


# --- report ---


def report(given: Sequence[Case], limits: RetrieverSettings) -> dict[str, Any]:
    """Prints the table of one split; returns its part of the last line."""
    ours = outcome(given, product(limits))
    wanted = ours.precision or 1.0
    alone, led = tuned(given, wanted), tuned(given, wanted, _ORACLE_LEAD)
    rows = {
        f"confidence {limits.faq_confidence:g}, asked back from {limits.clarify_confidence:g}": ours,
        f"cosine {_FORMER_COSINE:g} alone": outcome(given, by_cosine(_FORMER_COSINE)),
        f"oracle cosine {alone:.3f}": outcome(given, by_cosine(alone)),
        f"oracle cosine {led:.3f}, lead {_ORACLE_LEAD:g}": outcome(given, by_cosine(led, _ORACLE_LEAD)),
    }
    print(f"{'':44}{'given':>7}{'precision':>11}{'coverage':>10}{'wrong':>8}{'asked back':>12}{'of these well':>15}")
    for name, row in rows.items():
        print(
            f"{name:44}{row.given:>7}{_percent(row.precision):>11}{_percent(row.coverage):>10}{row.wrong:>8.1%}"
            f"{row.asked_back:>12.1%}{_percent(row.asked_well):>15}"
        )
    found = confidences(given)
    error = calibration_error(found)
    print(f"expected calibration error {error:.3f}; confidence, share right:")
    for low in range(_BINS):
        inside = [is_right for confidence, is_right in found if min(int(confidence * _BINS), _BINS - 1) == low]
        if inside:
            print(f"  {low / _BINS:.1f}-{(low + 1) / _BINS:.1f} {len(inside):>5} {sum(inside) / len(inside):>7.1%}")
    return {
        **asdict(ours),
        "ece": error,
        "cosine_alone": asdict(rows[f"cosine {_FORMER_COSINE:g} alone"]),
        "oracle_cosine": asdict(rows[f"oracle cosine {alone:.3f}"]),
    }


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _print_failures(given: Sequence[Case], limits: RetrieverSettings) -> None:
    decided = product(limits)
    for case in given:
        found = decided(case)
        best = matches(case.question.text, case.question.language, case.pairs)[0]
        told = f"{best.confidence:.2f} {case.question.text} | {best.pair.chunk.question}"
        if isinstance(found, RetrievedChunk) and not case.is_right(found):
            print(f"[wrong] {told}")
        elif isinstance(found, tuple) and not any(case.is_right(pair) for pair in found):
            print(f"[asked in vain] {told}")
        elif found is None and any(case.is_right(pair) for pair in case.pairs):
            print(f"[left to retrieval] {told}")


def _fit(given: Sequence[Case]) -> None:
    print("fitted to all of dev:")
    for name, weight in asdict(fitted(given)).items():
        print(f"    {name}={weight},")
    error = calibration_error(cross_fitted(given))
    print(f"expected calibration error on companies that were left out of the fit: {error:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.quality.faq", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=Path, default=_PAIRS, help="JSON lines; our own otherwise")
    parser.add_argument("--questions", type=Path, default=_QUESTIONS, help="JSON lines; our own otherwise")
    parser.add_argument("--utterances", type=Path, help="a CSV text,category instead, such as Banking77's train.csv")
    parser.add_argument("--limit", type=int, default=400, help="questions taken of the CSV")
    parser.add_argument("--encoder", help="folder or hub id; the bundled encoder otherwise")
    parser.add_argument("--fit", action="store_true", help="fit the weights anew and print them")
    parser.add_argument("--show-failures", action="store_true", help="each question that was not decided right")
    options = parser.parse_args()

    origin = provenance()
    try:
        if options.utterances is not None:
            pairs, questions = read_utterances(options.utterances, options.limit)
        else:
            pairs = read_pairs(options.pairs)
            questions = read_questions(options.questions, pairs)
    except BadInputError as error:
        parser.error(str(error))
    model = options.encoder or str(
        ensure_encoder(_ROOT / ".raydesk" / "models", lambda line: print(line, file=sys.stderr))
    )
    vectors = KeptVectors(_ROOT / ".raydesk" / "perf" / "faq_vectors", EncoderConfig(model).located())
    given = cases(pairs, questions, vectors)
    limits = RetrieverSettings()
    print(", ".join(f"{key} {value}" for key, value in {**origin, "encoder": vectors.identity}.items()))
    result: dict[str, Any] = {"benchmark": "faq", **origin, "splits": {}}
    for split in sorted({case.question.split for case in given}):
        for language in ("all", *get_args(Language)):
            chosen = [
                case for case in given if case.question.split == split and language in ("all", case.question.language)
            ]
            if chosen:
                companies = len({case.question.company for case in chosen})
                print(f"\n{split}, {language}: {len(chosen)} questions to {companies} companies")
                result["splits"][f"{split} {language}"] = report(chosen, limits)
    if options.fit:
        _fit([case for case in given if case.question.split == "dev"])
    if options.show_failures:
        _print_failures(given, limits)
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
