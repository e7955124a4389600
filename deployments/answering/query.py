"""From the messages of a request to the standalone question that the turn answers. Pure."""

from __future__ import annotations

import re
import unicodedata

from deployments.answering.types import ChatRequest, Language, Query
from models.protocols import ChatMessage

_CJK = re.compile(r"[\u3400-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")
_SPACE = re.compile(r"\s+")
_CLOSING = " .?!。？！…~～,，;；"
# A question that leans on what was said before: only these short ones are joined with the previous question.
_FOLLOW_UP = re.compile(
    r"^(and|but|so|or|also|what about|how about|what if|then)\b"
    r"|\b(it|its|that one|this one|them|those|these|the other one)\b"
    r"|^(那|那么|还有|如果|另外|它|这个|那个)|(它|这个|那个|这种|那种)|呢[?？]?$",
    re.IGNORECASE,
)
_FOLLOW_UP_MAX_CHARS = {"en": 60, "zh": 18}


def build_query(request: ChatRequest) -> Query:
    text = request.text.strip()
    language = request.language or detect_language(text, request.messages)
    previous = _previous_question(request.messages)
    leans = previous is not None and len(text) <= _FOLLOW_UP_MAX_CHARS[language] and bool(_FOLLOW_UP.search(text))
    return Query(
        text=text,
        search_text=f"{previous} {text}" if leans else text,
        normalized=normalize(text),
        language=language,
        is_standalone=not leans,
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


def _previous_question(messages: tuple[ChatMessage, ...]) -> str | None:
    earlier = [message.content.strip() for message in messages[:-1] if message.role == "user"]
    return earlier[-1][:500] if earlier and earlier[-1] else None
