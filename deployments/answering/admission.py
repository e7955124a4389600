"""Which answers may be given to other customers, too. Pure.

What concerns one customer alone must not: an order number, a phone number, an address. The company's own, which its
knowledge says, is everybody's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from deployments.answering.cache_policy import CACHEABLE_PATHS
from deployments.answering.types import Path

# Something that belongs to one person. Found too often it costs an answer made again; too seldom, a confidence.
_PERSONAL = {
    "e-mail address": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "card number": re.compile(r"(?<![\dA-Za-z])\d(?:[ -]?\d){12,18}(?!\d)"),
    # Grouped or not, with or without a country code: eight digits or more.
    "phone number": re.compile(r"(?<![A-Za-z0-9.])\+?\(?\d{1,4}\)?(?:[ ./-]?\(?\d{2,4}\)?){2,5}(?![A-Za-z0-9])"),
    "order number": re.compile(
        r"#\s?\d{4,}|(?<![a-z0-9])[a-z]{1,5}[-_]?\d{5,}[a-z0-9-]*|(?<![\w.,$€£¥])\d{6,}(?![\w%])"
        r"|(?:order|ticket|invoice|tracking|reference|customer|account|订单|单|工单|运单|发票|会员|账)"
        r"\s*(?:number|no\.?|nr\.?|id|号码?|编号)?\s*(?:is|was|[:：#]|是|为)?\s*\d{4,}",
        re.IGNORECASE,
    ),
    "tracking number": re.compile(
        r"(?<![a-z0-9])(?=[a-z0-9]*\d{4})(?=[a-z0-9]*[a-z]{2})[a-z0-9]{10,}(?![a-z0-9])", re.I
    ),
}
_LEAST_PHONE_DIGITS = 8
_DATE = re.compile(r"\b(?:19|20)\d{2}[./-]\d{1,2}[./-]\d{1,2}\b|\b\d{1,2}[./-]\d{1,2}[./-](?:19|20)\d{2}\b")


def personal_data(text: str) -> dict[str, str]:
    """What in the text may belong to one person: it → which kind."""
    plain = _DATE.sub(" ", unicodedata.normalize("NFKC", text))
    found: dict[str, str] = {}
    for kind, pattern in _PERSONAL.items():
        for match in pattern.findall(plain):
            if kind != "phone number" or sum(letter.isdigit() for letter in match) >= _LEAST_PHONE_DIGITS:
                found.setdefault(_squeezed(match), kind)
    return found


def why_not_cached(
    *,
    path: Path,
    finish_reason: str,
    is_grounded: bool,
    question: str,
    answer: str,
    sources: Iterable[str],
    private: str = "",
) -> str | None:
    """The reason, as a word or two for logs; None where the answer may be stored.

    sources: the texts that it rests on. private: what the turn itself used that is one customer's, such as a tool.
    """
    if private:
        return private
    if path not in CACHEABLE_PATHS:
        return "path"
    if finish_reason != "stop":
        return "incomplete"
    if not is_grounded:
        return "ungrounded"
    if asked := personal_data(question):
        return f"{next(iter(asked.values()))} in the question"
    public = _squeezed(" ".join(unicodedata.normalize("NFKC", source) for source in sources))
    own = [kind for said, kind in personal_data(answer).items() if said not in public]
    return f"{own[0]} in the answer" if own else None


def _squeezed(text: str) -> str:
    """Written together, so that a number is itself however it is grouped."""
    return re.sub(r"[\s()./-]", "", text).casefold()
