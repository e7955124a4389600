"""HTML to blocks. Markdown and DOCX come here too, as HTML. Knows no files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import lxml.html

from ingestion.document import Block, BlockKind, clean, running_text
from ingestion.errors import ParseError
from ingestion.language import width
from ingestion.questions import asks, explains, is_whole
from ingestion.tables import FromAbove, TableRow, table_blocks

_SKIPPED = frozenset(
    "script style noscript template svg math nav footer aside form select iframe object head dialog".split()  # noqa: SIM905
)
_DECLARATION_BYTES = 2048
_DEEPEST = 6  # level of headings that the page does not call so
_MAX_TITLE_WIDTH = 150.0
_MAX_SPAN = 50  # rows or columns of one cell; a page may claim a million
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    (  # noqa: SIM905
        "p div section article main header ul ol li dl dt dd blockquote pre figure figcaption details summary address "
        "hr body table thead tbody tr td th caption fieldset"
    ).split()
)
_INSIDE_LAYOUT = ".//table | .//h1 | .//h2 | .//h3"  # then the table only arranges a page


@dataclass(frozen=True, slots=True)
class HtmlContent:
    blocks: tuple[Block, ...]
    described_pairs: tuple[
        Block, ...
    ] = ()  # by schema.org's FAQPage, for search engines; most stand in the blocks, too
    title: str = ""  # of the page, not the first heading
    language: str = ""
    url: str = ""  # canonical


def read_html(text: str) -> HtmlContent:
    """Of a whole page: <main> or <article> if there is one, without navigation, forms and hidden parts."""
    tree = _tree(text)
    body = next((found[0] for path in ("//main", "//article", "//body") if (found := tree.xpath(path))), tree)
    canonical = next(iter(tree.xpath("//link[@rel='canonical']/@href")), "")
    return HtmlContent(
        blocks=tuple(_Reader().read(body)),
        described_pairs=tuple(_described_pairs(tree)),
        title=clean(" ".join((tree.findtext(".//title") or "").split())),
        language=tree.get("lang") or "",
        url=str(canonical) if str(canonical).startswith(("https://", "http://")) else "",
    )


def declared_encoding(data: bytes) -> str:
    """What a page says its bytes are."""
    found = re.search(rb"(?:charset|encoding)\s*=\s*[\"']?\s*([\w.:-]+)", data[:_DECLARATION_BYTES], re.IGNORECASE)
    return found[1].decode() if found else ""


def html_blocks(text: str) -> tuple[Block, ...]:
    """Of a fragment that we rendered ourselves."""
    return tuple(_Reader().read(_tree(text))) if text.strip() else ()


def _tree(text: str) -> Any:
    # An XML declaration with an encoding is refused in text that is decoded already.
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text)
    parser = lxml.html.HTMLParser(no_network=True, remove_comments=True, remove_pis=True, huge_tree=False)
    try:
        return lxml.html.document_fromstring(text, parser=parser)
    except (lxml.etree.ParserError, ValueError) as error:
        raise ParseError(f"is not HTML: {error}") from error


@dataclass(slots=True)
class _Reader:
    """Walks the tree; text gathers in `_line` until a block begins or ends."""

    _blocks: list[Block] = field(default_factory=list)
    _line: list[str] = field(default_factory=list)
    _kind: BlockKind = "text"

    def read(self, body: Any) -> list[Block]:
        self._walk(body)
        self._flush()
        return self._blocks

    def read_inside(self, node: Any, without: Any) -> list[Block]:
        self._inside(node, without)
        self._flush()
        return self._blocks

    def _walk(self, node: Any) -> None:
        tag = node.tag
        if not isinstance(tag, str) or tag in _SKIPPED or _is_hidden(node):
            return
        if tag in _HEADINGS:
            self._flush()
            self._add("heading", _inline(node), _HEADINGS[tag])
        elif tag == "table" and not node.xpath(_INSIDE_LAYOUT):
            self._flush()
            self._blocks += table_blocks(_grid(node))
        elif tag == "dl":
            self._flush()
            self._definitions(node)
        elif tag == "details":
            self._flush()
            self._unfolded(node)
        elif tag == "button":
            self._flush()
            self._button(node)
        elif tag == "pre":
            self._flush()
            self._add("text", node.text_content())
        elif tag == "br":
            self._line.append("\n")
        elif tag in _BLOCKS:
            self._block(node)
        else:
            self._inside(node)
            self._line.append(_link(node))

    def _block(self, node: Any) -> None:
        if not (node.tag == "p" and node.getparent() is not None and node.getparent().tag == "li"):
            self._flush()
        title, node = _title_line(node)
        if title:
            self._flush()  # the bullet of an item around it
            self._add("heading", title, _DEEPEST)
        elif node.tag == "li":
            self._kind = "item"
            self._line.append(_bullet(node))
        self._inside(node)
        self._flush()

    def _definitions(self, node: Any) -> None:
        """A list of terms: a pair where the term asks or the definition explains, otherwise "term: definition"."""
        for terms, definition in _definitions(node):
            blocks = [block for part in definition for block in _Reader().read(part)]
            text = running_text(blocks)
            for term in terms:
                if explains(term, text) and not _is_divided(blocks):
                    self._blocks.append(Block("pair", text, question=term))
                else:
                    self._add("item", f"{term}: {text}" if text else term)

    def _unfolded(self, node: Any) -> None:
        """<details>: its summary asks, or is a heading of what is inside."""
        summary = next((child for child in node if child.tag == "summary"), None)
        title = _inline(summary) if summary is not None else ""
        blocks = _Reader().read_inside(node, without=summary)
        text = running_text(blocks)
        if explains(title, text) and not _is_divided(blocks):
            self._blocks.append(Block("pair", text, question=title))
            return
        if title and blocks:
            self._add("heading", title, _DEEPEST)
        self._blocks += blocks

    def _button(self, node: Any) -> None:
        """Of an accordion it is a heading; all others are for pressing."""
        if "aria-controls" in node.attrib or "aria-expanded" in node.attrib or asks(_inline(node)):
            self._add("heading", _inline(node), _DEEPEST)

    def _inside(self, node: Any, without: Any = None) -> None:
        self._line.append(_collapse(node.text))
        for child in node:
            if child is not without:
                self._walk(child)
            self._line.append(_collapse(child.tail))

    def _flush(self) -> None:
        self._add(self._kind, re.sub(r" *\n *", "\n", re.sub(r" {2,}", " ", "".join(self._line))))
        self._line.clear()
        self._kind = "text"

    def _add(self, kind: BlockKind, text: str, level: int = 0) -> None:
        text = clean(text)
        if text and not (kind == "item" and re.fullmatch(r"-|\d+\.", text)):
            self._blocks.append(Block(kind, text, level))


def _inline(node: Any) -> str:
    return " ".join(node.text_content().split())


def _collapse(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "")


def _bullet(node: Any) -> str:
    parent = node.getparent()
    if parent is None or parent.tag != "ol":
        return "- "
    first = parent.get("start", "1")
    number = (int(first) if first.isdecimal() else 1) + sum(1 for _ in node.itersiblings("li", preceding=True))
    return f"{number}. "


def _link(node: Any) -> str:
    """The address of a link, where its text does not show it: customers are sent there."""
    target = (node.get("href") or "") if node.tag == "a" else ""
    return f" ({target})" if target.startswith(("https://", "http://")) and target not in _inline(node) else ""


def _is_hidden(node: Any) -> bool:
    """Not what an accordion only folds away: a button of the page opens it."""
    style = (node.get("style") or "").replace(" ", "").lower()
    is_hidden = (
        "hidden" in node.attrib
        or node.get("aria-hidden") == "true"
        or "display:none" in style
        or "visibility:hidden" in style
    )
    return is_hidden and not (node.get("id") and node.getroottree().xpath("//*[@aria-controls=$id]", id=node.get("id")))


# --- schema.org ---


def _described_pairs(tree: Any) -> Iterator[Block]:
    for script in tree.xpath("//script[@type='application/ld+json']"):
        try:
            waiting = [json.loads(script.text or "")]
        except (ValueError, RecursionError):
            continue  # it is not what customers see, so the page is as good without it
        while waiting:
            found = waiting.pop()
            if isinstance(found, list):
                waiting += reversed(found)
            elif isinstance(found, dict) and found.get("@type") == "FAQPage":
                yield from _described_questions(found.get("mainEntity"))
            elif isinstance(found, dict):
                waiting += found.values()


def _described_questions(entities: Any) -> Iterator[Block]:
    for entity in entities if isinstance(entities, list) else [entities]:
        if not isinstance(entity, dict) or not isinstance(answer := entity.get("acceptedAnswer"), dict):
            continue
        question, text = entity.get("name"), answer.get("text")
        if isinstance(question, str) and isinstance(text, str) and text.strip():
            said = running_text(html_blocks(text))
            if question.strip() and is_whole(said):
                yield Block("pair", said, level=1, question=clean(" ".join(_text_of(question).split())))


def _text_of(markup: str) -> str:
    return running_text(html_blocks(markup))


# --- headings without being called so ---


def _title_line(node: Any) -> tuple[str, Any]:
    """A bold line above its paragraph, or alone and above another one: (its text, what is left of the paragraph)."""
    if node.tag not in ("p", "li", "div") or (node.text or "").strip():
        return "", node
    bold = list(takewhile(lambda child: child.tag in ("b", "strong"), node))
    if not bold or any((child.tail or "").strip() for child in bold[:-1]):
        return "", node
    title = clean(" ".join("".join(f"{child.text_content()}{child.tail or ''}" for child in bold[:-1]).split()))
    title = clean(" ".join(f"{title} {bold[-1].text_content()}".split()))
    following = node[len(bold)] if len(node) > len(bold) else None
    is_alone = following is None and not (bold[-1].tail or "").strip()
    if is_alone:
        is_title = node.tag == "p" and node.getnext() is not None and _could_be_title(title)
    else:
        is_title = asks(title) and title.endswith(("?", "？"))
    if not is_title:
        return "", node
    rest = copy(node)
    rest.text = bold[-1].tail
    for child in rest[: len(bold)]:
        rest.remove(child)
    return title, rest


def _could_be_title(text: str) -> bool:
    return 0 < width(text) <= _MAX_TITLE_WIDTH and not text.endswith(
        (".", "。", "!", "！", ",", "，", ";", "；", ":", "：")
    )


# --- definitions and tables ---


def _definitions(node: Any) -> Iterator[tuple[list[str], list[Any]]]:
    """(terms, nodes of what they mean) of a <dl>, whose entries may be wrapped in <div>."""
    terms: list[str] = []
    meaning: list[Any] = []
    for child in node.xpath("./dt | ./dd | ./div/dt | ./div/dd"):
        if child.tag == "dd":
            meaning.append(child)
            continue
        if meaning:
            yield terms, meaning
            terms, meaning = [], []
        terms.append(_inline(child))
    if terms or meaning:
        yield terms or [""], meaning


def _is_divided(blocks: Sequence[Block]) -> bool:
    return any(block.kind in ("heading", "pair") for block in blocks)


def _grid(table: Any) -> list[TableRow]:
    """A cell that spans columns or rows stands in each of them."""
    rows: list[TableRow] = []
    below: dict[int, tuple[str, int]] = {}  # column → what reaches into the next rows, and how many
    for row in table.xpath("./tr | ./thead/tr | ./tbody/tr | ./tfoot/tr"):
        cells: list[str] = []
        nodes = row.xpath("./th | ./td")
        for node in nodes:
            _fill_from_above(cells, below)
            text = clean(running_text(_Reader().read(node)))
            height = _span(node, "rowspan")
            for _ in range(_span(node, "colspan")):
                if height > 1:
                    below[len(cells)] = (text, height - 1)
                cells.append(text)
        _fill_from_above(cells, below)
        in_head = row.getparent().tag == "thead"
        rows.append(TableRow(cells, in_head or (bool(nodes) and all(node.tag == "th" for node in nodes))))
    return rows


def _fill_from_above(cells: list[str], below: dict[int, tuple[str, int]]) -> None:
    while len(cells) in below:
        text, left = below.pop(len(cells))
        if left > 1:
            below[len(cells)] = (text, left - 1)
        cells.append(FromAbove(text))


def _span(node: Any, name: str) -> int:
    span = node.get(name, "1")
    return max(1, min(int(span), _MAX_SPAN)) if span.isdecimal() else 1
