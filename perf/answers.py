"""How right a running desk's answers are: `python -m perf.answers [--url http://127.0.0.1:8000] [--show-wrong]`.

Asks the sample company's held-out questions over HTTP, each as a conversation of its own, and judges what comes back:
an action by the rule that fired, a question of fact by the facts in the text, and what nobody here can know by whether
the desk abstained. Worst is wrong and sure: a rule or a curated answer, given as it stands, to another question. An
answer from the cache is judged as what it was when it was stored. Prints two tables; the last line is one JSON
document. Knows the desk by its address alone, which must be on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, assert_never, get_args

import httpx2

from perf.loopback import loopback_url
from perf.provenance import provenance

_ROOT = Path(__file__).parents[1]
_COMPANY_QUESTIONS = _ROOT / "perf" / "data" / "company_questions.jsonl"
_AT_ONCE = 2  # questions in flight: this measures what is answered, not how fast
_ANSWER_TIMEOUT_S = 60.0
_PATIENCE_S = 300.0  # for a desk that is being restarted
_RETRY_PAUSE_S = 3.0
_ERROR_RETRIES = 3  # of a question that the desk itself refuses for now
_SHOWN_CHARS = 120

# --- questions ---


@dataclass(frozen=True, slots=True)
class Action:
    """The rule of this intent should answer."""

    intent: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Every fact should be in the answer, in one of its spellings."""

    facts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Abstention:
    """Nothing that the desk knows answers this, and it should say so."""


Expectation = Action | Facts | Abstention
Kind = Literal["action", "facts", "abstain"]


@dataclass(frozen=True, slots=True)
class Question:
    id: str
    language: str
    text: str
    expected: Expectation

    @property
    def kind(self) -> Kind:
        match self.expected:
            case Action():
                return "action"
            case Facts():
                return "facts"
            case Abstention():
                return "abstain"
            case _:
                assert_never(self.expected)


