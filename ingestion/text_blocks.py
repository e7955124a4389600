"""Plain text to blocks: paragraphs by blank lines, and those lines that stand like headings. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ingestion.document import Block, BlockKind
from ingestion.language import width
from ingestion.qa_pairs import is_marked

_MAX_TITLE_WIDTH = 130.0
_SENTENCE_END = (".", "!", "?", "。", "！", "？", ":", "：", ";", "；", ",", "，", "…")
_UNDERLINE = re.compile(r"([=~*#-])\1{2,}")
_ITEM = re.compile(r"(?:[-*–]\s+|[•·▪◦●■]\s*|\(?\d{1,2}[.)、）](?!\d)\s*|[a-z]\)\s+)(?=\S)")
_FRAME = re.compile(r"[=#*\s]*[【〖\[]?(.+?)[】〗\]]?[=#*\s]*")
# "第一章", "一、", "（一）" or "1.", "1.2": the deeper the later
_LEVELS = (
    re.compile(r"第[一二三四五六七八九十百\d]+[章节部编篇]"),
    re.compile(r"[一二三四五六七八九十]{1,3}、|[IVX]{1,4}\.\s"),
    re.compile(r"[（(][一二三四五六七八九十]{1,3}[)）]|\d{1,2}[.、]\s*(?!\d)"),
    re.compile(r"\d{1,2}\.\d{1,2}"),
)
_LEVEL_WITHOUT_NUMBER = 2


def text_blocks(text: str) -> list[Block]:
    """Of text that `clean` has seen."""
    paragraphs = [part for paragraph in re.split(r"\n\s*\n", text) for part in _parts(paragraph.strip())]
    blocks: list[Block] = []
    for number, paragraph in enumerate(paragraphs):
        following = paragraphs[number + 1] if number + 1 < len(paragraphs) else ""
        if is_heading := _is_underlined(paragraph) or _is_title(paragraph, following):
            title = paragraph.split("\n")[0]
            blocks.append(Block("heading", (_FRAME.fullmatch(title) or [title, title])[1], _level(title, not blocks)))
        blocks += [] if is_heading else _paragraph(paragraph)
    return blocks


def _parts(paragraph: str) -> Sequence[str]:
    """A line with a rule below is a paragraph of its own; rules alone part, and say nothing."""
    lines = paragraph.split("\n")
    if len(lines) > 2 and _UNDERLINE.fullmatch(lines[1].strip()):
        return ["\n".join(lines[:2]), "\n".join(lines[2:])]
    return [paragraph] if re.search(r"\w", paragraph) else []


def _is_underlined(paragraph: str) -> bool:
    lines = paragraph.split("\n")
    return len(lines) == 2 and bool(_UNDERLINE.fullmatch(lines[1].strip()))


def _is_title(paragraph: str, following: str) -> bool:
    """A short line that is no sentence, above a paragraph that is one."""
    if "\n" in paragraph or not 0 < width(paragraph) <= _MAX_TITLE_WIDTH or is_marked(paragraph):
        return False
    is_body = "\n" in following or following.endswith(_SENTENCE_END)
    return not paragraph.endswith(_SENTENCE_END) and is_body and width(following) > width(paragraph)


def _level(title: str, is_first: bool) -> int:
    numbered = next((level for level, kind in enumerate(_LEVELS, start=1) if kind.match(title)), None)
    return numbered or (1 if is_first else _LEVEL_WITHOUT_NUMBER)


def _paragraph(paragraph: str) -> list[Block]:
    """Lines that begin as items are items; all others go on what is above them."""
    found: list[tuple[BlockKind, list[str]]] = []
    for line in paragraph.split("\n"):
        if _ITEM.match(line.strip()) and not is_marked(line.strip()):
            found.append(("item", [line.strip()]))
        elif found:
            found[-1][1].append(line)
        else:
            found.append(("text", [line]))
    return [Block(kind, "\n".join(lines)) for kind, lines in found]
