"""How well a conversation's last turn is understood: `python -m perf.quality.conversations [--conversations FILE]`.

A conversation is one line of JSON: `{"id", "split", "language", "kind", "turns", "expect"}`, where the turns are the
customer's and the desk's, the customer's first and last. What is expected of the last one is one of

    {"requires": [["ship", "shipping"], ["Germany"]], "forbids": ["France"]}
                             a standalone query that holds one word of each list, and none that is forbidden
    {"standalone": true}     it needs nothing and must be left as it is
    {"turn": ["thanks"]}     it asks nothing: "small_talk", "thanks" or "abuse"

A leak is history in a turn that must be left as it is: an answer to a question that nobody asked. Beside the desk stand
two baselines: always the last turn alone, and always the customer's last two turns one after the other.

Single questions (`--questions`) are put after another one that has nothing to do with them: how many are given words of
it tells how safe the rules are with turns that they were not written for. Prints tables; the last line is one JSON
document.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from deployments.answering.context import Reading, read
from deployments.answering.turn_kind import TurnKind
from models.protocols import ChatMessage
from perf.provenance import provenance
from perf.quality.json_lines import BadInputError, json_lines

_DATA = Path(__file__).parents[1] / "data"
_CONVERSATIONS = _DATA / "conversations.jsonl"
_QUESTIONS = [
    _DATA / "company_questions.jsonl",
    _DATA / "rho_bank_queries_en.jsonl",
    _DATA / "rho_bank_queries_zh.jsonl",
]

Verdict = Literal["right", "incomplete", "leak", "other kind"]


@dataclass(frozen=True, slots=True)
class Standalone:
    requires: tuple[tuple[str, ...], ...]  # one of each must be in the query; case does not matter
    forbids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Untouched:
    pass


@dataclass(frozen=True, slots=True)
class NothingAsked:
    kinds: frozenset[str]  # any of these


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    split: str  # "dev" or "held-out"
    language: str  # "en", "zh", "mixed"
    kind: str  # "pronoun", "ellipsis", …
    turns: tuple[str, ...]  # the customer's and the desk's in turn; the last one is the customer's
    expect: Standalone | Untouched | NothingAsked

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        return tuple(
            ChatMessage("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(self.turns)
        )


Understand = Callable[[Sequence[ChatMessage]], Reading]


def last_alone(messages: Sequence[ChatMessage]) -> Reading:
    return Reading("question", messages[-1].content)


def last_two(messages: Sequence[ChatMessage]) -> Reading:
    said = [message.content for message in messages if message.role == "user"]
    return Reading("question", " ".join(said[-2:]), needs_history=len(said) > 1)


SYSTEMS: dict[str, Understand] = {"desk": read, "last turn alone": last_alone, "last two turns": last_two}


# --- input ---


def read_conversations(path: Path) -> list[Conversation]:
    """Raises `BadInputError`."""
    return [_conversation(where, row) for where, row in json_lines(path)]


def _csv_rows(path: Path) -> list[tuple[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [(f"{path}:{number}", row) for number, row in enumerate(csv.DictReader(file), 2)]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: {error}") from error


def _conversation(where: str, row: Any) -> Conversation:
    match row:
        case {"turns": [*turns], "expect": dict(expect)} if len(turns) % 2 == 1 and all(
            isinstance(turn, str) and turn.strip() for turn in turns
        ):
            return Conversation(
                id=str(row.get("id", where)),
                split=str(row.get("split", "held-out")),
                language=str(row.get("language", "")),
                kind=str(row.get("kind", "")),
                turns=tuple(turns),
                expect=_expectation(where, expect),
            )
    raise BadInputError(f'{where}: needs "turns", an odd number of texts, and "expect"')


def _expectation(where: str, expect: dict[str, Any]) -> Standalone | Untouched | NothingAsked:
    match expect:
        case {"standalone": True, **rest} if not rest:
            return Untouched()
        case {"turn": [_, *_] as kinds, **rest} if not rest and set(kinds) <= set(get_args(TurnKind)) - {"question"}:
            return NothingAsked(frozenset(kinds))
        case {"requires": [_, *_] as requires, **rest} if set(rest) <= {"forbids"} and all(
            isinstance(words, list) and words for words in requires
        ):
            return Standalone(tuple(tuple(words) for words in requires), tuple(rest.get("forbids", ())))
    raise BadInputError(f'{where}: "expect" is none of {{"requires": [[…]]}}, {{"standalone": true}}, {{"turn": […]}}')


def read_questions(paths: Iterable[Path]) -> list[str]:
    """The texts of `{question}` or `{query}` lines, or of a CSV's column `text`. Raises `BadInputError`."""
    questions = []
    for path in paths:
        for where, row in _csv_rows(path) if path.suffix == ".csv" else json_lines(path):
            names = ("question", "query", "text")
            text = next((row[name] for name in names if row.get(name)), None) if isinstance(row, dict) else None
            if not isinstance(text, str):
                raise BadInputError(f"{where}: has none of {', '.join(names)}")
            questions.append(text)
    return questions


