"""How good retrieval is: `python -m perf.quality.retrieval [--documents FILE.jsonl] [--queries FILE.jsonl ...]`.

Documents are `{id, title, content}`, one a line, or a folder of whatever ingestion reads (then an id is a file's path
within it). Queries are `{query, relevant: [ids]}`. The documents are split, embedded, indexed and published as
ingestion does it, and the hybrid ranking is that of the retriever which customers' questions go through; beside it
stand the two searches that it fuses, each alone. A document stands where the best of its chunks does. Prints a table;
the last line is one JSON document. Vectors are kept in .raydesk/perf/vectors, so a second run takes seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import structlog

from deployments.answering.fusion import POOL
from deployments.answering.query import detect_language
from deployments.answering.types import Language, Principal, RetrievedChunk
from deployments.retriever import Retriever
from deployments.settings import EncoderSettings, KnowledgeSettings
from ingestion.chunk import Chunk, Found
from ingestion.document import Document
from ingestion.embedding import embedding_text
from ingestion.errors import IngestionError, ParseError
from ingestion.parse import parse
from ingestion.sources import expand
from ingestion.split import split
from ingestion.store import Changes, KnowledgeStore
from ingestion.version import KnowledgeVersion
from models.bundled import ensure_encoder
from models.embedder import EncoderConfig
from models.protocols import Vectors
from perf.provenance import provenance
from perf.quality.ranking import DEPTH, Measures, documents_of, mean, measure
from perf.quality.vectors import KeptVectors

ROOT = Path(__file__).parents[2]
_DATA = ROOT / "perf" / "data"
RHO_BANK = ROOT.parent / "shared" / "data" / "rho-bank" / "documents.jsonl"
RHO_BANK_QUERIES = [_DATA / "rho_bank_queries_en.jsonl", _DATA / "rho_bank_queries_zh.jsonl"]
_COMPANY_ARTICLES = ROOT / "cluster" / "sample_company" / "articles" / "zh"
_COMPANY_QUERIES = [_DATA / "company_queries_zh.jsonl"]

TENANT, COLLECTION = "quality", "documents"

Search = Literal["dense", "lexical", "hybrid"]
Half = Literal["all", "dev", "held-out"]


class BadInputError(Exception):
    """A file of documents or queries cannot be used; the message says which line, and why."""


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    relevant: frozenset[str]  # ids of documents, at least one

    @property
    def language(self) -> Language:
        return detect_language(self.text)


# --- input ---


def read_documents(path: Path) -> list[Document]:
    """As ingestion reads them, but that nothing may be left out. Raises `BadInputError`."""
    try:
        if path.is_dir():
            parsed = [parse(file.path, file.name) for file in expand([path])]
        else:
            parsed = [parse(path, path.name, kind=".jsonl")]
    except (OSError, IngestionError, ParseError) as error:
        raise BadInputError(f"{path}: {error}") from error
    for reject in (reject for each in parsed for reject in each.rejects):
        raise BadInputError(f"{reject.source}: {reject.reason}")
    documents = [document for each in parsed for document in each.documents]
    seen: set[str] = set()
    for document in documents:
        if document.id in seen:
            raise BadInputError(f"{path}: two documents have the id {document.id!r}")
        seen.add(document.id)
    if not documents:
        raise BadInputError(f"{path}: there are no documents in it")
    return documents


def read_queries(path: Path, known_ids: frozenset[str]) -> list[Query]:
    """Raises `BadInputError`."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: {error}") from error
    queries = [_query(f"{path}:{number}", line, known_ids) for number, line in enumerate(lines, 1) if line.strip()]
    if not queries:
        raise BadInputError(f"{path}: there are no queries in it")
    return queries


def _query(where: str, line: str, known_ids: frozenset[str]) -> Query:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise BadInputError(f"{where}: is not JSON: {error}") from error
    match row:
        case {"query": str(text), "relevant": [_, *_] as relevant} if text.strip():
            ids = frozenset(str(each).strip() for each in relevant)
        case _:
            raise BadInputError(f'{where}: is not {{"query": "…", "relevant": ["id", …]}} with at least one id')
    if unknown := sorted(ids - known_ids):
        raise BadInputError(f"{where}: there are no documents with the ids {', '.join(unknown)}")
    return Query(text, ids)


def half_of(queries: Sequence[Query], half: Half) -> list[Query]:
    """Every second one: settings are chosen on "dev", and believed only if "held-out" agrees."""
    return list({"all": queries, "dev": queries[::2], "held-out": queries[1::2]}[half])


# --- knowledge ---


def chunks_of(documents: Iterable[Document]) -> list[Chunk]:
    """Each content once, as ingestion keeps it."""
    return list({chunk.id: chunk for document in documents for chunk in split(document, COLLECTION)}.values())


def publish(root: Path, chunks: Sequence[Chunk], vectors: KeptVectors) -> KnowledgeVersion:
    """As ingestion publishes them, but for the vectors, which may be kept ones."""
    questions = [chunk.question for chunk in chunks if chunk.kind == "qa"]
    passages = vectors.passages([embedding_text(chunk) for chunk in chunks])
    asked = vectors.queries(questions) if questions else np.empty((0, passages.shape[1]), np.float32)
    store = KnowledgeStore(root)
    version = store.publish(TENANT, COLLECTION, Changes(vectors.identity, chunks, passages, asked))
    return store.open(TENANT, COLLECTION, version)


# --- rankings ---


