"""What bulk ingestion costs: `python -m perf.ingestion`.

Measured beside a plain loop with the same encoder, cores and texts: read, split, embed 32 at a time in the order in
which they come, write a flat index and the chunks. Each run is a process of its own, from its start to its end, so
imports and loading the model count. Then one document in a hundred is changed and ingested again, and once more with
nothing changed. The articles are rho-bank's; beyond their number they are varied.
Prints a table; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.chunk import Chunk
from ingestion.embedding import embedding_text, vector_key
from ingestion.parse import parse
from ingestion.split import split
from ingestion.store import KnowledgeStore
from models.bundled import ensure_encoder
from models.embedder import PRECISIONS, EncoderConfig
from perf.provenance import ROOT, provenance

_ARTICLES = ROOT.parent / "shared" / "data" / "rho-bank" / "documents.jsonl"
_TENANT, _COLLECTION = "demo", "perf"
_LOOP_BATCH = 32  # as sentence-transformers has it
_CHANGED = 100  # of so many documents one is changed
_TIMEOUT_S = 3600


@dataclass(frozen=True, slots=True)
class Run:
    """One process, from its start to its end."""

    name: str
    documents: int
    chunks: int
    embedded: int
    seconds: float
    stages: dict[str, float]  # seconds

    @property
    def documents_per_s(self) -> float:
        return self.documents / self.seconds

    @property
    def chunks_per_s(self) -> float:
        return self.chunks / self.seconds


# --- what is measured, each in a child ---


def ingest_once(documents: Path, work: Path, config: EncoderConfig, cores: int) -> dict[str, Any]:
    from ingestion.job import ingest

    report = ingest(
        [documents],
        root=work / "knowledge",
        tenant=_TENANT,
        collection=_COLLECTION,
        encoder=config,
        concurrency=cores,
    )
    return {
        "documents": report.documents,
        "chunks": report.chunks,
        "embedded": report.embedded,
        "stages": report.seconds,
    }


def loop_once(documents: Path, work: Path, config: EncoderConfig, cores: int) -> dict[str, Any]:
    """What one would write in an afternoon."""
    import faiss
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(cores)
    parsed = parse(documents, documents.name).documents
    chunks = [chunk for document in parsed for chunk in split(document, _COLLECTION)]
    tokenizer = AutoTokenizer.from_pretrained(config.model)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    model = AutoModel.from_pretrained(config.model, dtype=dtype, add_pooling_layer=False).eval()
    texts = [config.passage_prefix + embedding_text(chunk) for chunk in chunks]
    parts = []
    for start in range(0, len(texts), _LOOP_BATCH):
        batch = texts[start : start + _LOOP_BATCH]
        inputs = tokenizer(batch, padding=True, truncation=True, max_length=config.max_tokens, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1)
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        parts.append(torch.nn.functional.normalize(pooled, dim=1).numpy())
    vectors = np.concatenate(parts)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(work / "loop.faiss"))
    pq.write_table(_as_table(chunks, vectors), work / "loop.parquet")
    return {"documents": len(parsed), "chunks": len(chunks), "embedded": len(chunks), "stages": {}}


def _as_table(chunks: Sequence[Chunk], vectors: np.ndarray[Any, Any]) -> pa.Table:
    keys, texts = [vector_key(chunk) for chunk in chunks], [chunk.text for chunk in chunks]
    return pa.table({"key": keys, "text": texts, "vector": list(vectors)})


def _child(job: dict[str, Any]) -> None:
    documents, work, config = Path(job["documents"]), Path(job["work"]), EncoderConfig(**job["config"])
    if job["kind"] == "loop":
        result = loop_once(documents, work, config, job["cores"])
    else:
        result = ingest_once(documents, work, config, job["cores"])
    print(json.dumps(result))


def run(name: str, job: dict[str, Any]) -> Run:
    started = time.perf_counter()
    command = [sys.executable, "-m", "perf.ingestion", "--child", json.dumps(job)]
    quiet = {**os.environ, "RAY_BACKEND_LOG_LEVEL": "fatal", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=_TIMEOUT_S, check=True, cwd=ROOT, env=quiet)
    seconds = time.perf_counter() - started
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {seconds:.1f} s", file=sys.stderr)
    return Run(name=name, seconds=seconds, **result)


# --- documents ---


def articles(count: int) -> Iterator[dict[str, str]]:
    """rho-bank's own first; then the same again for other branches, so that no two texts are equal."""
    rows = [json.loads(line) for line in _ARTICLES.read_text("utf-8").splitlines()]
    for n in range(count):
        row, branch = rows[n % len(rows)], n // len(rows)
        if branch:
            title, content = f"{row['title']} (branch {branch})", f"{row['content']}\n\nThis is for branch {branch}."
            row = {"id": f"{row['id']}-{branch}", "title": title, "content": content}
        yield row