# --- judging ---


def judge(conversation: Conversation, reading: Reading) -> Verdict:
    last = conversation.turns[-1].strip()
    match conversation.expect:
        case NothingAsked(kinds):
            return "right" if reading.kind in kinds else "other kind"
        case _ if reading.kind != "question":
            return "other kind"
        case Untouched():
            return "right" if reading.text == last else "leak"
        case Standalone(requires, forbids):
            query = reading.text.casefold()
            complete = all(any(word.casefold() in query for word in words) for words in requires)
            return "right" if complete and not any(word.casefold() in query for word in forbids) else "incomplete"


@dataclass(frozen=True, slots=True)
class Share:
    n: int
    right: float  # 0-1
    leaks: int  # turns that must be left as they are and were given words of the history

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Share:
        return cls(
            len(verdicts), sum(verdict == "right" for verdict in verdicts) / len(verdicts), verdicts.count("leak")
        )


def shares(conversations: Sequence[Conversation], verdicts: Sequence[Verdict]) -> dict[str, Share]:
    """By "all", language, kind."""
    groups: dict[str, list[Verdict]] = {"all": list(verdicts)}
    for name in ("language", "kind"):
        for conversation, verdict in sorted(
            zip(conversations, verdicts, strict=True), key=lambda pair: str(getattr(pair[0], name))
        ):
            groups.setdefault(getattr(conversation, name), []).append(verdict)
    return {name: Share.of(group) for name, group in groups.items()}


def touched(questions: Sequence[str], understand: Understand, seed: int = 0) -> list[tuple[str, str, str]]:
    """Each question after another one: (history, question, query), where the query is not the question."""
    choose = random.Random(seed)
    found = []
    for question in questions:
        history = choose.choice(questions)
        messages = (
            ChatMessage("user", history),
            ChatMessage("assistant", "…"),
            ChatMessage("user", question),
        )
        reading = understand(messages)
        if history != question and reading.text != question.strip():
            found.append((history, question, reading.text))
    return found


# --- showing ---


def _print_table(split: str, conversations: Sequence[Conversation], scores: dict[str, dict[str, Share]]) -> None:
    print(
        f"\n{split}: {len(conversations)} conversations; share right (leaks)\n{'':<22}{'n':>5}"
        + "".join(f"{name:>22}" for name in scores)
    )
    for group, share in scores["desk"].items():
        cells = "".join(f"{each[group].right:>15.1%}{f'({each[group].leaks})':>7}" for each in scores.values())
        print(f"{group:<22}{share.n:>5}{cells}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.quality.conversations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--conversations", type=Path, default=_CONVERSATIONS, help="JSON lines; our own otherwise")
    parser.add_argument(
        "--questions", type=Path, nargs="*", default=_QUESTIONS, help="single questions: JSON lines, or CSV"
    )
    parser.add_argument("--split", choices=("all", "dev", "held-out"), default="all")
    parser.add_argument(
        "--show-missed", action="store_true", help="each conversation that was misunderstood, and each touched question"
    )
    options = parser.parse_args()
    origin = provenance()
    try:
        given = read_conversations(options.conversations)
        questions = read_questions(options.questions)
    except BadInputError as error:
        parser.error(str(error))
    print(", ".join(f"{key} {value}" for key, value in origin.items()))
    result: dict[str, Any] = {"benchmark": "conversations", **origin, "splits": {}}
    for split in sorted({each.split for each in given}) if options.split == "all" else [options.split]:
        chosen = [each for each in given if each.split == split]
        if not chosen:
            parser.error(f"{options.conversations}: there are no conversations of the split {split}")
        readings = {name: [understand(each.messages) for each in chosen] for name, understand in SYSTEMS.items()}
        verdicts = {
            name: [judge(each, reading) for each, reading in zip(chosen, found, strict=True)]
            for name, found in readings.items()
        }
        scores = {name: shares(chosen, each) for name, each in verdicts.items()}
        _print_table(split, chosen, scores)
        if options.show_missed:
            for each, reading, verdict in zip(chosen, readings["desk"], verdicts["desk"], strict=True):
                if verdict != "right":
                    print(f"{each.id} {verdict}: {' | '.join(each.turns)}\n    {reading.kind}: {reading.text}")
        result["splits"][split] = {
            name: {
                group: {"n": share.n, "right": round(share.right, 4), "leaks": share.leaks}
                for group, share in groups.items()
            }
            for name, groups in scores.items()
        }
    started = time.perf_counter()
    given_words = touched(questions, read)
    per_turn_ms = (time.perf_counter() - started) * 1000 / max(1, len(questions))
    print(f"\n{len(questions)} single questions after an unrelated one: {len(given_words)} were given words of it")
    print(f"{per_turn_ms:.2f} ms a turn")
    if options.show_missed:
        for history, question, query in given_words:
            print(f"{history} | {question}\n    {query}")
    result["single_questions"] = {
        "n": len(questions),
        "touched": len(given_words),
        "per_turn_ms": round(per_turn_ms, 3),
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
