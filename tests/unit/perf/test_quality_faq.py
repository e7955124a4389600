"""Counts against worked examples, input that cannot be used, and weights that are found again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployments.answering.types import RetrievedChunk
from ingestion.chunk import Chunk
from perf.quality.faq import (
    BadInputError,
    Case,
    Decision,
    Question,
    by_cosine,
    calibration_error,
    cross_fitted,
    fitted,
    outcome,
    read_pairs,
    read_questions,
    read_utterances,
    tuned,
)

pytestmark = pytest.mark.unit


def pair(key: str, question: str, cosine: float) -> RetrievedChunk:
    chunk = Chunk(key, key, 0, "qa", question, "", "und", "public", "f", question=question, answer=key, is_curated=True)
    return RetrievedChunk(chunk, cosine, similarity=cosine)


def case(cosine: float, *expected: str, text: str = "is parking free", company: str = "a") -> Case:
    pairs = (pair("park", "Is parking free?", cosine), pair("pool", "When is the pool open?", 0.85))
    return Case(Question(company, text, "en", frozenset(expected), "dev"), pairs)


def test_shares() -> None:
    given = [case(0.99, "park"), case(0.98), case(0.97, "park", "pool"), case(0.9, "pool"), case(0.8, "pool")]
    decisions: list[Decision] = [given[0].pairs[0], given[1].pairs[0], given[2].pairs, given[3].pairs, None]
    found = outcome(given, lambda each: decisions[given.index(each)])
    assert (found.n, found.given, found.precision, found.wrong) == (5, 2, 0.5, 0.2)
    assert found.coverage == 1 / 3  # of the three questions with one pair
    assert (found.asked_back, found.asked_well) == (0.4, 1.0)


def test_cosine_alone_and_its_oracle() -> None:
    given = [case(0.99, "park"), case(0.97), case(0.95, "park")]
    assert outcome(given, by_cosine(0.96)).given == 2
    assert outcome(given, by_cosine(0.8, lead=0.13)).given == 1
    assert tuned(given, 1.0) == 0.99
    assert tuned(given, 0.6) == 0.95
    assert tuned([case(0.9)], 0.5) > 1


def test_calibration_error_by_hand() -> None:
    assert calibration_error([(0.95, True), (0.95, True)]) == pytest.approx(0.05)
    assert calibration_error([(0.25, True), (0.25, False), (1.0, True), (1.0, True)]) == pytest.approx(0.125)


def test_fit_trusts_what_is_right() -> None:
    given = [case(0.96, "park", company=name) for name in "abc"] + [case(0.9, company=name) for name in "abc"]
    weights = fitted(given)
    assert weights.cosine > 0
    assert all(confidence > 0.5 for confidence, is_right in cross_fitted(given) if is_right)


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def test_files_are_read(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path / "p", {"company": "a", "id": "park", "question": "Is parking free?"}))
    questions = read_questions(
        write(tmp_path / "q", {"company": "a", "question": "停车收费吗", "expect": ["park"], "split": "dev"}), pairs
    )
    assert questions == [Question("a", "停车收费吗", "zh", frozenset(["park"]), "dev")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"company": "a", "question": "why", "expect": ["nope"]}, "has no pairs nope"),
        ({"company": "a", "question": "why"}, "is not"),
        ({"company": "a", "question": " ", "expect": []}, "is not"),
    ],
)
def test_unusable_question_is_named(tmp_path: Path, row: object, message: str) -> None:
    pairs = read_pairs(write(tmp_path / "p", {"company": "a", "id": "park", "question": "Is parking free?"}))
    with pytest.raises(BadInputError, match=rf"q:1: .*{message}"):
        read_questions(write(tmp_path / "q", row), pairs)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="nothing in it"):
        read_pairs(write(tmp_path / "p"))
    with pytest.raises(BadInputError, match="columns text and category"):
        read_utterances(write(tmp_path / "c.csv", "a,b", "1,2"), 10)


def test_utterances_become_a_company_with_questions_that_nothing_answers(tmp_path: Path) -> None:
    path = tmp_path / "bank.csv"
    lines = [f"text {number} {category},{category}" for category in "abcdefghij" for number in range(4)]
    path.write_text("\n".join(["text,category", *lines]), encoding="utf-8")
    pairs, questions = read_utterances(path, 100)
    ids = {each.id for each in pairs["bank"]}
    assert len(ids) == 8
    assert len(questions) == 30
    assert {frozenset(), *(frozenset([key]) for key in ids)} == {question.expected for question in questions}
