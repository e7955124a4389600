"""Which sources an answer rests on. Pure.

A sentence is supported when one stretch of one source, a sentence or two that follow one another, holds most of its
content words and all of its numbers, and denies what it denies. Word overlap is a coarse measure, but a transparent one
that works in both languages and needs no second model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property, lru_cache

from deployments.answering.tokens import estimated_tokens
from deployments.answering.types import Citation, RetrievedChunk
from deployments.answering.words import coverage, is_negated, words
from ingestion.chunk import Chunk
from models.protocols import GenerationEnd, TextDelta

LEAST_SUPPORT = 0.8  # share of a sentence's content words that its source must hold
_MOST_REPEATS = 3  # of one word in a sentence: a very small model can go round in circles
QUOTE_CHARS = 280  # shown with a citation
# Behind a full stop there has to be a space, or "4.90" would end a sentence.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*|\s*\n\s*")
_IS_ENDED = re.compile(r"[.!?]\s+$|[。！？]\s*$|\n\s*$")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A sentence of a source, or two, with the words of the headings above it."""

    words: frozenset[str]
    numbers: frozenset[str]
    is_negated: bool


class Sources:
    """The chunks that an answer was made from."""

    def __init__(self, chunks: Sequence[RetrievedChunk]) -> None:
        self.chunks = chunks

    @cached_property
    def _stretches(self) -> list[tuple[int, _Stretch]]:
        """With the position of their chunk; only once a sentence is held against them: the model reads meanwhile."""
        return [(number, one) for number, found in enumerate(self.chunks) for one in _stretches_of(found.chunk)]

    def support(self, sentence: str) -> tuple[int, float] | None:
        """(position of the chunk, share of the words it holds) of the best support; None when there is none."""
        needed, numbers, negated = words(sentence), _numbers(sentence), is_negated(sentence)
        if _goes_in_circles(sentence):
            return None
        shares = [
            (coverage(needed, stretch.words), -number)
            for number, stretch in self._stretches
            if numbers <= stretch.numbers and stretch.is_negated == negated
        ]
        share, chunk = max(shares, default=(0.0, 0))
        return (-chunk, share) if share >= LEAST_SUPPORT else None


def split_sentences(text: str) -> list[str]:
    """Its sentences, each with the blanks that follow it: joined, they are the text."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True) if start < end]


def says_something(sentence: str) -> bool:
    """False for what needs no source: "1.", a dash, "in the"."""
    return bool(words(sentence))


class Grounder:
    """The sources of an answer while it is written: each citation once a sentence that needs it has ended."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._cited: set[int] = set()  # positions of chunks
        self._waiting = ""
        self._is_supported = True

    @property
    def has_source(self) -> bool:
        return bool(self._cited)

    @property
    def is_grounded(self) -> bool:
        """Every sentence with content so far is supported."""
        return bool(self._cited) and self._is_supported

    def feed(self, piece: str) -> list[Citation]:
        sentences, self._waiting = _ended(self._waiting + piece)
        return [citation for sentence in sentences if (citation := self._source_of(sentence))]

    def rest(self) -> list[Citation]:
        text, self._waiting = self._waiting, ""
        return [citation for sentence in split_sentences(text) if (citation := self._source_of(sentence))]

    def _source_of(self, sentence: str) -> Citation | None:
        """None where it was cited before, too."""
        if not says_something(sentence):
            return None
        found = self._sources.support(sentence)
        if found is None:
            self._is_supported = False
        if found is None or found[0] in self._cited:
            return None
        position, share = found
        self._cited.add(position)
        return cite(self._sources.chunks[position].chunk, len(self._cited), share)


def _ended(text: str) -> tuple[list[str], str]:
    """Sentences that nothing can be added to, and what may go on."""
    sentences = split_sentences(text)
    if sentences and not _IS_ENDED.search(sentences[-1]):
        return sentences[:-1], sentences[-1]
    return sentences, ""


async def supported(
    generated: AsyncGenerator[TextDelta | GenerationEnd, None],
    sources: Sources,
    on_unsupported: Callable[[str], None],
) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
    """Whole sentences instead of tokens, each once; breaks the generation off at the first that no source supports."""
    said: set[str] = set()
    waiting, heard = "", ""
    async with aclosing(generated):
        async for item in generated:
            is_end = isinstance(item, GenerationEnd)
            if isinstance(item, TextDelta):
                waiting, heard = waiting + item.text, heard + item.text
            sentences = split_sentences(waiting)
            whole = sentences if is_end else sentences[:-1]  # the last one may go on
            waiting = waiting[sum(map(len, whole)) :]
            for sentence in whole:
                key = sentence.strip()
                if says_something(sentence) and sources.support(sentence) is None:
                    on_unsupported(key)
                    yield GenerationEnd("stop", 0, estimated_tokens(heard))  # the end that counts them was not heard
                    return
                if key not in said:  # a very small model repeats itself
                    said.add(key)
                    yield TextDelta(sentence)
            if is_end:
                yield item


@lru_cache(maxsize=512)  # what is asked about much is cited much; 25 KiB for 1,400 letters
def _stretches_of(chunk: Chunk) -> tuple[_Stretch, ...]:
    above = f"{chunk.title} {' '.join(chunk.heading_path)} {chunk.question}"
    sentences = split_sentences(chunk.answer or chunk.text)
    texts = [
        text
        for first, second in zip(sentences, [*sentences[1:], ""], strict=True)
        for text in {first, f"{first} {second}"}
    ]
    return tuple(_Stretch(words(f"{above} {text}"), _numbers(f"{above} {text}"), is_negated(text)) for text in texts)


def _goes_in_circles(sentence: str) -> bool:
    counts = Counter(re.findall(r"[a-z]{4,}|[\u3400-\u9fff]{2}", sentence.lower()))
    return bool(counts) and max(counts.values()) > _MOST_REPEATS


def _numbers(text: str) -> frozenset[str]:
    return frozenset(_NUMBER.findall(text))


def cite(chunk: Chunk, index: int = 1, support: float = 1.0) -> Citation:
    return Citation(
        index=index,
        chunk_id=chunk.id,
        document_id=chunk.document_id,
        title=chunk.title or chunk.question or chunk.source,
        url=chunk.url,
        heading_path=chunk.heading_path,
        quote=excerpt(chunk.answer or chunk.text, QUOTE_CHARS),
        support=round(support, 3),
        page=chunk.page,
    )


def excerpt(text: str, max_chars: int) -> str:
    """The start of `text`, cut at a sentence where there is one, otherwise with an ellipsis."""
    text = text.strip()
    if len(text) <= max_chars:
        return text
    head = text[:max_chars]
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s)|[。！？\n]", head)]
    return head[: ends[-1]].strip() if ends and ends[-1] >= max_chars // 2 else head.rstrip() + "…"
