import pytest

from deployments.answering.query import build_query, detect_language, normalize
from deployments.answering.types import ChatRequest, Principal
from models.protocols import ChatMessage

pytestmark = pytest.mark.unit


def request(*texts: str, language: str | None = None) -> ChatRequest:
    roles = ("user", "assistant")
    messages = tuple(ChatMessage(roles[i % 2], text) for i, text in enumerate(texts))
    principal = Principal("demo", frozenset({"public"}), "loopback")
    return ChatRequest(principal, messages, "help", "r", "t", "c", language=language)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How long is the warranty?", "how long is the warranty"),
        ("  How   LONG is\nthe warranty ?? ", "how long is the warranty"),
        ("保修期多久？", "保修期多久"),
        ("ＡＢＣ１２３", "abc123"),
        ("3.5 % off", "3.5 % off"),
    ],
)
def test_normalized_forms(text: str, expected: str) -> None:
    assert normalize(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where is my order?", "en"),
        ("我的订单在哪里", "zh"),
        ("Hub Mini 怎么重置?", "zh"),
        ("What does 保修 mean in your terms and conditions?", "en"),
        ("???", "en"),
    ],
)
def test_language_follows_the_script(text: str, expected: str) -> None:
    assert detect_language(text) == expected


def test_text_without_letters_takes_the_language_of_the_conversation() -> None:
    assert build_query(request("我的订单在哪里", "请提供订单号", "123456")).language == "zh"


def test_wished_language_wins() -> None:
    assert build_query(request("Hello", language="zh")).language == "zh"


def test_short_follow_up_is_searched_with_what_it_leans_on() -> None:
    query = build_query(request("How long is the warranty on Brew Pro?", "2 years", "And for its motor?"))
    assert not query.is_standalone
    assert query.search_text == "How long is the warranty on Brew Pro? And for its motor?"
    assert query.text == "And for its motor?"


def test_new_question_in_a_conversation_stands_alone() -> None:
    query = build_query(request("How long is the warranty?", "2 years", "Which payment methods do you accept?"))
    assert query.is_standalone
    assert query.search_text == "Which payment methods do you accept?"
