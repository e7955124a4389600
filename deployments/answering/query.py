"""From the messages of a request to the standalone question that the turn answers. Pure."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from deployments.answering.context import read
from deployments.answering.types import ChatRequest, Language, Query
from models.protocols import ChatMessage

_CJK = re.compile(r"[\u3400-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")
_SPACE = re.compile(r"\s+")
_CLOSING = " .?!。？！…~～,，;；"
_MOST_REMEMBERED_CHARS = 400  # of a first question; 4,096 of them are some MB


def build_query(request: ChatRequest) -> Query:
    if len(request.messages) == 1 and len(request.text) <= _MOST_REMEMBERED_CHARS:
        return _first_question(request.text, request.language)
    return _query(request.messages, request.language)


@lru_cache(maxsize=4096)
def _first_question(text: str, language: Language | None) -> Query:
    """Read once: what many customers ask is asked in the same words."""
    return _query((ChatMessage("user", text),), language)


def _query(messages: tuple[ChatMessage, ...], language: Language | None) -> Query:
    text = messages[-1].content.strip()
    reading = read(messages)
    # "SUV" to "您想租哪种车型？": too little to tell a language by
    speaks = reading.text if reading.needs_history and len(text.split()) <= 2 and not _CJK.search(text) else text
    return Query(
        text=text,
        search_text=reading.text,
        normalized=normalize(text),
        language=language or detect_language(speaks, messages),
        is_standalone=not reading.needs_history,
        kind=reading.kind,
        is_sure=reading.is_sure,
    )


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
