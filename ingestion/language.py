"""Chinese, English or undetermined, by the letters a text is written in. Pure."""

from __future__ import annotations

import re

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
_LEAST_LETTERS = 4  # fewer say nothing: "SKU 4711"
_HAN_SHARE = 0.2  # of all letters; one Chinese word has two, an English one five. Questions are judged alike.
_LATIN_SHARE = 0.8


def detect_language(text: str) -> str:
    """ "zh", "en" or "und"."""
    letters = sum(character.isalpha() for character in text)
    han = len(_HAN.findall(text))
    if han >= 2 and han / letters >= _HAN_SHARE:
        return "zh"
    if letters >= _LEAST_LETTERS and len(_LATIN.findall(text)) / letters >= _LATIN_SHARE:
        return "en"
    return "und"
