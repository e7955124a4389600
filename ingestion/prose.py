"""Markdown, text, HTML and Word to documents: blocks under headings, with the question-answer pairs among them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt

from ingestion import ocr
from ingestion.document import Block, Details, Document, Reject, clean, read_details
from ingestion.encodings import decode
from ingestion.errors import ParseError
from ingestion.html_blocks import declared_encoding, html_blocks, read_html
from ingestion.qa_pairs import find_pairs
from ingestion.text_blocks import text_blocks

OnProgress = Callable[[], None]

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)(?:\n|(?<=\n))---[ \t]*(?:\n|$)", re.DOTALL)
_MARKDOWN = MarkdownIt("commonmark", {"breaks": True}).enable("table")


def read_markdown_file(path: Path, source: str) -> Iterator[Document]:
    text = decode(path.read_bytes()).replace("\r\n", "\n")
    matter, body = _front_matter(text)
    yield prose_document(source, read_details(matter), markdown_blocks(body))


def read_text_file(path: Path, source: str) -> Iterator[Document]:
    yield prose_document(source, Details(), text_blocks(clean(decode(path.read_bytes()))))


def read_html_file(path: Path, source: str) -> Iterator[Document]:
    data = path.read_bytes()
    content = read_html(decode(data, declared_encoding(data)))
    details = read_details({"language": content.language, "url": content.url})
    document = prose_document(source, details, content.blocks or content.described_pairs, fallback_title=content.title)
    yield replace(document, blocks=(*document.blocks, *_other_pairs(document.blocks, content.described_pairs)))


def _other_pairs(blocks: Sequence[Block], pairs: Sequence[Block]) -> list[Block]:
    """Pairs that are not among the blocks, however they write the question."""

    def key(block: Block) -> str:
        return re.sub(r"\W+", "", block.question).lower()

    known = {key(block) for block in blocks if block.kind == "pair"}
    return [pair for pair in pairs if key(pair) not in known]


def read_word_file(path: Path, source: str) -> Iterator[Document]:
    import mammoth

    no_images = mammoth.images.img_element(lambda image: {"src": ""})
    with path.open("rb") as opened:
        try:
            # Word's own title is a style, not a heading.
            html = mammoth.convert_to_html(
                opened, convert_image=no_images, style_map="p[style-name='Title'] => h1:fresh"
            ).value
        except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
            raise ParseError(f"is a broken Word document, or cut off: save it again ({error})") from error
    yield prose_document(source, Details(), html_blocks(html))


def read_pdf_file(path: Path, source: str, on_progress: OnProgress = lambda: None) -> Iterator[Document | Reject]:
    from ingestion.pdf import read_pdf

    content = read_pdf(path, on_progress)
    if content.blocks:
        yield prose_document(source, Details(), content.blocks, fallback_title=content.title)
    if pages := content.pages_without_text:
        # As part of a file that was read otherwise, or as the file.
        where = f"{source}:{_ranges(pages).replace(' ', '')}" if content.blocks else source
        yield Reject(where, _why_unread(pages))


def _why_unread(pages: Sequence[int]) -> str:
    which = f"pages {_ranges(pages)} are pictures" if len(pages) > 1 else f"page {pages[0]} is a picture"
    if ocr.is_installed():
        return f"{which} in which no text was recognised: scan it more clearly, or write its text beside it"
    return f"{which} without text: install {ocr.EXTRA} to have it recognised (OCR)"


def _ranges(numbers: Sequence[int]) -> str:
    """[1, 2, 3, 5] is "1-3, 5"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def markdown_blocks(text: str) -> tuple[Block, ...]:
    return html_blocks(_MARKDOWN.render(text))


def prose_document(source: str, details: Details, blocks: Sequence[Block], fallback_title: str = "") -> Document:
    """Called by its own title, or else by its first heading. Raises `ParseError` where there are only headings."""
    if not any(block.kind != "heading" for block in blocks):
        raise ParseError("holds no text")
    first = blocks[0].text if blocks[0].kind == "heading" else ""
    title = details.title or first or fallback_title
    if title and first != title:
        blocks = [Block("heading", title), *blocks]  # above all others; it may be the question that the rest answers
    found = find_pairs(blocks)
    if title and found[0].kind == "heading":
        found = found[1:]  # it would only repeat the title
    return Document(source, source, replace(details, title=title), tuple(found))


def _front_matter(text: str) -> tuple[dict[str, Any], str]:
    found = _FRONT_MATTER.match(text)
    if not found:
        return {}, text
    try:
        matter = yaml.safe_load(found[1]) or {}
    except (yaml.YAMLError, ValueError) as error:
        raise ParseError(f"its front matter is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(matter, dict):
        # A page may begin with a ruled-off paragraph: that is text.
        return {}, text
    return {str(key).lower(): value for key, value in matter.items()}, text[found.end() :]
