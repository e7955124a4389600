"""What kind of work a question asks for: to compare, to explain, to reckon, to answer several things at once. Pure.

Closed lists of words, in English and Chinese. A tendency for `routing`, never a decision of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMPARES = re.compile(
    r"\b(?:vs|versus|compar\w+|differences?|differ(?:s|ent)?|better|worse|cheaper|pros and cons|"
    r"which (?:one|of)|(?:\w+er|more|less) than|rather than|instead of)\b"
    r"|区别|差别|不同|对比|比较(?:一下)?|相比|哪[个款种]|比.{1,12}(?:好|贵|便宜|大|小|快|慢|强|多|少)|更(?:好|划算|便宜|适合)",
    re.IGNORECASE,
)
_EXPLAINS = re.compile(
    r"\b(?:why|how come|explain|reasons?|what happens|how (?:do|can|should|would|could|to|does|did))\b"
    r"|为什么|为啥|为何|怎么(?!样)|咋|如何|原因|怎样|会怎么样|是怎么回事",
    re.IGNORECASE,
)
_CONDITIONS = re.compile(
    r"\b(?:if|unless|provided|assuming|in case|even though|although|except|without|only)\b"
    r"|如果|假如|要是|万一|的话|除非|虽然|即使|但是|只有|前提",
    re.IGNORECASE,
)
_RECKONS = re.compile(
    r"\b(?:total|altogether|in all|calculat\w+|average|per ?cent|discounts?|"
    r"how much (?:would|will|do i (?:save|pay)))\b|%"
    r"|一共|总共|合计|总价|计算|算一下|平均|百分之|打\S?折|省多少",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_PART = re.compile(
    r"[?？]+|[,，;；]?\s*\b(?:and|also|or)\b\s+(?=(?:what|how|when|where|who|which|why|can|do|does|is|are|will)\b)"
    r"|[，,；;]?(?:以及|另外|还有|同时|顺便)|[，,](?=.{0,6}(?:吗|多少|多久|怎么|什么|哪|几|能不能|可不可以))",
    re.IGNORECASE,
)
_LETTER = re.compile(r"\w")
_TOKEN = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
_FIRST_CJK = "\u3400"
_MOST_PARTS = 4
_CJK_PER_WORD = 1.6  # Chinese characters that say as much as an English word


@dataclass(frozen=True, slots=True)
class QuestionForm:
    compares: bool
    explains: bool
    has_condition: bool
    reckons: bool
    parts: int  # questions in it, 1-4
    length: float  # words; Chinese characters count for less than one


def question_form(text: str) -> QuestionForm:
    """text: a question that stands alone."""
    pieces = _TOKEN.findall(text)
    chinese = sum(len(piece) == 1 and piece >= _FIRST_CJK for piece in pieces)
    parts = sum(bool(_LETTER.search(part)) for part in _PART.split(text))
    return QuestionForm(
        compares=_COMPARES.search(text) is not None,
        explains=_EXPLAINS.search(text) is not None,
        has_condition=_CONDITIONS.search(text) is not None,
        reckons=_RECKONS.search(text) is not None or len(_NUMBER.findall(text)) > 1,
        parts=max(1, min(parts, _MOST_PARTS)),
        length=len(pieces) - chinese + chinese / _CJK_PER_WORD,
    )
