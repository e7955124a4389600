"""Whether it can be told that nothing answers: `python -m perf.quality.evidence`.

Questions that the documents answer, and questions that nothing answers, go through the retriever; the pipeline's own
rule then says of each whether there is evidence. Kept is the share of the answerable ones that have some, refused the
share of the others that have none. Beside the rule stands how well single values part the two (the area under the ROC
curve: 1 is perfectly, 0.5 not at all), by the languages of question and best passage. Prints a table; the last line is
one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from deployments.answering.pipeline import is_evidence
from deployments.answering.query import detect_language
from deployments.answering.types import Evidence, Principal
from deployments.answering.words import coverage, words
from deployments.retriever import Retriever
from deployments.settings import EncoderSettings, KnowledgeSettings, RetrieverSettings
from ingestion.document import Document
from models.bundled import ensure_encoder
from models.embedder import EncoderConfig
from perf.provenance import provenance
from perf.quality.retrieval import (
    COLLECTION,
    RHO_BANK,
    RHO_BANK_QUERIES,
    ROOT,
    TENANT,
    BadInputError,
    chunks_of,
    publish,
    read_documents,
    read_queries,
)
from perf.quality.vectors import KeptVectors

_UNANSWERABLE = ROOT / "perf" / "data" / "rho_bank_unanswerable.jsonl"


@dataclass(frozen=True, slots=True)
class Found:
    """What one question found, as the values that could tell evidence from chance; each the best of its chunks."""

    languages: str  # of the question and its most similar passage, as "zh-en"
    is_answerable: bool
    has_evidence: bool  # by the pipeline's rule
    similarity: float
    share: float  # of the question, by BM25
    coverage: float  # of the question's words


@dataclass(frozen=True, slots=True)
class EvidenceScore:
    languages: str
    answerable: int
    unanswerable: int
    kept: float
    refused: float
    auc_similarity: float
    auc_share: float
    auc_coverage: float


def area_under_curve(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """How often one of the first is larger than one of the second; equal ones count half."""
    wins = sum((high > low) + 0.5 * (high == low) for high in positives for low in negatives)
    return wins / (len(positives) * len(negatives))


def score(languages: str, found: Sequence[Found]) -> EvidenceScore:
    """Of at least one answerable question and one that is not."""
    yes = [each for each in found if each.is_answerable]
    no = [each for each in found if not each.is_answerable]

    def auc(name: str) -> float:
        return area_under_curve([getattr(each, name) for each in yes], [getattr(each, name) for each in no])

    return EvidenceScore(
        languages=languages,
        answerable=len(yes),
        unanswerable=len(no),
        kept=sum(each.has_evidence for each in yes) / len(yes),
        refused=sum(not each.has_evidence for each in no) / len(no),
        auc_similarity=auc("similarity"),
        auc_share=auc("share"),
        auc_coverage=auc("coverage"),
    )


def read_unanswerable(path: Path) -> list[str]:
    """Raises `BadInputError`."""
    try:
        return [str(json.loads(line)["query"]) for line in path.read_text("utf-8").split("\n") if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f'{path}: is not {{"query": "…"}}, one a line: {error!r}') from error


def look(
    documents: Sequence[Document], answerable: Sequence[str], others: Sequence[str], kept: KeptVectors
) -> list[Found]:
    """Each question through the retriever, as a customer's."""
    chunks = chunks_of(documents)
    questions = [*answerable, *others]
    vectors = kept.queries(questions)
    everyone = Principal(TENANT, frozenset(chunk.audience for chunk in chunks), "quality")
    limits = RetrieverSettings()

    async def search(root: str, identity: str) -> list[Evidence]:
        retriever = Retriever(KnowledgeSettings(root=root), EncoderSettings(), embedder_identity=identity)
        try:
            return [
                await retriever.search(everyone, COLLECTION, text, detect_language(text), vector, limits.top_k)
                for text, vector in zip(questions, vectors, strict=True)
            ]
        finally:
            await retriever.stop()

    with tempfile.TemporaryDirectory() as root:
        version = publish(Path(root), chunks, kept)
        evidence = asyncio.run(search(root, version.embedder_identity))
    is_answerable = [True] * len(answerable) + [False] * len(others)
    return [
        _found(text, each, answers, limits)
        for text, each, answers in zip(questions, evidence, is_answerable, strict=True)
    ]


def _found(text: str, evidence: Evidence, is_answerable: bool, limits: RetrieverSettings) -> Found:
    asked, language = words(text), detect_language(text)
    best = max(evidence.chunks, key=lambda found: found.similarity or 0.0)
    return Found(
        languages=f"{language}-{best.chunk.language}",
        is_answerable=is_answerable,
        has_evidence=any(is_evidence(found, asked, language, limits) for found in evidence.chunks),
        similarity=best.similarity or 0.0,
        share=max(found.lexical_score or 0.0 for found in evidence.chunks),
        coverage=max(coverage(asked, words(f"{found.chunk.title} {found.chunk.text}")) for found in evidence.chunks),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.quality.evidence", description=__doc__)
    parser.add_argument("--documents", type=Path, default=RHO_BANK, help="JSON lines, or a folder")
    parser.add_argument("--queries", type=Path, nargs="+", default=RHO_BANK_QUERIES, help="that the documents answer")
    parser.add_argument("--unanswerable", type=Path, default=_UNANSWERABLE, help='that nothing answers: {"query": …}')
    parser.add_argument("--encoder", help="folder or hub id; the bundled encoder otherwise")
    options = parser.parse_args()
    origin = provenance()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors only
    try:
        documents = read_documents(options.documents)
        known = frozenset(document.id for document in documents)
        answerable = [query.text for path in options.queries for query in read_queries(path, known)]
        others = read_unanswerable(options.unanswerable)
    except BadInputError as error:
        parser.error(str(error))
    model = options.encoder or str(
        ensure_encoder(ROOT / ".raydesk" / "models", lambda line: print(line, file=sys.stderr))
    )
    kept = KeptVectors(
        ROOT / ".raydesk" / "perf" / "vectors", EncoderConfig(model, threads=os.cpu_count() or 1).located()
    )
    found = look(documents, answerable, others, kept)
    groups = {name: [each for each in found if each.languages == name] for name in sorted({x.languages for x in found})}
    rows = [score(name, each) for name, each in groups.items() if {x.is_answerable for x in each} == {True, False}]
    columns = f"{'languages':<11}{'answerable':>11}{'not':>6}{'kept':>9}{'refused':>9}"
    print(f"{columns}   AUC {'cosine':>8}{'share':>8}{'words':>8}")
    for row in rows:
        counts = f"{row.languages:<11}{row.answerable:>11}{row.unanswerable:>6}{row.kept:>9.1%}{row.refused:>9.1%}"
        print(f"{counts}       {row.auc_similarity:>8.3f}{row.auc_share:>8.3f}{row.auc_coverage:>8.3f}")
    print(
        json.dumps(
            {"benchmark": "evidence", **origin, "encoder": kept.identity, "scores": [asdict(row) for row in rows]}
        )
    )


if __name__ == "__main__":
    main()
