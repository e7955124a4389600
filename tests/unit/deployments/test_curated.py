"""Which curated pair is given, which are offered, and which are left alone: the cosines are those an encoder gives."""

from __future__ import annotations

import pytest

from deployments.answering.curated import Asked, Given, decide, extends_name, is_sibling, matches
from deployments.answering.types import Language, RetrievedChunk
from ingestion.chunk import Chunk

pytestmark = pytest.mark.unit


def pair(
    question: str, similarity: float, *, title: str = "", by_hand: bool = True, answer: str = ""
) -> RetrievedChunk:
    chunk = Chunk(
        question, question, 0, "qa", question, title, "und", "public", "faq.csv",
        question=question, answer=answer or f"answer to {question}", is_curated=by_hand,
    )  # fmt: skip
    return RetrievedChunk(chunk, similarity, similarity=similarity)


def decided(asked: str, *pairs: RetrievedChunk, language: Language = "en") -> str | list[str] | None:
    """The question of the pair given, or those offered."""
    match decide(asked, language, pairs, give_from=0.9, ask_from=0.6):
        case Given(match):
            return match.pair.chunk.question
        case Asked(found):
            return [match.pair.chunk.question for match in found]
    return None


FEE = "What is the monthly fee for the Gold Account?"
PLUS_FEE = "What is the monthly fee for the Gold Plus Account?"


def test_same_question_in_other_words_is_given() -> None:
    near = pair("Do I need to book the pool?", 0.95)
    assert decided("must I reserve the pool", near, pair("Are lockers included?", 0.84)) == near.chunk.question


def test_question_of_a_pair_itself_is_always_given() -> None:
    assert decided(f" {FEE.upper()} ", pair(PLUS_FEE, 0.999), pair(FEE, 0.998)) == FEE


@pytest.mark.parametrize(
    ("asked", "curated", "language"),
    [
        ("Can the Orbit X mop floors?", "Can the Orbit S mop floors?", "en"),
        ("What does the Platinum Account cost?", "What does the Platinum Plus Account cost?", "en"),
        ("How much is the Premium membership?", "How much is the Basic membership?", "en"),
        ("How do I lower my limit?", "How do I raise my limit?", "en"),
        ("Where can I buy a spare battery?", "Where can I buy spare brushes?", "en"),
        ("K5空气炸锅怎么清洗？", "K7空气炸锅怎么清洗？", "zh"),
        ("房贷可以提前还款吗", "车贷可以提前还款吗", "zh"),
        ("加急要多少钱，明天能到吗", "加急多久能到？", "zh"),
    ],
)
def test_another_question_is_not_answered_however_near_it_is(asked: str, curated: str, language: Language) -> None:
    assert decided(asked, pair(curated, 0.96), pair("Is parking free?", 0.9), language=language) is None


def test_question_that_two_pairs_hold_is_asked_back_with_both() -> None:
    found = decided("monthly fee", pair(FEE, 0.921), pair(PLUS_FEE, 0.92), pair("Can I open a joint account?", 0.85))
    assert found == [FEE, PLUS_FEE]


def test_pair_found_in_a_document_never_keeps_a_curated_one_back() -> None:
    asked, curated = "how can i pause my subscription", "Can I freeze my membership?"
    extracted = pair("How do I pause?", 0.95, title="Subscriptions", by_hand=False)
    alone = decided(asked, pair(curated, 0.95), pair("Is there a pool?", 0.84))
    assert decided(asked, extracted, pair(curated, 0.95), pair("Is there a pool?", 0.84)) == alone == curated


def test_subject_of_a_page_belongs_to_the_question_of_its_pair() -> None:
    extracted = pair("What does the account cost?", 0.96, title="Platinum Plus Account", by_hand=False)
    assert decided("What does the Platinum Account cost?", extracted, pair("Is parking free?", 0.85)) is None


def test_confidences_of_all_pairs_and_of_none_are_shares_of_one() -> None:
    alone = matches("is parking free", "en", [pair("Is parking free of charge?", 0.95)])
    twins = matches(
        "is parking free", "en", [pair("Is parking free of charge?", 0.95), pair("Is parking free here?", 0.95)]
    )
    assert 0 < sum(match.confidence for match in twins) < 1
    assert twins[0].confidence < alone[0].confidence


def test_two_questions_with_one_answer_are_no_rivals() -> None:
    same = [pair("Is parking free?", 0.95, answer="Yes."), pair("Do you charge for parking?", 0.94, answer="Yes.")]
    assert len(matches("parking for free?", "en", same)) == 1


def test_no_pairs_no_answer() -> None:
    assert decided("anything") is None


@pytest.mark.parametrize(
    ("asked", "question", "language", "expected"),
    [
        ("Basic plan price", "How much is the Pro plan?", "en", True),
        ("Basic plan price", "How much is the Basic plan?", "en", False),
        ("price of my plan", "How much is the Basic plan?", "en", False),
        ("冲刺班有多少课时", "基础班有多少课时？", "zh", True),
        ("泳池几点开", "游泳池几点开放？", "zh", False),
    ],
)
def test_siblings(asked: str, question: str, language: Language, expected: bool) -> None:
    assert is_sibling(asked, question, language) is expected


@pytest.mark.parametrize(
    ("asked", "question", "expected"),
    [
        ("Gold Account fee", "What is the fee of the Gold Plus Account?", True),
        ("gold plus account fee", "What is the fee of the Gold Account?", True),
        ("gold account fee", "What is the fee of the Gold Account?", False),
        ("account fee", "What is the fee of the Gold Account?", False),
        ("flexible plan", "How much is the plan?", False),
        ("day day Pass", "How much is the day Pass day?", False),  # a word that comes twice
    ],
)
def test_names_that_are_longer_by_a_word(asked: str, question: str, expected: bool) -> None:
    assert extends_name(asked, question) is expected
