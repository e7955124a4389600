"""Question-answer pairs that a language model proposes from passages, for a person to review before they go live.

A batch through `ray.data.llm`: the model is loaded for the job and gone afterwards. What it writes is kept only if its
passage says it: a proposal with a number or too many words of its own is dropped. The result is a CSV file; what is
left of it after reviewing is put in with `raydesk ingest put`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ingestion.chunk import Chunk
from ingestion.language import width
from ingestion.lexical_index import tokens

Row = dict[str, Any]
LEAST_SUPPORT = 0.8  # share of an answer's words that stand in its passage
LEAST_WIDTH = 80.0  # a shorter passage says too little to ask about; in Latin letters
MAX_OUTPUT_TOKENS = 400
_MOST_OF_A_PASSAGE = 5

_INSTRUCTIONS = {
    "en": (
        "You write the questions that customers ask and that the passage answers, each with its answer. Use only "
        "what the passage says, in its own words. Write up to three pairs, each on two lines:\n"
        "Q: the question\nA: the answer"
    ),
    "zh": (
        "你根据给出的资料，写出顾客会提出、并且资料能够回答的问题及其答案。只使用资料中的内容，尽量沿用原文。最多写三组，"
        "每组两行：\nQ: 问题\nA: 答案"
    ),
}
_MARK = r"^[\W\d]{{0,4}}{letter}\d*[*_\s]{{0,4}}[:：][*_\s]*"  # "Q:", "**Q2:**", "1. Q："
_QUESTION, _ANSWER = _MARK.format(letter="Q"), _MARK.format(letter="A")
_PAIR = re.compile(
    rf"{_QUESTION}(?P<question>.+?)\s*\n+{_ANSWER}(?P<answer>.+?)\s*(?=\n{_QUESTION[1:]}|\Z)", re.DOTALL | re.MULTILINE
)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_ASKS = re.compile(r"[?？]$")


@dataclass(frozen=True, slots=True)
class Proposal:
    """A row of the file; its columns are those that `put` reads, and what a reviewer wants to see."""

    question: str
    answer: str
    title: str
    language: str
    audience: str
    url: str
    support: float  # share of the answer's words that stand in the passage
    passage: str


def propose(
    chunks: Sequence[Chunk],
    known_questions: Iterable[str],
    process: Callable[[Iterable[Row]], Iterable[Row]],
) -> Iterator[Proposal]:
    """process: rows with "id" and "messages" to rows with "id" and "text", in any order; see `vllm_process`.

    Each question once, and none of `known_questions`.
    """
    passages = {chunk.id: chunk for chunk in chunks if chunk.kind == "passage" and width(chunk.text) >= LEAST_WIDTH}
    seen = {_normal(question) for question in known_questions}
    for row in process({"id": chunk.id, "messages": messages(chunk)} for chunk in passages.values()):
        for proposal in read_proposals(str(row["text"]), passages[row["id"]]):
            if _normal(proposal.question) not in seen:
                seen.add(_normal(proposal.question))
                yield proposal


def messages(chunk: Chunk) -> list[dict[str, str]]:
    """The passage is data: it stands apart from the instructions, and nothing that it says is followed by us."""
    about = " > ".join(part for part in (chunk.title, *chunk.heading_path) if part)
    instructions = _INSTRUCTIONS["zh" if chunk.language == "zh" else "en"]
    return [{"role": "system", "content": instructions}, {"role": "user", "content": f"{about}\n\n{chunk.text}"}]


def read_proposals(text: str, chunk: Chunk) -> list[Proposal]:
    """The pairs that are whole, ask something, and are borne out by the passage."""
    found = []
    for pair in list(_PAIR.finditer(text))[:_MOST_OF_A_PASSAGE]:
        question, answer = " ".join(pair["question"].split()), pair["answer"].strip()
        support = support_of(answer, f"{chunk.title} {' '.join(chunk.heading_path)} {chunk.text}")
        if _ASKS.search(question) and support >= LEAST_SUPPORT:
            found.append(
                Proposal(
                    question,
                    answer,
                    chunk.title,
                    chunk.language,
                    chunk.audience,
                    chunk.url,
                    round(support, 2),
                    chunk.text,
                )
            )
    return found


def support_of(answer: str, passage: str) -> float:
    """Share of the answer's words that stand in the passage; 0 with a number that does not."""
    if not set(_NUMBER.findall(answer)) <= set(_NUMBER.findall(passage)):
        return 0.0
    words, there = tokens(answer), set(tokens(passage))
    return sum(word in there for word in words) / len(words) if words else 0.0


def write_csv(path: Path, proposals: Iterable[Proposal]) -> int:
    """Line by line, so that what was written before an end that came too soon is there. Returns how many."""
    count = 0
    with path.open("w", encoding="utf-8-sig", newline="") as opened:  # the mark tells Excel what it is
        writer = csv.DictWriter(opened, [field.name for field in fields(Proposal)])
        writer.writeheader()
        for proposal in proposals:
            writer.writerow(asdict(proposal))
            opened.flush()
            count += 1
    return count


def _normal(question: str) -> str:
    return re.sub(r"[\W_]+", " ", question.casefold()).strip()


def vllm_process(
    model: str,
    engine_kwargs: Mapping[str, Any],
    *,
    gpus: int,
    concurrency: int,
    batch_size: int,
    env: Mapping[str, str],
) -> Callable[[Iterable[Row]], Iterator[Row]]:
    """A batch through vLLM on the Ray that is there.

    model: a folder or a hub id. gpus: of each copy of the model; 0 runs it on a CPU.
    """
    import ray.data
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    config = vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs=dict(engine_kwargs),
        concurrency=concurrency,
        batch_size=batch_size,
        runtime_env={"env_vars": dict(env)} if env else None,
        placement_group_config={"bundles": [{"CPU": 1} | ({"GPU": 1} if gpus else {})] * max(1, gpus)},
        log_engine_metrics=False,
    )
    sampling = {"temperature": 0.0, "max_tokens": MAX_OUTPUT_TOKENS}
    processor = build_processor(
        config,
        preprocess=lambda row: {"id": row["id"], "messages": row["messages"], "sampling_params": sampling},
        postprocess=lambda row: {"id": row["id"], "text": row["generated_text"]},
    )

    def process(rows: Iterable[Row]) -> Iterator[Row]:
        items = list(rows)
        if items:
            yield from processor(ray.data.from_items(items)).iter_rows()

    return process
