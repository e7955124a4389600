"""How answers are judged and counted; nothing is asked here."""

from __future__ import annotations

import json

import pytest

from perf.answers import (
    Abstention,
    Action,
    Answer,
    Expectation,
    Facts,
    Judged,
    Question,
    Verdict,
    fired_intent,
    holds,
    judge,
    origin,
    read_questions,
    score,
    scores,
    spread,
)

pytestmark = pytest.mark.unit

TRACK = Action("track_order")
FREE_FROM = Facts((("50 EUR", "€50"),))
ABSTAIN = Abstention()


def rule(intent: str, text: str = "Open your account.", path: str = "rule") -> Answer:
    return Answer(path, f"rule {intent.replace('_', '-')}: intent {intent} with confidence 0.96", text)


def faq(text: str) -> Answer:
    return Answer("faq", "curated answer, question similarity 0.951", text)


def passage(text: str) -> Answer:
    return Answer("passage", "the best passage, quoted: no model that writes this language is up", text)


def generated(text: str) -> Answer:
    return Answer("small", "2 sources for the small model", text)


def cached(made_by: str, text: str, path: str = "exact_cache") -> Answer:
    return Answer(path, f"{made_by} answer from the cache, similarity 1.000", text)


ABSTAINED = Answer("abstain", "nothing in the knowledge answers this", "I could not find an answer to that.")
FAILED = Answer("failed", "no answer within 60 s", "")


@pytest.mark.parametrize(
    ("expected", "answer", "verdict"),
    [
        (TRACK, rule("track_order"), "right"),
        (Action("talk_to_human"), rule("talk_to_human", path="handoff"), "right"),
        (TRACK, rule("cancel_order"), "wrong rule"),
        (TRACK, rule("complaint", path="handoff"), "wrong rule"),
        (TRACK, faq("Open your account."), "missed"),
        (TRACK, cached("faq", "Open your account."), "missed"),
        (TRACK, generated("Open your account."), "missed"),
        (TRACK, ABSTAINED, "missed"),
        (TRACK, FAILED, "failed"),
        (FREE_FROM, faq("Free from 50 EUR."), "right"),
        (FREE_FROM, passage("Free from 50 EUR."), "right"),
        (FREE_FROM, cached("small", "Free from 50 EUR."), "right"),
        (FREE_FROM, rule("track_order", "It is free from 50 EUR."), "right"),  # the customer got the answer
        (FREE_FROM, rule("track_order"), "wrong rule"),
        (FREE_FROM, rule("talk_to_human", path="handoff"), "wrong rule"),
        (FREE_FROM, faq("It costs 4.90 EUR."), "wrong faq"),
        (FREE_FROM, cached("faq", "It costs 4.90 EUR."), "wrong faq"),
        (FREE_FROM, cached("faq", "It costs 4.90 EUR.", "semantic_cache"), "wrong faq"),
        (FREE_FROM, passage("It costs 4.90 EUR."), "passage"),
        (FREE_FROM, generated("It costs 4.90 EUR."), "generated"),
        (FREE_FROM, cached("small", "It costs 4.90 EUR."), "generated"),
        (FREE_FROM, ABSTAINED, "abstained"),
        (FREE_FROM, FAILED, "failed"),
        (ABSTAIN, ABSTAINED, "right"),
        (ABSTAIN, rule("greeting"), "wrong rule"),
        (ABSTAIN, rule("talk_to_human", path="handoff"), "wrong rule"),
        (ABSTAIN, faq("Free from 50 EUR."), "wrong faq"),
        (ABSTAIN, cached("faq", "Free from 50 EUR."), "wrong faq"),
        (ABSTAIN, passage("Free from 50 EUR."), "passage"),
        (ABSTAIN, Answer("large", "4 sources for the large model", "It will rain."), "generated"),
        (ABSTAIN, FAILED, "failed"),
    ],
)
def test_verdict(expected: Expectation, answer: Answer, verdict: Verdict) -> None:
    assert judge(expected, answer) == verdict


@pytest.mark.parametrize(
    ("text", "facts", "expected"),
    [
        ("Delivery takes 2-4 days.", [["2-4"]], True),
        ("Delivery takes 2–4 days.", [["2-4", "2–4"]], True),
        ("It costs 4.90 EUR and takes 2-4 days.", [["4.90"], ["2-4"]], True),
        ("It costs 4.90 EUR.", [["4.90"], ["2-4"]], False),
        ("The data is in FRANKFURT.", [["Frankfurt"]], True),
        ("by 2 PM", [["2 pm"]], True),
        ("签收后 7 天内", [["7 天", "7天"]], True),
        ("", [["7 天"]], False),
    ],
)
def test_facts_are_found_in_any_spelling_and_case(text: str, facts: list[list[str]], expected: bool) -> None:
    assert holds(text, facts) is expected


