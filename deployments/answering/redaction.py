"""Personal data, replaced before a text leaves the premises, and put back into what comes in return. Pure.

Recognised by form: e-mail addresses, card numbers (Luhn), bank accounts (IBAN), Chinese resident identity numbers (with
their check digit), US social security numbers, telephone numbers, and codes such as an order number's. What a text
holds is replaced by `[KIND-1]`, the same thing by the same placeholder throughout one conversation. Rather too much
than too little: what the model repeats is put back, so a price or a date that was replaced costs nothing.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import count

_DIGIT_RUN = r"\d(?:[ \u00a0.\-–/]?\d)"
_EDGE, _END = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_EMAIL = re.compile(r"[\w.+%-]+\s?[@＠]\s?[\w-]+(?:[.．。][\w-]+)+")
_IBAN = re.compile(rf"{_EDGE}[A-Za-z]{{2}}\d{{2}}(?:[ -]?[A-Za-z0-9]){{11,30}}{_END}")
_RESIDENT_ID = re.compile(rf"{_EDGE}\d{{6}}[ -]?(?:18|19|20)\d{{2}}[ -]?\d{{4}}[ -]?\d{{3}}[\dXx]{_END}")
_RESIDENT_ID_OLD = re.compile(rf"{_EDGE}\d{{8}}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{{3}}{_END}")
_SOCIAL_SECURITY = re.compile(rf"{_EDGE}\d{{3}}[- ]\d{{2}}[- ]\d{{4}}{_END}")
_CARD = re.compile(rf"{_EDGE}{_DIGIT_RUN}{{12,18}}{_END}")
_PHONE = re.compile(rf"(?<![A-Za-z0-9.])[+＋]?\(?\d{{1,4}}\)?(?:[ \u00a0./-]?\(?\d{{2,4}}\)?){{2,6}}{_END}")
_SPOKEN = re.compile(r"[零〇一二三四五六七八九幺两]{7,}")
# Letters with digits, or six digits and more; "4.95", "1,299.00 €" and "100g" are none.
_CODE = re.compile(
    r"#\s?\d{3,}|(?<![A-Za-z0-9.])(?=[A-Za-z0-9_-]*\d{3})"
    r"(?:[A-Za-z0-9]|[_-](?=[A-Za-z0-9])){6,}(?![A-Za-z0-9]|[.,]\d)"
)
_NAMED_CODE = re.compile(
    r"(?:order|ticket|invoice|tracking|parcel|reference|customer|account|passport|booking"
    r"|订单|单|工单|运单|快递|发票|会员|账|护照)"
    r"\s*(?:number|no\.?|nr\.?|id|号码?|编号)?\s*(?:is|was|[:：#]|是|为)?\s*((?=[A-Za-z0-9-]*\d{3})[A-Za-z0-9-]{3,})",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?:19|20)\d{2}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](?:19|20)?\d{2}")
_PLACEHOLDER = re.compile(r"\[[A-Z]+-\d+\]")
_LEAST_PHONE_DIGITS, _MOST_PHONE_DIGITS = 7, 15  # the most is E.164's
_RESIDENT_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_LONGEST_PLACEHOLDER = 16  # "[KIND-123456789]"


class Redaction:
    """Of one call: which placeholder stands for what."""

    def __init__(self, private: Sequence[str] = ()) -> None:
        """private: what is personal by what is known of it, not by its form."""
        self._private = sorted({value for value in private if value.strip()}, key=len, reverse=True)
        self._placeholders: dict[str, str] = {}  # squeezed value → placeholder
        self._originals: dict[str, str] = {}  # placeholder → as it was first written

    def redacted(self, text: str) -> str:
        parts: list[str] = []
        end = 0
        for start, stop, kind in _without_overlaps(self._found(text)):
            parts += [text[end:start], self._placeholder(kind, text[start:stop], text)]
            end = stop
        return "".join([*parts, text[end:]])

    def restored(self, text: str, *, in_json: bool = False) -> str:
        """in_json: the text is JSON, and what is put back stands within its strings."""

        def original(match: re.Match[str]) -> str:
            written = self._originals.get(match[0], match[0])
            return json.dumps(written, ensure_ascii=False)[1:-1] if in_json else written

        return _PLACEHOLDER.sub(original, text)

    def restoring(self) -> Restoring:
        return Restoring(self)

    @property
    def count(self) -> int:
        """Different things that were replaced."""
        return len(self._originals)

    def _found(self, text: str) -> Iterator[tuple[int, int, str]]:
        for value in self._private:
            for match in re.finditer(re.escape(value), text, re.IGNORECASE):
                yield match.start(), match.end(), "ID"
        yield from _personal(text)

    def _placeholder(self, kind: str, written: str, text: str) -> str:
        key = _squeezed(written)
        if key not in self._placeholders:
            own = (f"[{kind}-{number}]" for number in count(1))
            # A customer may have written such a thing, too: it stays what it is.
            chosen = next(one for one in own if one not in self._originals and one not in text)
            self._placeholders[key], self._originals[chosen] = chosen, written
        return self._placeholders[key]


class Restoring:
    """The same for a text that comes in pieces: a placeholder that is cut by their border is waited for."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._waiting = ""

    def feed(self, piece: str, *, in_json: bool = False) -> str:
        """What can be said now; may be nothing. in_json: as of `Redaction.restored`."""
        text = self._waiting + piece
        opened = text.rfind("[")
        may_go_on = opened >= 0 and "]" not in text[opened:] and len(text) - opened < _LONGEST_PLACEHOLDER
        self._waiting = text[opened:] if may_go_on else ""
        return self._redaction.restored(text[:opened] if may_go_on else text, in_json=in_json)

    def rest(self, *, in_json: bool = False) -> str:
        text, self._waiting = self._waiting, ""
        return self._redaction.restored(text, in_json=in_json)


