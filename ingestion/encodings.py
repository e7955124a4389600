"""Bytes to text: UTF-8 first, then by byte order mark, then as charset-normalizer judges."""

from __future__ import annotations

import codecs

from charset_normalizer import from_bytes

from ingestion.errors import ParseError

_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# Those that companies' exports come in. In a tie the first wins: short texts are valid in several.
_LEGACY = ("gb18030", "big5", "shift_jis", "cp1252", "cp1251")
_SAMPLE_BYTES = 200_000  # judging more takes seconds and changes nothing


def decode(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _decode_as(data, encoding)
    if b"\x00" in data:
        raise ParseError("is binary, not text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _decode_as(data, _judge(data))


def _judge(data: bytes) -> str:
    sample = data[:_SAMPLE_BYTES].rsplit(b"\n", 1)[0] if len(data) > _SAMPLE_BYTES else data
    matches = {match.encoding: match.chaos for match in from_bytes(sample, cp_isolation=list(_LEGACY))}
    if not matches:
        raise ParseError("its encoding is unknown: save it as UTF-8")
    return min(matches, key=lambda encoding: (matches[encoding], _LEGACY.index(encoding)))


def _decode_as(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ParseError(f"is {encoding}, but broken at byte {error.start}: save it as UTF-8") from error
