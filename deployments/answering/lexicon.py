"""The words that the cache's verifier knows, as read from lexicon.txt, which says what each section means."""

from __future__ import annotations

from pathlib import Path


def _sections(text: str) -> dict[str, list[str]]:
    """Lines by section, without blank ones and comments."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            lines = sections.setdefault(line.strip("[]"), [])
        elif not line.startswith("#"):
            lines.append(line)
    return sections


_SECTIONS = _sections(Path(__file__).with_name("lexicon.txt").read_text(encoding="utf-8"))


def _words(section: str) -> frozenset[str]:
    return frozenset(" ".join(_SECTIONS[section]).split())


def _concept(line: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    name, _, called = line.partition(":")
    english, _, chinese = called.partition("|")
    return name, tuple(filter(None, map(str.strip, english.split(",")))), tuple(chinese.split())


CONCEPTS = tuple(map(_concept, _SECTIONS["concepts"]))  # (name, English expressions, Chinese ones)
FILLERS_EN = _words("fillers en")
FILLERS_ZH = _words("fillers zh")
LIGHT = _words("light")
NEUTRAL = _words("neutral")
PERSONS = _words("persons")
PEOPLE = _words("people")
KNOWN_EN = _words("known")
CONFUSED_ZH = _words("confused zh")  # groups of characters
NO_TYPOS = _words("no typos")