def test_cached_answer_counts_as_what_made_it() -> None:
    assert origin(cached("small", "Yes.")) == "small"
    assert origin(cached("faq", "Yes.", "semantic_cache")) == "faq"
    assert origin(faq("Yes.")) == "faq"


def test_changed_wording_of_a_route_reason_is_an_error_and_not_a_verdict() -> None:
    with pytest.raises(ValueError, match="cannot read the route reason"):
        fired_intent(Answer("rule", "fired: track_order", ""))
    with pytest.raises(ValueError, match="cannot read the route reason"):
        origin(Answer("exact_cache", "as before", ""))


def line(expect: object) -> str:
    return json.dumps({"id": "en-1", "language": "en", "question": "why", "expect": expect})


@pytest.mark.parametrize(
    ("expect", "expected", "kind"),
    [
        ({"intent": "track_order"}, TRACK, "action"),
        ({"facts": ["50 EUR|€50"]}, FREE_FROM, "facts"),
        ({"facts": ["1.8", "2.5"]}, Facts((("1.8",), ("2.5",))), "facts"),
        ({"path": "abstain"}, ABSTAIN, "abstain"),
    ],
)
def test_questions_are_read(expect: object, expected: Expectation, kind: str) -> None:
    (question,) = read_questions([line(expect), ""])
    assert question == Question("en-1", "en", "why", expected)
    assert question.kind == kind


@pytest.mark.parametrize(
    "bad",
    [
        "not JSON",
        "[]",
        '{"id": "en-1"}',
        line({"facts": []}),
        line({"path": "rule"}),
        line({"intent": "track_order", "facts": ["50 EUR"]}),
        line({"intention": "track_order"}),
        line("abstain"),
    ],
)
def test_line_that_cannot_be_judged_by_is_named(bad: str) -> None:
    with pytest.raises(ValueError, match="line 2 "):
        read_questions([line({"path": "abstain"}), bad])


def judged(language: str, expected: Expectation, answer: Answer) -> Judged:
    return Judged(Question("x", language, "why", expected), answer, judge(expected, answer))


def test_shares_are_of_all_questions_asked() -> None:
    found = score(
        "en",
        "facts",
        [
            judged("en", FREE_FROM, faq("Free from 50 EUR.")),
            judged("en", FREE_FROM, cached("faq", "It costs 4.90 EUR.")),
            judged("en", FREE_FROM, rule("track_order")),
            judged("en", FREE_FROM, generated("It is free.")),
            judged("en", FREE_FROM, FAILED),
        ],
    )
    assert (found.n, found.right, found.wrong, found.wrong_and_sure) == (5, 1 / 5, 3 / 5, 2 / 5)
    assert found.verdicts == {"right": 1, "wrong rule": 1, "wrong faq": 1, "generated": 1, "failed": 1}
    assert found.paths == {"faq": 1, "exact_cache": 1, "rule": 1, "small": 1, "failed": 1}
    assert found.cached == {"faq": 1}


def test_missed_and_abstained_are_not_wrong() -> None:
    found = score("en", "all", [judged("en", TRACK, ABSTAINED), judged("en", FREE_FROM, ABSTAINED)])
    assert (found.right, found.wrong) == (0, 0)
    assert found.verdicts == {"missed": 1, "abstained": 1}


def test_what_the_desk_had_to_do_without_is_counted() -> None:
    starting = Answer("passage", "the best passage, quoted", "Free from 50 EUR.", ("small:starting",))
    found = score("en", "facts", [judged("en", FREE_FROM, starting), judged("en", FREE_FROM, ABSTAINED)])
    assert found.degraded == {"small:starting": 1}


def test_every_language_and_kind_has_a_row_and_everything_is_the_last() -> None:
    rows = scores(
        [
            judged("en", TRACK, rule("track_order")),
            judged("en", ABSTAIN, ABSTAINED),
            judged("zh", TRACK, rule("cancel_order")),
        ]
    )
    assert [(row.language, row.kind, row.n) for row in rows] == [
        ("en", "action", 1),
        ("en", "abstain", 1),
        ("en", "all", 2),
        ("zh", "action", 1),
        ("zh", "all", 1),
        ("all", "action", 2),
        ("all", "abstain", 1),
        ("all", "all", 3),
    ]
    assert rows[-1].wrong_and_sure == 1 / 3


@pytest.mark.parametrize(
    ("limit", "expected"), [(1, [0]), (3, [0, 3, 6]), (4, [0, 2, 5, 7]), (10, list(range(10))), (99, list(range(10)))]
)
def test_a_limit_is_spread_over_the_file(limit: int, expected: list[int]) -> None:
    questions = [Question(str(number), "en", "why", ABSTAIN) for number in range(10)]
    assert [int(question.id) for question in spread(questions, limit)] == expected