def read_questions(lines: Iterable[str]) -> list[Question]:
    """One JSON object a line; raises `ValueError` that names the line."""
    questions = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            questions.append(Question(row["id"], row["language"], row["question"], _expectation(row["expect"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"line {number} is not a question with its expectation: {error!r}") from error
    return questions


def _expectation(expect: dict[str, Any]) -> Expectation:
    match expect:
        case {"intent": str(intent), **rest} if not rest:
            return Action(intent)
        case {"facts": [_, *_] as facts, **rest} if not rest:
            return Facts(tuple(tuple(fact.split("|")) for fact in facts))
        case {"path": "abstain", **rest} if not rest:
            return Abstention()
        case _:
            raise ValueError(f"cannot judge by {expect}")


def spread(questions: Sequence[Question], limit: int) -> list[Question]:
    """`limit` of them at even distances: the file is sorted by language and kind, and its head is only a part of it."""
    count = min(limit, len(questions))
    return [questions[i * len(questions) // count] for i in range(count)]


# --- judging ---


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. The path "failed" is ours: no answer came, `route_reason` says why."""

    path: str
    route_reason: str
    text: str
    degraded: tuple[str, ...] = ()  # what the desk had to do without, such as "small:starting"


Verdict = Literal[
    "right", "wrong rule", "wrong faq", "passage", "generated", "asked back", "missed", "abstained", "failed"
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
SURE: frozenset[Verdict] = frozenset({"wrong rule", "wrong faq"})  # given as it stands, without a source to look at
WRONG: frozenset[Verdict] = SURE | {"passage", "generated"}

_RULE_REASON = re.compile(r"rule \S+: intent (?P<intent>\S+) with confidence ")
_NOTHING_ASKED = re.compile(r"(?:small talk|thanks|abuse): nothing is asked")
_CACHE_REASON = re.compile(r"(?P<path>\w+) answer from the cache")


def judge(expected: Expectation, answer: Answer) -> Verdict:
    if answer.path == "failed":
        return "failed"
    path = origin(answer)
    match expected:
        case Action(intent):
            if path not in ("rule", "handoff"):
                return "missed"
            if (fired := fired_intent(answer)) is None:
                return "missed"
            return "right" if fired == intent else "wrong rule"
        case Facts(facts):  # by whatever path they came: a rule's text may hold them, too
            return "right" if holds(answer.text, facts) else _fault(path, answer)
        case Abstention():
            return "right" if path == "abstain" else _fault(path, answer)
        case _:
            assert_never(expected)


def _fault(path: str, answer: Answer) -> Verdict:
    """What it is to answer by this path when the answer is not right."""
    if _NOTHING_ASKED.fullmatch(answer.route_reason):
        return "missed"
    match path:
        case "rule" | "handoff":
            return "wrong rule"
        case "faq":
            return "wrong faq"
        case "passage":
            return "passage"
        case "abstain":
            return "abstained"
        case "clarify":
            return "asked back"
        case _:  # the name of a model's tier
            return "generated"


def origin(answer: Answer) -> str:
    """The path by which the answer was made, also where it now came from a cache."""
    if not is_cached(answer):
        return answer.path
    return _found(_CACHE_REASON, answer)["path"]


def is_cached(answer: Answer) -> bool:
    return answer.path in ("exact_cache", "semantic_cache")


def fired_intent(answer: Answer) -> str | None:
    """None for the desk's own phrase to a turn that it took for small talk, thanks or abuse."""
    return None if _NOTHING_ASKED.fullmatch(answer.route_reason) else _found(_RULE_REASON, answer)["intent"]


def _found(pattern: re.Pattern[str], answer: Answer) -> re.Match[str]:
    """Raises rather than misjudge everything, should the desk's wording change."""
    found = pattern.match(answer.route_reason)
    if found is None:
        raise ValueError(f"cannot read the route reason of path {answer.path}: {answer.route_reason!r}")
    return found


def holds(text: str, facts: Iterable[Iterable[str]]) -> bool:
    """Whether each fact is in `text` in one of its spellings, in whatever case."""
    folded = text.casefold()
    return all(any(spelling.casefold() in folded for spelling in fact) for fact in facts)


# --- counting ---


@dataclass(frozen=True, slots=True)
class Judged:
    question: Question
    answer: Answer
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """One language, one kind of question, or all of them. Shares are 0-1 and of all `n`, failed ones included."""

    language: str
    kind: str
    n: int
    right: float
    wrong: float  # said something that is not the answer
    wrong_and_sure: float  # the part of `wrong` that came from a rule or a curated answer
    verdicts: dict[str, int]
    paths: dict[str, int]  # as answered: a cache hit counts as one
    cached: dict[str, int]  # those hits, by the path that made the answer
    degraded: dict[str, int]  # what the desk had to do without, and for how many answers


def score(language: str, kind: str, judged: Sequence[Judged]) -> AnswerScore:
    verdicts = Counter(each.verdict for each in judged)
    n = len(judged)
    return AnswerScore(
        language=language,
        kind=kind,
        n=n,
        right=verdicts["right"] / n,
        wrong=sum(verdicts[verdict] for verdict in WRONG) / n,
        wrong_and_sure=sum(verdicts[verdict] for verdict in SURE) / n,
        verdicts={verdict: verdicts[verdict] for verdict in VERDICTS if verdicts[verdict]},
        paths=dict(Counter(each.answer.path for each in judged).most_common()),
        cached=dict(Counter(origin(each.answer) for each in judged if is_cached(each.answer)).most_common()),
        degraded=dict(Counter(what for each in judged for what in dict.fromkeys(each.answer.degraded)).most_common()),
    )


def scores(judged: Sequence[Judged]) -> list[AnswerScore]:
    """Each language by kind, then its sum; the kinds over all languages; everything last."""
    found = []
    for language in [*sorted({each.question.language for each in judged}), "all"]:
        for kind in [*get_args(Kind), "all"]:
            chosen = [
                each
                for each in judged
                if language in (each.question.language, "all") and kind in (each.question.kind, "all")
            ]
            if chosen:
                found.append(score(language, kind, chosen))
    return found


# --- asking ---


class DeskAwayError(Exception):
    """No desk answers at the address."""


def ask_all(url: str, collection: str, questions: Sequence[Question]) -> list[Answer]:
    """In the order of the questions. Raises `DeskAwayError`."""
    return asyncio.run(_ask_all(url, collection, questions))


async def _ask_all(url: str, collection: str, questions: Sequence[Question]) -> list[Answer]:
    turns = asyncio.Semaphore(_AT_ONCE)
    answered = 0

    async def ask(question: Question) -> Answer:
        nonlocal answered
        async with turns:
            answer = await _ask(client, collection, question.text)
        answered += 1
        if answered % 20 == 0:
            print(f"{answered} of {len(questions)} answered", file=sys.stderr)
        return answer

    # the environment's proxies are not asked, and time-outs are counted here
    async with httpx2.AsyncClient(base_url=url, timeout=None, trust_env=False) as client:
        return await asyncio.gather(*(ask(question) for question in questions))


async def _ask(client: httpx2.AsyncClient, collection: str, text: str) -> Answer:
    body = {"messages": [{"role": "user", "content": text}], "stream": False, "collection": collection}
    give_up_s = time.monotonic() + _PATIENCE_S
    retries = _ERROR_RETRIES
    while True:
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                document = await _post(client, body)
        except TimeoutError:
            return Answer("failed", f"no answer within {_ANSWER_TIMEOUT_S:g} s", "")
        match document:
            case {"path": str(path), "route_reason": str(reason), "text": str(answer), "degraded": [*degraded]}:
                return Answer(path, reason, answer, tuple(degraded))
            case {"error": {"code": code, "message": message, "retryable": retryable}}:
                if not retryable or retries == 0:
                    return Answer("failed", f"{code}: {message}", "")
                retries -= 1
            case _ if time.monotonic() > give_up_s:
                raise DeskAwayError(f"no desk answers at {client.base_url}, for {_PATIENCE_S:g} s now")
        await asyncio.sleep(_RETRY_PAUSE_S)


async def _post(client: httpx2.AsyncClient, body: dict[str, Any]) -> Any:
    """The desk's document, an error of its own included; None where nothing, or only a proxy, answers."""
    try:
        return (await client.post("/v1/chat", json=body)).json()
    except (httpx2.TransportError, ValueError):
        return None


# --- showing ---


def _print_failures(judged: Sequence[Judged]) -> None:
    for verdict in VERDICTS[1:]:
        for each in judged:
            if each.verdict == verdict:
                print(f"[{verdict}] {each.question.id}: {each.question.text}")
                print(f"    expected  {_shown(each.question.expected)}")
                print(f"    got       {each.answer.path} ({each.answer.route_reason}){_without(each.answer)}")
                print(f"    text      {' '.join(each.answer.text.split())[:_SHOWN_CHARS]}\n")


def _shown(expected: Expectation) -> str:
    match expected:
        case Action(intent):
            return f"rule of {intent}"
        case Facts(facts):
            return " and ".join("|".join(fact) for fact in facts)
        case Abstention():
            return "abstain"
        case _:
            assert_never(expected)


def _without(answer: Answer) -> str:
    return f", degraded: {', '.join(answer.degraded)}" if answer.degraded else ""


def _print_tables(rows: Sequence[AnswerScore]) -> None:
    verdicts = VERDICTS[1:]
    paths = list(rows[-1].paths)
    print(f"{'questions':<14}{'n':>5}{'right':>9}{'wrong':>9}{'& sure':>9}   {_cells(verdicts)}")
    for row in rows:
        shares = f"{row.right:>9.1%}{row.wrong:>9.1%}{row.wrong_and_sure:>9.1%}"
        print(f"{_name(row):<14}{row.n:>5}{shares}   {_cells(row.verdicts.get(verdict, 0) for verdict in verdicts)}")
    print(f"\n{'paths':<14}{'n':>5}   {_cells(paths)}")
    for row in rows:
        print(f"{_name(row):<14}{row.n:>5}   {_cells(row.paths.get(path, 0) for path in paths)}")


def _name(row: AnswerScore) -> str:
    return f"{row.language} {row.kind}" if row.language != row.kind else "all"


def _cells(values: Iterable[object]) -> str:
    return "".join(f"{value!s:>15}" if len(str(value)) > 11 else f"{value!s:>12}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.answers", description=__doc__)
    parser.add_argument("--url", type=loopback_url, default="http://127.0.0.1:8000", help="a desk on this machine")
    parser.add_argument("--questions", type=Path, default=_COMPANY_QUESTIONS, help="JSON lines")
    parser.add_argument("--collection", default="help", help="the knowledge collection that is asked")
    parser.add_argument("--limit", type=int, help="so many questions, evenly spread over the file")
    parser.add_argument("--show-wrong", action="store_true", help="each question that was not answered right")
    options = parser.parse_args()
    origin = provenance()
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    try:
        questions = read_questions(options.questions.read_text("utf-8").splitlines())
    except (OSError, ValueError) as error:
        parser.error(f"cannot use {options.questions}: {error}")
    if not questions:
        parser.error(f"there are no questions in {options.questions}")
    if options.limit is not None:
        questions = spread(questions, options.limit)
    try:
        answers = ask_all(options.url, options.collection, questions)
    except DeskAwayError as error:
        sys.exit(str(error))

    judged = [
        Judged(question, answer, judge(question.expected, answer))
        for question, answer in zip(questions, answers, strict=True)
    ]
    if options.show_wrong:
        _print_failures(judged)
    rows = scores(judged)
    _print_tables(rows)
    overall = rows[-1]
    print(f"\nwrong and sure: {overall.wrong_and_sure:.1%} of all questions")
    if overall.cached:
        made = ", ".join(f"{count} {path}" for path, count in overall.cached.items())
        print(f"from the cache, so made before this run or for a question much like it: {made}")
    if overall.degraded:
        print(f"degraded: {', '.join(f'{count} {what}' for what, count in overall.degraded.items())}")
    result = {
        "benchmark": "answers",
        **origin,
        "url": options.url,
        "collection": options.collection,
        "questions": options.questions.name,
        "overall": asdict(overall),
        "answers": [asdict(row) for row in rows[:-1]],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
