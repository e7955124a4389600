"""Bytes to text: byte order marks, UTF-8, UTF-16 without a mark, then legacy encodings.

Statistical detectors need a paragraph; an export's cell or a short note is a line. What tells encodings apart in a line
is which characters they make of it: read wrongly, bytes turn into rare ones.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path

from ingestion.errors import ParseError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 200_000  # judging more takes longer and changes nothing
_LEAST_USUAL = 0.6  # share of usual characters below which no encoding is believed
_LEAST_PLAIN = 0.9  # of UTF-16 without a mark, where every second pair of bytes is a character of some script
_BROKEN_SHARE = 0.2  # of the characters beyond ASCII: damaged UTF-8 has few bad ones, another encoding has many
_CONTROLS = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]")  # no text has them, but for a last \x1a of DOS
_MOST_CONTROLS = 0.005  # of all bytes
_PLAIN = re.compile(r"[\t\n\r -~\u00a0-\u017f\u2010-\u2040\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]")


def decode(data: bytes, declared: str = "") -> str:
    """Without the byte order mark.

    declared: an encoding that the document names, believed where the bytes are not UTF-8 and are valid in it.
    Raises `ParseError`.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_as(data[len(mark) :], encoding)
    if b"\x00" in data:
        return _utf16_without_mark(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        _refuse_damaged_utf8(data, error)
    if (text := _as_declared(data, declared)) is not None:
        return text
    return _decode_as(data, _judge(data))


def is_utf8(path: Path) -> bool:
    """Reads all of it, but never more than a little at once."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as opened:
        try:
            while block := opened.read(_SAMPLE_BYTES):
                if b"\x00" in block:
                    return False
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _as_declared(data: bytes, declared: str) -> str | None:
    try:
        # Who says gb2312 writes its successor; who says latin-1 writes cp1252, as every browser knows.
        name = codecs.lookup(declared).name
        return data.decode({"gb2312": "gb18030", "gbk": "gb18030", "iso8859-1": "cp1252"}.get(name, name))
    except (LookupError, UnicodeDecodeError):
        return None


def _refuse_damaged_utf8(data: bytes, error: UnicodeDecodeError) -> None:
    """Text cut within a character, or with some bytes overwritten, would pass for gibberish in another encoding."""
    text = data.decode("utf-8", "replace")
    beyond_ascii = sum(character > "\x7f" for character in text)
    broken = text.count("\ufffd")
    if broken == 1 and error.reason == "unexpected end of data" and beyond_ascii > 2:
        raise ParseError("is cut off in the middle of a character: copy the file again") from error
    if beyond_ascii and broken / beyond_ascii < _BROKEN_SHARE:
        raise ParseError(f"is UTF-8, but damaged at byte {error.start}: copy it again, or save it as UTF-8") from error


def _decode_as(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ParseError(f"is {encoding}, but broken at byte {error.start}: save it as UTF-8") from error


def _utf16_without_mark(data: bytes) -> str:
    """English in UTF-16 is Chinese in the other byte order, so ASCII counts a little more."""
    shares = {}
    sample = data[: _SAMPLE_BYTES // 2 * 2]
    for encoding in ("utf-16-le", "utf-16-be"):
        text = sample.decode(encoding, "replace")
        ascii_share = sum(character < "\x80" for character in text) / max(len(text), 1)
        shares[encoding] = (len(_PLAIN.findall(text)) / max(len(text), 1), ascii_share)
    best = max(shares, key=lambda encoding: sum(shares[encoding]))
    if shares[best][0] < _LEAST_PLAIN or "\x00" in sample.decode(best, "replace"):
        raise ParseError("is binary, not text: export it as text, or remove it")
    return _decode_as(data, best)


# --- legacy encodings ---


def _judge(data: bytes) -> str:
    sample = data[:_SAMPLE_BYTES].rsplit(b"\n", 1)[0] if len(data) > _SAMPLE_BYTES else data
    if len(_CONTROLS.findall(sample.rstrip(b"\x1a"))) > _MOST_CONTROLS * len(sample):
        raise ParseError("is binary, not text: export it as text, or remove it")
    shares = {}
    for encoding, usual in _LEGACY.items():
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        shares[encoding] = usual(text)
    best = max(shares, key=lambda encoding: shares[encoding], default="")  # in a tie the first
    if not best or shares[best] < _LEAST_USUAL:
        raise ParseError("is not text, or its encoding is unknown: save it as UTF-8")
    return best


def _usual_han(encoding: str, lead_bytes: range) -> Callable[[str], float]:
    """Of national standards the first level holds the characters of daily use, in rows of their own."""
    alone = re.compile(r"(?<![^\x00-\x7f])[^\x00-\x7f](?=[a-z])")  # "L’échange" read as Chinese is "L帝change"

    def share(text: str) -> float:
        beyond = sum(character > "\x7f" for character in text)
        codes = (character.encode(encoding, "ignore") for character in alone.sub("", text) if character > "\x7f")
        return sum(len(code) == 2 and code[0] in lead_bytes for code in codes) / max(beyond, 1)

    return share


def _usual_letters(letters: str) -> Callable[[str], float]:
    """Of an alphabet: a letter beyond ASCII that stands in a word as letters do."""
    usual = re.compile(letters)

    def share(text: str) -> float:
        beyond = sum(character > "\x7f" for character in text)
        return sum(len(found[0]) for found in usual.finditer(text)) / max(beyond, 1)

    return share


# Those that companies' exports come in. In a tie the first wins: a few characters are valid in several.
_LEGACY: dict[str, Callable[[str], float]] = {
    "gb18030": _usual_han("gb2312", range(0xA1, 0xD8)),
    "big5": _usual_han("big5", range(0xA1, 0xC7)),
    "shift_jis": _usual_han("shift_jis", range(0x81, 0x98)),
    # Small letters with at most one of their kind beside them, large ones where a word begins, quotes, dashes, signs.
    "cp1252": _usual_letters(
        r"(?<![À-öø-ÿ])(?:[ß-öø-ÿšœžƒ]{1,2}(?![À-öø-ÿ])|(?<![A-Za-z])[À-ÖØ-ÞŠŒŽ](?=[a-z\s]|$)|[À-ÖØ-ÞŠŒŽ](?=[A-Z])"
        r"|(?<=[A-Z])[À-ÖØ-ÞŠŒŽ](?![a-z]))|[‘’“”„‚–—…€£¥©®™°§«»¿¡·•½¼¾²³µ\u00a0´×±]"
    ),
    "cp1251": _usual_letters(
        r"(?<![A-Za-z])(?:[А-ЯЁІЇЄҐ]?[а-яёіїєґ]+|[А-ЯЁ]+)(?![A-Za-zА-Яа-я])|[‘’“”„–—…€©®№«»\u00a0]"
    ),
}
