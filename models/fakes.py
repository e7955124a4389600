"""Shipped fakes: an embedder, an intent head and a language model without weights.

They obey the contracts of `models/protocols.py` (the suites in `tests/conformance/` run over them and the real
models alike), so the whole application runs on a laptop and in milliseconds in tests. They know no meaning: the
embedder sees shared words, nothing else.
"""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.protocols import (
    Embedder,
    FinishReason,
    Generated,
    GenerationEnd,
    GenerationRequest,
    IntentPrediction,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Vectors,
)

# A Latin-like word, or a run of Chinese, Japanese or Korean characters (cut into bigrams below).
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKENS = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+")
_FIRST_CJK = "\u3040"


def _terms(text: str) -> list[str]:
    terms: list[str] = []
    for token in _TOKENS.findall(text.lower()):
        if token[0] < _FIRST_CJK or len(token) == 1:
            terms.append(token)
        else:
            terms.extend(token[i : i + 2] for i in range(len(token) - 1))
    return terms


class HashEmbedder:
    """Bag of hashed words and CJK bigrams: texts that share words are near, others are about orthogonal."""

    def __init__(self, dim: int = 64) -> None:
        if dim < 2:
            raise ValueError(f"dim must be at least 2, got {dim}")
        self._dim = dim

    @property
    def identity(self) -> str:
        return f"hash-{self._dim}"

    @property
    def dim(self) -> int:
        return self._dim

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts)

    def _embed(self, texts: Sequence[str]) -> Vectors:
        vectors: Vectors = np.zeros((len(texts), self._dim), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for term in _terms(text):
                # zlib, because hash() differs from process to process. The top bit is the sign: collisions then
                # cancel out on average instead of making unrelated texts similar.
                digest = zlib.crc32(term.encode())
                row[digest % self._dim] += 1.0 if digest >> 31 else -1.0
            norm = float(np.linalg.norm(row))
            if norm == 0.0:  # no words at all, or words that cancelled out: still a unit vector, always the same
                row[:] = 0.0
                row[0] = norm = 1.0
            row /= norm
        return vectors


@dataclass(frozen=True, slots=True)
class HashEncoder:
    """The recipe of a `HashEmbedder`."""

    dim: int = 64

    def identity(self) -> str:
        return self.load().identity

    def load(self) -> HashEmbedder:
        return HashEmbedder(self.dim)


class WordReranker:
    """By the share of the question's words that a passage has. A passage takes it `s_per_passage`, asleep."""

    def __init__(self, s_per_passage: float = 0.0) -> None:
        self._s_per_passage = s_per_passage

    def scores(self, question: str, passages: Sequence[str], until_s: float) -> list[float] | None:
        needed_s = self._s_per_passage * len(passages)
        if time.monotonic() + needed_s > until_s:
            return None
        time.sleep(needed_s)
        asked = set(_terms(question))
        return [len(asked & set(_terms(passage))) / max(1, len(asked)) for passage in passages]


class KeywordIntentHead:
    """Nearest centroid of each label's examples; on `HashEmbedder` that is keyword matching.

    `confidence` is a softmax over cosine similarities, so it is high only where one label stands out.
    """

    def __init__(self, embedder: Embedder, examples: Mapping[str, Sequence[str]], sharpness: float = 12.0) -> None:
        if len(examples) < 2:
            raise ValueError("a head needs at least two labels")
        self._labels = tuple(sorted(examples))
        self._sharpness = sharpness  # softmax temperature is 1 / sharpness
        centroids = np.stack([embedder.embed_queries(examples[label]).mean(axis=0) for label in self._labels])
        norms = np.linalg.norm(centroids, axis=1, keepdims=True)
        self._centroids: Vectors = centroids / np.where(norms == 0.0, 1.0, norms)  # (labels, dim)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    def predict(self, texts: Sequence[str], embeddings: Vectors) -> list[IntentPrediction]:
        scores = self._sharpness * (embeddings @ self._centroids.T)  # (n, labels)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return [self._prediction(row) for row in weights / weights.sum(axis=1, keepdims=True)]

    def _prediction(self, probabilities: Vectors) -> IntentPrediction:
        second, first = np.argsort(probabilities, kind="stable")[-2:]
        return IntentPrediction(
            label=self._labels[first],
            confidence=float(probabilities[first]),
            margin=float(probabilities[first] - probabilities[second]),
            runner_up=self._labels[second],
        )


class ScriptedError(RuntimeError):
    """The fake model failed, as its script asked it to."""


Said = str | tuple[ToolCall, ...]
Script = Said | Sequence[Said] | Callable[[GenerationRequest], Said]

_PIECES = re.compile(rf"[{_CJK}]|\s*[^\s{_CJK}]+\s*|\s+")


class ScriptedLLM:
    """Says what the script says, piece by piece, at the given speed; one piece counts as one token.

    script: one answer for all requests, a list of answers (the last repeats), or a function of the request. An answer
    is a text, or a tuple of calls.
    ttft_s: wait before the first piece. tokens_per_s: speed of the others; 0 is as fast as possible.
    fail_after: raise `ScriptedError` after that many pieces (0: before the first).
    """

    def __init__(
        self,
        script: Script,
        ttft_s: float = 0.0,
        tokens_per_s: float = 0.0,
        fail_after: int | None = None,
    ) -> None:
        if not callable(script) and not script:
            raise ValueError("the script is empty")
        self._script = script
        self._ttft_s = ttft_s
        self._gap_s = 1.0 / tokens_per_s if tokens_per_s > 0 else 0.0
        self._fail_after = fail_after
        self.requests: list[GenerationRequest] = []
        self.cancelled: list[GenerationRequest] = []  # closed by the caller before their end
        self.in_flight = 0

    async def generate(self, request: GenerationRequest) -> AsyncIterator[Generated]:
        answer = self._answer(len(self.requests), request)
        self.requests.append(request)
        if isinstance(answer, tuple):
            for item in _called(answer, request):
                yield item
            return
        # By length, not by content: a model goes on from whatever was said.
        pieces, finish_reason = _limited(answer[len(request.continuation) :], request)
        self.in_flight += 1
        complete = False
        try:
            await asyncio.sleep(self._ttft_s)
            begun = time.monotonic()
            for sent, piece in enumerate(pieces):
                self._maybe_fail(sent)
                if sent and self._gap_s:  # by the clock, so that a busy machine does not slow the script down
                    await asyncio.sleep(begun + sent * self._gap_s - time.monotonic())
                yield TextDelta(piece)
            self._maybe_fail(len(pieces))
            complete = True  # a caller may close us after the end; that cancels nothing
            yield GenerationEnd(finish_reason, _input_tokens(request), len(pieces))
        except (GeneratorExit, asyncio.CancelledError):
            if not complete:
                self.cancelled.append(request)
            raise
        finally:
            self.in_flight -= 1

    def _answer(self, turn: int, request: GenerationRequest) -> Said:
        if callable(self._script):
            return self._script(request)
        if isinstance(self._script, str | tuple):
            return self._script
        return self._script[min(turn, len(self._script) - 1)]

    def _maybe_fail(self, pieces_sent: int) -> None:
        if self._fail_after is not None and pieces_sent >= self._fail_after:
            raise ScriptedError(f"failed after {pieces_sent} pieces, as scripted")


def tokens_of(text: str) -> list[str]:
    """Words with the blanks around them, and single Chinese characters; joined, they are the text."""
    return _PIECES.findall(text)


def _called(calls: tuple[ToolCall, ...], request: GenerationRequest) -> Iterator[Generated]:
    """Each call's id and name, then its arguments in pieces."""
    spent = 0
    for index, call in enumerate(calls):
        yield ToolCallDelta(index, call.id, call.name)
        for piece in tokens_of(call.arguments):
            yield ToolCallDelta(index, arguments=piece)
            spent += 1
    yield GenerationEnd("tool_calls", _input_tokens(request), spent)


def _limited(answer: str, request: GenerationRequest) -> tuple[list[str], FinishReason]:
    """The pieces of the answer that the request's stop words and length allow."""
    ends = [at for word in request.stop if (at := answer.find(word)) >= 0]
    pieces = tokens_of(answer[: min(ends)] if ends else answer)
    if len(pieces) > request.max_output_tokens:
        return pieces[: request.max_output_tokens], "length"
    return pieces, "stop"


def _input_tokens(request: GenerationRequest) -> int:
    return sum(len(tokens_of(message.content)) for message in request.messages)
