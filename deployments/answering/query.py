"""From the messages of a request to the standalone question that the turn answers. Pure."""

from __future__ import annotations

import re
import unicodedata

from deployments.answering.context import read
from deployments.answering.types import ChatRequest, Language, Query
from models.protocols import ChatMessage

_CJK = re.compile(r"[\u3400-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")
_SPACE = re.compile(r"\s+")
_CLOSING = " .?!。？！…~～,，;；"


def build_query(request: ChatRequest) -> Query:
    text = request.text.strip()
    reading = read(request.messages)
    # "SUV" to "您想租哪种车型？": too little to tell a language by
    speaks = reading.text if reading.needs_history and len(text.split()) <= 2 and not _CJK.search(text) else text
    return Query(
        text=text,
        search_text=reading.text,
        normalized=normalize(text),
        language=request.language or detect_language(speaks, request.messages),
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
