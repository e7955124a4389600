"""HTML to blocks. Markdown and DOCX come here too, as HTML. Knows no files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import lxml.html

from ingestion.document import Block, BlockKind, clean
from ingestion.errors import ParseError
from ingestion.tables import rows_as_text

_SKIPPED = frozenset(
    (  # noqa: SIM905
        "script style noscript template svg math nav footer aside form button select iframe object head dialog"
    ).split()
)
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
        title=clean(" ".join((tree.findtext(".//title") or "").split())),
        language=tree.get("lang") or "",
        url=str(canonical) if str(canonical).startswith(("https://", "http://")) else "",
    )


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

    def _walk(self, node: Any) -> None:
        tag = node.tag
        if not isinstance(tag, str) or tag in _SKIPPED or _is_hidden(node):
            return
        if tag in _HEADINGS:
            self._flush()
            self._add("heading", _inline(node), _HEADINGS[tag])
        elif tag == "table" and not node.xpath(_INSIDE_LAYOUT):
            self._flush()
            for row in rows_as_text(list(_cells(node))):
                self._add("row", row)
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
        if node.tag == "li":
            self._kind = "item"
            self._line.append(_bullet(node))
        self._inside(node)
        self._flush()

    def _inside(self, node: Any) -> None:
        self._line.append(_collapse(node.text))
        for child in node:
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
    style = (node.get("style") or "").replace(" ", "").lower()
    return (
        "hidden" in node.attrib
        or node.get("aria-hidden") == "true"
        or "display:none" in style
        or "visibility:hidden" in style
    )


def _cells(table: Any) -> Iterator[tuple[list[str], bool]]:
    """Rows of a table as (cells, is a header row). A cell that spans columns stands in each of them."""
    for row in table.xpath("./tr | ./thead/tr | ./tbody/tr | ./tfoot/tr"):
        cells: list[str] = []
        nodes = row.xpath("./th | ./td")
        for node in nodes:
            span = node.get("colspan", "1")
            text = " ".join(block.text.replace("\n", " ") for block in _Reader().read(node))
            cells.extend([clean(text)] * (min(int(span), 50) if span.isdecimal() else 1))
        in_head = row.getparent().tag == "thead"
        yield cells, in_head or (bool(nodes) and all(node.tag == "th" for node in nodes))
