"""A log of how well a small model answered: `python -m perf.quality.routing_log --out LOG.jsonl`, with a desk running.

Asks the sample company's desk for the small tier's own words (its model is named, so nothing else answers) and judges
them. Questions of fact with their facts come from perf/data/company_questions.jsonl; curated questions are asked in
other words (by rule, as perf.quality.replay_log does), and right is an answer with all numbers and most words of the
curated one. What each question looked like is read from the turn log. One JSON object a line, as
`python -m perf.quality.routing` and `raydesk routing fit` read it.

The large tier's quality is an ASSUMPTION, not a measurement: 1 where the evidence holds the answer (whoever reads well
finds it), as the small one's where it does not. So is its price: both models are taken to write as many tokens, at a
cost in proportion to their parameters.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from cluster.detached import join_running
from cluster.turns import recent_turns
from deployments.answering.words import coverage, words
from ingestion.store import KnowledgeStore
from perf.answers import Facts, holds, read_questions
from perf.loopback import loopback_url
from perf.provenance import ROOT
from perf.quality.replay_log import reworded

_FACTS = ROOT / "perf" / "data" / "company_questions.jsonl"
_FAQ = ROOT / "cluster" / "sample_company" / "faq"
_TENANT, _COLLECTION = "demo", "help"
_TIMEOUT_S = 240.0
_LOG_PAUSE_S = 3.0  # until the last turns are in the log
_MOST_WORDS = 0.6  # share of a curated answer's words that an answer to its question has
_SMALL_B, _LARGE_B = 0.135, 8.0  # parameters, 10^9: SmolLM2-135M, and the large tier of serve_config.yaml


@dataclass(frozen=True, slots=True)
class Asked:
    question: str
    kind: str  # "fact" or "curated"
    is_right: Callable[[str], bool]


def fact_questions() -> list[Asked]:
    found = []
    for question in read_questions(_FACTS.read_text("utf-8").splitlines()):
        if isinstance(question.expected, Facts):
            facts = question.expected.facts
            found.append(Asked(question.text, "fact", lambda text, facts=facts: holds(text, facts)))  # type: ignore[misc]
    return found


def curated_questions(seed: int) -> Iterator[Asked]:
    """Each in one other wording."""
    rng = random.Random(seed)
    for file in sorted(_FAQ.glob("*.csv")):
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for row in csv.DictReader(lines):
                answer = row["answer"]
                question = reworded(row["question"], rng)
                yield Asked(question, "curated", lambda text, answer=answer: says(text, answer))  # type: ignore[misc]


def says(text: str, answer: str) -> bool:
    """Whether `text` has every number and most of the words of `answer`."""
    wanted, said = words(answer), words(text)
    numbers = {word for word in wanted if any(map(str.isdigit, word))}
    return numbers <= said and coverage(wanted, said) >= _MOST_WORDS


async def ask_all(url: str, model: str, asked: Sequence[Asked], at_once: int) -> list[dict[str, Any] | None]:
    """The completions, None for what failed."""
    turns, done = asyncio.Semaphore(at_once), 0

    async def ask(question: str) -> dict[str, Any] | None:
        nonlocal done
        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        async with turns:
            try:
                response = await client.post("/v1/chat/completions", json=body)
                answer = response.json() if response.status_code == 200 else None
            except (httpx2.TransportError, ValueError) as error:
                print(f"{question}: {type(error).__name__}", file=sys.stderr)
                answer = None
        done += 1
        if done % 20 == 0:
            print(f"{done} of {len(asked)} answered", file=sys.stderr, flush=True)
        return answer

    async with httpx2.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False) as client:
        return await asyncio.gather(*(ask(each.question) for each in asked))


def row_of(asked: Asked, completion: dict[str, Any], turn: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    """texts: of the turn's chunks, by id."""
    text = completion["choices"][0]["message"]["content"]
    evidence = "\n".join(texts.get(chunk, "") for chunk in turn["evidence_ids"])
    small = float(asked.is_right(text))
    tokens = completion["usage"]["total_tokens"]
    return {
        "question": asked.question,
        "kind": asked.kind,
        "features": {name: round(value, 4) for name, value in turn["route_features"].items()},
        "small_quality": small,
        "large_quality": 1.0 if asked.is_right(evidence) else small,
        "small_cost": round(tokens * _SMALL_B / 1000, 4),  # 10^12 parameter-tokens
        "large_cost": round(tokens * _LARGE_B / 1000, 4),
    }


def _store(state: Path) -> KnowledgeStore:
    return KnowledgeStore(state / "knowledge")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.quality.routing_log",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", type=loopback_url, default="http://127.0.0.1:8000", help="the desk (%(default)s)")
    parser.add_argument("--state", type=Path, default=ROOT / ".raydesk", help="state folder of that desk")
    parser.add_argument("--model", default="raydesk-small", help="the tier's model_id (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--limit", type=int, default=300, help="questions at most, evenly spread (%(default)s)")
    parser.add_argument("--at-once", type=int, default=4, help="generations at a time (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the wordings (%(default)s)")
    options = parser.parse_args()
    running = join_running(options.state)
    if running is None:
        sys.exit(f"No desk is running in {options.state}: start it with 'raydesk serve --sample --detach'.")
    everything = [*fact_questions(), *curated_questions(options.seed)]
    count = min(options.limit, len(everything))
    asked = [everything[place * len(everything) // count] for place in range(count)]
    completions = asyncio.run(ask_all(options.url, options.model, asked, options.at_once))

    async def logged() -> list[dict[str, Any]]:
        await asyncio.sleep(_LOG_PAUSE_S)
        return await recent_turns(running.app_name, _TENANT, 2 * len(asked) + 100)

    turns = {turn["turn_id"]: turn for turn in asyncio.run(logged())}
    store = _store(options.state)
    version = store.current_version(_TENANT, _COLLECTION)
    assert version is not None, "the desk has answered from it"
    chunks = store.chunks(_TENANT, _COLLECTION, version)
    texts = {chunk.id: f"{chunk.title}\n{chunk.text}\n{chunk.answer}" for chunk in chunks}
    rows = []
    for each, completion in zip(asked, completions, strict=True):
        turn = turns.get(completion["choices"][0]["message"]["raydesk"]["turn_id"]) if completion else None
        if completion is not None and turn is not None and turn["path"] == "small":
            rows.append(row_of(each, completion, turn, texts))
    options.out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{len(rows)} of {len(asked)} questions were written by {options.model}; they are in {options.out}")


if __name__ == "__main__":
    main()