def _personal(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, kind), the surest kinds first."""
    for pattern, kind, is_one in (
        (_EMAIL, "EMAIL", lambda _: True),
        (_IBAN, "ACCOUNT", _is_iban),
        (_RESIDENT_ID, "ID", _is_resident_id),
        (_CARD, "CARD", _is_card),
        (_RESIDENT_ID_OLD, "ID", lambda _: True),
        (_SOCIAL_SECURITY, "ID", lambda _: True),
    ):
        for match in pattern.finditer(text):
            if is_one(_squeezed(match[0])):
                yield match.start(), match.end(), kind
    for match in _NAMED_CODE.finditer(text):
        yield match.start(1), match.end(1), "ORDER"
    for match in _PHONE.finditer(text):
        digits = sum(letter.isdigit() for letter in match[0])
        if _LEAST_PHONE_DIGITS <= digits <= _MOST_PHONE_DIGITS and not _DATE.fullmatch(match[0].strip()):
            yield match.start(), match.end(), "PHONE"
    for match in _SPOKEN.finditer(text):
        yield match.start(), match.end(), "PHONE"
    for match in _CODE.finditer(text):
        if not _DATE.fullmatch(match[0]):
            yield match.start(), match.end(), "ORDER"


def _without_overlaps(found: Iterator[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """In the order of the text; of two that overlap the one that was found first, the other one's rest with it."""
    kept: list[tuple[int, int, str]] = []
    for start, end, kind in found:
        clash = next((one for one in kept if start < one[1] and one[0] < end), None)
        if clash is None:
            kept.append((start, end, kind))
        elif start < clash[0] or end > clash[1]:  # nothing of either may be left over
            others = [one for one in kept if not (start < one[1] and one[0] < end)]
            touched = [one for one in kept if one not in others]
            kept = [*others, (min(start, *(a for a, _, _ in touched)), max(end, *(b for _, b, _ in touched)), clash[2])]
    return sorted(kept)


def _squeezed(written: str) -> str:
    """Without separators: the same number, written otherwise, is the same."""
    plain = unicodedata.normalize("NFKC", written).casefold()
    return "".join(letter for letter in plain if letter.isalnum() or letter in "@.+_")


def _digits(squeezed: str) -> list[int]:
    return [int(letter) for letter in squeezed if letter.isdigit()]


def _is_card(squeezed: str) -> bool:
    digits = _digits(squeezed)[::-1]
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[1::2]]
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_resident_id(squeezed: str) -> bool:
    """By its check character (GB 11643, ISO 7064 MOD 11-2)."""
    body, check = squeezed[:17], squeezed[17:]
    total = sum(int(digit) * weight for digit, weight in zip(body, _RESIDENT_WEIGHTS, strict=True))
    return "10x98765432"[total % 11] == check


def _is_iban(squeezed: str) -> bool:
    """By its check digits (ISO 13616, MOD 97-10)."""
    moved = squeezed[4:] + squeezed[:4]
    return int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1
