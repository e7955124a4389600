"""A document as it was read, before it is split: blocks of text with headings, or one curated pair. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any, Literal

from ingestion.errors import ParseError

BlockKind = Literal["heading", "text", "item", "row", "pair"]

# Keys of front matter, of JSONL rows and of columns that describe a document rather than being its content.
FIELDS = ("title", "language", "topic", "url", "audience", "valid_from", "valid_until")
_RESTRICTING = ("audience", "valid_from", "valid_until")
_AUDIENCE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LANGUAGES = {"en": "en", "zh": "zh", "cn": "zh", "und": "und", "english": "en", "chinese": "zh", "中文": "zh"}
_LINK = re.compile(r"(https?://[^\s/]|/(?!/))\S*", re.IGNORECASE)
# Control characters (but for tab and line feed), zero-width spaces and joiners, byte order marks, half surrogates.
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a heading, an item of a list, a row of a table with its headers, or a question with its answer."""

    kind: BlockKind
    text: str  # of a pair, the answer
    level: int = 0  # 1-6, of headings and of pairs that stand in place of one
    page: int | None = None  # 1-based
    question: str = ""  # of a pair


def gap(before: Block, after: Block) -> str:
    """What parts two blocks in running text."""
    return "\n" if before.kind == after.kind and after.kind in ("item", "row") else "\n\n"


def running_text(blocks: Sequence[Block]) -> str:
    parts = [
        f"{gap(before, block)}{block.text}" for before, block in zip([*blocks[:1], *blocks[:-1]], blocks, strict=True)
    ]
    return "".join(parts).strip()


@dataclass(frozen=True, slots=True)
class Details:
    """What an author says about a document."""

    title: str = ""
    language: str = ""  # "" is to be detected
    topic: str = ""
    url: str = ""
    audience: str = "public"
    valid_from: date | None = None
    valid_until: date | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A pair has a question and an answer and no blocks; all others have blocks."""

    id: str
    source: str
    details: Details
    blocks: tuple[Block, ...] = ()
    question: str = ""
    answer: str = ""

    @property
    def title(self) -> str:
        """A file without a title is called by its name: "faq/return_policy.txt" is "return policy"."""
        is_file = self.id == self.source
        return self.details.title or (re.sub(r"[\s_-]+", " ", PurePosixPath(self.source).stem) if is_file else "")

    @property
    def fingerprint(self) -> str:
        """Of what it says and to whom, wherever it was read: two equal ones are the same document."""
        return digest(self.details, self.blocks, self.question, self.answer)


@dataclass(frozen=True, slots=True)
class Reject:
    """A document, or a file, that cannot be read; with a reason that tells its author what to do."""

    source: str
    reason: str


@dataclass(slots=True)
class Parsed:
    """What one file gave."""

    documents: list[Document] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def digest(*parts: object) -> str:
    """32 hex digits, the same in every process."""
    return hashlib.sha256("\x1f".join(map(repr, parts)).encode()).hexdigest()[:32]


def clean(text: str) -> str:
    """Without what cannot be seen or stored, in composed form (é is one character), lines without trailing blanks."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\f", "\n")
    lines = unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip()


# --- what an author says ---


def read_details(raw: Mapping[str, Any]) -> Details:
    """Of front matter, of a JSONL row or of a row's columns."""
    _check_spelling(raw)
    values = {key: clean(str(value)) for key, value in raw.items() if key in FIELDS and value is not None}
    valid_from, valid_until = (_date(key, raw.get(key)) for key in ("valid_from", "valid_until"))
    if valid_from and valid_until and valid_until < valid_from:
        raise ParseError(f"valid_until ({valid_until}) is before valid_from ({valid_from})")
    return Details(
        title=values.get("title", ""),
        language=_language(values.get("language", "")),
        topic=values.get("topic", ""),
        url=_url(values.get("url", "")),
        audience=_audience(values.get("audience", "")),
        valid_from=valid_from,
        valid_until=valid_until,
    )


def _check_spelling(raw: Mapping[str, Any]) -> None:
    """A misspelt `audience` would show the staff's notes to customers: better to reject the document."""
    for key in raw:
        close = get_close_matches(key.strip().lower(), _RESTRICTING, n=1, cutoff=0.8)
        if close and key != close[0]:
            raise ParseError(f"unknown field '{key}': did you mean '{close[0]}'?")


def _language(value: str) -> str:
    """ "zh-CN" is "zh"; a language that we do not tell apart is "und"."""
    return _LANGUAGES.get(re.split(r"[-_]", value.lower())[0], "und") if value else ""


def _url(value: str) -> str:
    if value and not _LINK.fullmatch(value):
        raise ParseError(f"url '{value[:80]}' has to begin with https://, http:// or /")
    return value


def _audience(value: str) -> str:
    if value and not _AUDIENCE.fullmatch(value):
        raise ParseError(f"audience '{value[:80]}' has to be one name of lower-case letters, digits, '-' and '_'")
    return value or "public"


def _date(key: str, value: object) -> date | None:
    if isinstance(value, datetime):
        return value.date()
    if value is None or value == "" or isinstance(value, date):
        return value or None  # type: ignore[return-value]
    try:
        return date.fromisoformat(str(value).strip()[:10])
    except ValueError as error:
        raise ParseError(f"{key} '{value}' is not a date like 2026-12-31") from error


# --- as JSON, between processes ---


def shallow(value: Any) -> dict[str, Any]:
    """The fields of a dataclass with slots as they are. `asdict` copies all that is in them, in ten times as long."""
    return {name: getattr(value, name) for name in value.__slots__}


def document_to_json(document: Document) -> str:
    blocks = [shallow(block) for block in document.blocks]
    raw = {**shallow(document), "details": shallow(document.details), "blocks": blocks}
    return json.dumps(raw, ensure_ascii=False, default=date.isoformat)


def document_from_json(text: str) -> Document:
    raw: dict[str, Any] = json.loads(text)
    details = raw["details"]
    for key in ("valid_from", "valid_until"):
        details[key] = date.fromisoformat(details[key]) if details[key] else None
    blocks = tuple(Block(**block) for block in raw["blocks"])
    return Document(**{**raw, "details": Details(**details), "blocks": blocks})