class Searches:
    """The retriever, and the two searches that it fuses, over one version. Searches as `principal`, who sees all."""

    def __init__(self, root: Path, version: KnowledgeVersion, audiences: frozenset[str]) -> None:
        self._version = version
        self._principal = Principal(TENANT, audiences, "quality")
        self._today = datetime.now(UTC).date()
        self.retriever = Retriever(
            KnowledgeSettings(root=str(root)), EncoderSettings(), embedder_identity=version.embedder_identity
        )

    async def rankings(self, query: Query, vector: Vectors) -> dict[Search, list[str]]:
        """Ids of documents, best first."""
        all_fused = 2 * POOL
        evidence = await self.retriever.search(
            self._principal, COLLECTION, query.text, query.language, vector, all_fused
        )
        dense, lexical = self._found(query, vector, query.language)
        if not any(hit.chunk.language == query.language for hit in (*dense, *lexical)):  # as the retriever does it
            dense, lexical = self._found(query, vector, None)
        return {"dense": _documents(dense), "lexical": _documents(lexical), "hybrid": _documents(evidence.chunks)}

    def _found(
        self, query: Query, vector: Vectors, language: Language | None
    ) -> tuple[Sequence[Found], Sequence[Found]]:
        """By each search alone, as deep as the retriever searches."""
        seen_by = (self._principal.audiences, self._today, language)
        dense = self._version.search_dense(vector, POOL, *seen_by)
        return dense, self._version.search_lexical(query.text, POOL, *seen_by)


def _documents(found: Iterable[Found | RetrievedChunk]) -> list[str]:
    """As many as are measured, so that no search gains by a longer list."""
    return documents_of(hit.chunk.document_id for hit in found)[:DEPTH]


async def _rank(
    root: Path, chunks: Sequence[Chunk], version: KnowledgeVersion, queries: Sequence[Query], vectors: Vectors
) -> list[dict[Search, list[str]]]:
    searches = Searches(root, version, frozenset(chunk.audience for chunk in chunks))
    try:
        return [await searches.rankings(query, vector) for query, vector in zip(queries, vectors, strict=True)]
    finally:
        await searches.retriever.stop()


def rank(
    documents: Sequence[Document], queries: Sequence[Query], vectors: KeptVectors
) -> list[dict[Search, list[str]]]:
    """For each query the ranking of each search."""
    chunks = chunks_of(documents)
    with tempfile.TemporaryDirectory() as folder:
        version = publish(Path(folder), chunks, vectors)
        embedded = vectors.queries([query.text for query in queries])
        return asyncio.run(_rank(Path(folder), chunks, version, queries, embedded))


# --- showing ---


def score(queries: Sequence[Query], rankings: Sequence[dict[Search, list[str]]]) -> dict[Search, Measures]:
    return {
        search: mean([measure(each[search], query.relevant) for query, each in zip(queries, rankings, strict=True)])
        for search in ("dense", "lexical", "hybrid")
    }


def _print_table(name: str, count: int, scores: dict[Search, Measures]) -> None:
    names = list(scores["hybrid"].to_json())
    print(f"\n{name}, {count} queries\n{'':<10}" + "".join(f"{each:>11}" for each in names))
    for search, measures in scores.items():
        print(f"{search:<10}" + "".join(f"{value:>11.3f}" for value in measures.to_json().values()))


def _print_missed(queries: Sequence[Query], rankings: Sequence[dict[Search, list[str]]]) -> None:
    for query, each in zip(queries, rankings, strict=True):
        found = each["hybrid"]
        if found[:1] and found[0] not in query.relevant:
            rank_of = {document: place + 1 for place, document in enumerate(found)}
            wanted = ", ".join(
                f"{document} ({rank_of.get(document, 'not found')})" for document in sorted(query.relevant)
            )
            print(f"{query.text}\n    first   {found[0]}\n    wanted  {wanted}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.quality.retrieval", description=__doc__)
    parser.add_argument("--documents", type=Path, help="JSON lines, or a folder; the rho-bank articles where they are")
    parser.add_argument("--queries", type=Path, nargs="+", help="JSON lines; our own for these documents")
    parser.add_argument("--encoder", help="folder or hub id; the bundled encoder otherwise")
    parser.add_argument("--half", choices=("all", "dev", "held-out"), default="all", help="every second query")
    parser.add_argument("--show-missed", action="store_true", help="each query whose first document is a wrong one")
    options = parser.parse_args()
    origin = provenance()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors only
    is_rho_bank = options.documents is None and RHO_BANK.is_file()
    documents_path = options.documents or (RHO_BANK if is_rho_bank else _COMPANY_ARTICLES)
    if options.documents is not None and options.queries is None:
        parser.error("--documents needs --queries: ours ask for other documents")
    paths = options.queries or (RHO_BANK_QUERIES if is_rho_bank else _COMPANY_QUERIES)
    try:
        documents = read_documents(documents_path)
        known = frozenset(document.id for document in documents)
        sets = {path.stem: half_of(read_queries(path, known), options.half) for path in paths}
    except BadInputError as error:
        parser.error(str(error))
    model = options.encoder or str(
        ensure_encoder(ROOT / ".raydesk" / "models", lambda line: print(line, file=sys.stderr))
    )
    vectors = KeptVectors(
        ROOT / ".raydesk" / "perf" / "vectors", EncoderConfig(model, threads=os.cpu_count() or 1).located()
    )

    queries = [query for each in sets.values() for query in each]
    rankings = rank(documents, queries, vectors)
    print(f"{len(documents)} documents of {documents_path.name}, encoder {vectors.identity}, {options.half} queries")
    print(", ".join(f"{key} {value}" for key, value in origin.items()))
    if options.show_missed:
        _print_missed(queries, rankings)
    start = 0
    for name, each in sets.items():
        _print_table(name, len(each), score(each, rankings[start : start + len(each)]))
        start += len(each)
    scores = score(queries, rankings)
    if len(sets) > 1:
        _print_table("all", len(queries), scores)
    print(json.dumps({search: measures.to_json() for search, measures in scores.items()}))


if __name__ == "__main__":
    main()
