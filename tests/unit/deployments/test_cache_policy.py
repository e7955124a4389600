import pytest

from deployments.answering.cache_policy import contradicts, same_question

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("How long is the warranty on the motor?", "how long is the motor warranty"),
        ("What does express delivery cost?", "How much does express delivery cost?"),
        ("退款多久到账", "退款要多久到账？"),
        ("能不能退货", "能退货吗"),
    ],
)
def test_paraphrases_are_the_same_question(asked: str, stored: str) -> None:
    assert same_question(asked, stored)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("Can I return it within 3 days?", "Can I return it within 30 days?"),
        ("3 天内能退吗", "30 天内能退吗"),
        ("三天内能退吗", "三十天内能退吗"),
        ("How do I turn on two-factor login?", "How do I turn off two-factor login?"),
        ("怎么开启双重验证", "怎么关闭双重验证"),
        ("可以退款吗", "不可以退款吗"),
        ("Can I cancel before dispatch?", "Can I cancel after dispatch?"),
        ("Is the filter covered by the warranty?", "Is the filter not covered by the warranty?"),
        ("How do I reset the Hub Mini?", "How do I restart the Hub Mini?"),
        ("Does it work with iPhone 15?", "Does it work with iPhone 14?"),
        ("How long is the warranty on a motor?", "How do I track my parcel?"),
        ("How long does the Orbit X run?", "How long does the Orbit S run?"),
    ],
)
def test_what_turns_an_answer_round_is_another_question(asked: str, stored: str) -> None:
    assert not same_question(asked, stored)
    assert not same_question(stored, asked)


@pytest.mark.parametrize(
    ("asked", "curated", "expected"),
    [
        ("turn off two-factor", "How do I turn on two-factor authentication?", True),
        ("how to turn it on", "How do I turn on two-factor authentication?", False),
        ("Can I return after 45 days?", "Can I return after 30 days?", True),
        ("Can I return it?", "Can I return an item within 30 days?", False),
        ("Orbit X充满电能用多久", "Orbit S 充满电能用多久？", True),
        ("how do i clean the brio 2", "How do I clean the Brio Pro?", True),
        ("how do i clean the brio", "How do I clean the Brio Pro?", False),
        ("does a visa card work", "Does a Visa card work?", False),
    ],
)
def test_curated_question_may_say_more_but_nothing_else(asked: str, curated: str, expected: bool) -> None:
    assert contradicts(asked, curated) is expected
