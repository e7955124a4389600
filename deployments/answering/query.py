"""From the messages of a request to the standalone question that the turn answers. Pure."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from functools import lru_cache

from deployments.answering.context import read
from deployments.answering.types import ChatRequest, Language, Query
from models.protocols import ChatMessage

_CJK = re.compile(r"[\u3400-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")
_SPACE = re.compile(r"\s+")
_CLOSING = " .?!。？！…~～,，;；"
_MOST_REMEMBERED_CHARS = 400  # of a first question; 4,096 of them are some MB
_MOST_BARE_WORDS = 2


def build_query(request: ChatRequest, spoken: Language | None = None) -> Query:
    """spoken: the language of the conversation so far, which a bare name or number leaves as it is."""
    if spoken is None and len(request.messages) == 1 and len(request.text) <= _MOST_REMEMBERED_CHARS:
        return _first_question(request.text, request.language)
    return _query(request.messages, request.language, spoken)


@lru_cache(maxsize=4096)
def _first_question(text: str, language: Language | None) -> Query:
    """Read once: what many customers ask is asked in the same words."""
    return _query((ChatMessage("user", text),), language, None)


def _query(messages: tuple[ChatMessage, ...], language: Language | None, spoken: Language | None) -> Query:
    text = messages[-1].content.strip()
    reading = read(messages)
    # "SUV" to "您想租哪种车型？", a number to "您的订单号是？": too little to tell a language by
    is_bare = len(text.split()) <= _MOST_BARE_WORDS and not _CJK.search(text)
    speaks = reading.text if reading.needs_history and is_bare else text
    goes_on = spoken if is_bare and any(map(str.isdigit, text)) else None
    return Query(
        text=text,
        search_text=reading.text,
        normalized=normalize(text),
        language=language or goes_on or detect_language(speaks, messages),
        is_standalone=not reading.needs_history,
        kind=reading.kind,
        is_sure=reading.is_sure,
    )


def without_last_answer(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    answers = [place for place, message in enumerate(messages) if message.role == "assistant"]
    return messages if not answers else (*messages[: answers[-1]], *messages[answers[-1] + 1 :])


def asked_instead(query: Query, question: str) -> Query:
    """The query that a flow asks of the knowledge, once it has what it needs; as it was, where it is the same."""
    if normalize(question) == query.normalized:
        return query
    return replace(query, text=question, search_text=question, is_standalone=False, kind="question", is_sure=True)


def normalize(text: str) -> str:
    """The exact cache's key: NFKC, lower case, single spaces, no closing punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _SPACE.sub(" ", folded).strip().rstrip(_CLOSING)


def detect_language(text: str, messages: tuple[ChatMessage, ...] = ()) -> Language:
    """Chinese when a fifth of the letters are Chinese; a text without letters takes the language of what came before.

    Statistical detectors fail on turns of three words; the script does not.
    """
    letters = len(_LETTER.findall(text))
    if letters:
        return "zh" if len(_CJK.findall(text)) / letters >= 0.2 else "en"
    earlier = [message.content for message in messages[:-1] if _LETTER.search(message.content)]
    return detect_language(earlier[-1]) if earlier else "en"