def write(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def with_changes(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """One document in a hundred says something else at its end."""
    changed = [dict(row) for row in rows]
    for row in changed[::_CHANGED]:
        row["content"] += "\n\nSince this week the limit is 4711 dollars a day."
    return changed


def least_cosine(work: Path) -> float:
    """Of the vectors that both made of the same text: whether they did the same work."""
    loop = pq.read_table(work / "loop.parquet")
    store = KnowledgeStore(work / "knowledge")
    version = store.current_version(_TENANT, _COLLECTION)
    assert version is not None
    keys = loop.column("key").to_pylist()
    stored = store.stored_vectors(_TENANT, _COLLECTION, version, keys)
    theirs = np.array(loop.column("vector").to_pylist())
    return float((theirs * np.array([stored[key][0] for key in keys])).sum(axis=1).min())


# --- the whole ---


def measure(work: Path, count: int, config: EncoderConfig, cores: int) -> dict[str, Any]:
    documents = work / "articles.jsonl"
    rows = list(articles(count))
    job = {"documents": str(documents), "work": str(work), "config": asdict(config), "cores": cores}
    write(documents, rows)
    loop = run("plain loop", {**job, "kind": "loop"})
    full = run("ingest, all", {**job, "kind": "ingest"})
    cosine = least_cosine(work)
    write(documents, with_changes(rows))
    delta = run("ingest, 1 % changed", {**job, "kind": "ingest"})
    nothing = run("ingest, nothing changed", {**job, "kind": "ingest"})
    return {
        "runs": [asdict(each) for each in (loop, full, delta, nothing)],
        "speed_against_loop": round(loop.seconds / full.seconds, 3),
        "index_share": round(full.stages["publish"] / full.seconds, 4),
        "delta_share": round(delta.seconds / full.seconds, 4),
        "nothing_share": round(nothing.seconds / full.seconds, 4),
        "least_cosine_to_loop": round(cosine, 5),
    }


def _print_table(result: dict[str, Any]) -> None:
    print(f"{'':<26}{'documents':>10}{'chunks':>8}{'embedded':>10}{'seconds':>9}{'doc/s':>8}{'chunks/s':>10}")
    for each in (Run(**row) for row in result["runs"]):
        print(
            f"{each.name:<26}{each.documents:>10}{each.chunks:>8}{each.embedded:>10}{each.seconds:>9.1f}"
            f"{each.documents_per_s:>8.1f}{each.chunks_per_s:>10.1f}"
        )
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in each.stages.items())
        print(f"{'':<26}{stages}" if stages else "", end="\n" if stages else "")
    print(
        f"\nspeed against the plain loop: {result['speed_against_loop']:.2f}x, least cosine between the two "
        f"{result['least_cosine_to_loop']}; publishing and its indexes {result['index_share']:.1%} of the time\n"
        f"1 % changed: {result['delta_share']:.1%} of the time of all; nothing changed: {result['nothing_share']:.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m perf.ingestion", description=__doc__)
    parser.add_argument("--documents", type=int, default=1300, help="how many (default: %(default)s: two minutes)")
    parser.add_argument("--encoder", help="encoder folder or hub id (default: the bundled one)")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="(default: %(default)s)")
    parser.add_argument(
        "--cores", type=int, default=2, help="threads of the loop, and embedders of one thread (default: %(default)s)"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(json.loads(options.child))
        return
    if not _ARTICLES.is_file():
        parser.error(f"there is no {_ARTICLES}")
    origin = provenance()
    model = options.encoder or str(ensure_encoder(ROOT / ".raydesk" / "models", print))
    config = EncoderConfig(model, precision=options.precision).located()
    with tempfile.TemporaryDirectory(prefix="rd-perf-") as folder:
        result = measure(Path(folder), options.documents, config, options.cores)
    _print_table(result)
    described = {"encoder": config.identity(), "precision": config.precision, "cores": options.cores}
    print(json.dumps({"benchmark": "ingestion", **origin, **described, **result}))


if __name__ == "__main__":
    main()
