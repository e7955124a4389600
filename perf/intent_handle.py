"""How long a question waits to be understood: `python -m perf.intent_handle`.

The intent classifier is the deployment that answers customers, with the head of the sample company (or --head); this
process calls its handle, one question at a time and eight at once, which share passes of the encoder. The peer of the
same run is all-MiniLM-L6-v2 in fp32 with logistic regression, called here, one question at a time, without a handle.
Every question is asked in words of its own, so that nothing is remembered. Prints a table; the last line is one JSON
document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")  # read by Serve when it is imported, in each process
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from ray import serve

from deployments.intent_classifier import IntentClassifier
from deployments.remote import RemoteIntentClassifier
from deployments.settings import EncoderSettings, IntentSettings
from ingestion.ray_session import ray_session
from models.intent_examples import read_examples
from perf.metrics import Sample, percentiles
from perf.minilm import MiniLMClassifier, ensure_minilm, load_minilm
from perf.provenance import ROOT, provenance

_QUESTIONS = ROOT / "perf" / "data" / "company_questions.jsonl"
_EXAMPLES = ROOT / "cluster" / "sample_company" / "intents.yaml"
_CLIENTS = (1, 8)
_TIMEOUT_S = 10.0


def questions() -> list[str]:
    return [json.loads(line)["question"] for line in _QUESTIONS.read_text("utf-8").splitlines()]


async def ask(room: RemoteIntentClassifier, asked: Sequence[str], clients: int, seconds: float) -> list[Sample]:
    """So many clients, each of which asks again as soon as it has its answer."""
    began = time.perf_counter()
    samples: list[Sample] = []

    async def client(first: int) -> None:
        number = first
        while time.perf_counter() - began < seconds:
            text = f"{asked[number % len(asked)]} ({number})"
            number += clients
            sent = time.perf_counter()
            await room.understand(text)
            samples.append(Sample(time.perf_counter() - began, (time.perf_counter() - sent) * 1e3))

    await asyncio.gather(*(client(first) for first in range(clients)))
    return samples


def ask_peer(peer: MiniLMClassifier, asked: Sequence[str], seconds: float) -> list[Sample]:
    began = time.perf_counter()
    samples: list[Sample] = []
    while time.perf_counter() - began < seconds:
        text = f"{asked[len(samples) % len(asked)]} ({len(samples)})"
        sent = time.perf_counter()
        peer.predict([text])
        samples.append(Sample(time.perf_counter() - began, (time.perf_counter() - sent) * 1e3))
    return samples


def summary(who: str, clients: int, samples: Sequence[Sample]) -> dict[str, Any]:
    taken = percentiles([sample.latency_ms for sample in samples])
    assert taken is not None
    rate = len(samples) / max(sample.ended_s for sample in samples)
    return {"who": who, "clients": clients, "latency_ms": asdict(taken), "questions_per_s": round(rate, 1)}


def through_the_handle(options: argparse.Namespace, asked: Sequence[str]) -> list[dict[str, Any]]:
    encoder, intents = EncoderSettings(threads=options.threads), IntentSettings(head=options.head)
    room = serve.deployment(
        IntentClassifier, name="intent_classifier", max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1}
    )

    async def run() -> list[dict[str, Any]]:
        """In one event loop from start to end, which Serve's router belongs to."""
        try:
            remote = RemoteIntentClassifier(handle, _TIMEOUT_S)
            rows = []
            for clients in _CLIENTS:
                await ask(remote, asked, clients, options.seconds / 4)
                samples = await ask(remote, asked, clients, options.seconds)
                rows.append(summary("through the handle", clients, samples))
            return rows
        finally:
            await serve.shutdown_async()

    with ray_session(concurrency=2):
        serve.start(proxy_location="Disabled")
        handle = serve.run(room.bind(encoder, intents), name="perf", route_prefix=None)
        return asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.intent_handle", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--head", default=IntentSettings().head, help="folder of the trained head (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of one pass, of both (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (%(default)s)")
    options = parser.parse_args()
    if not Path(options.head).is_dir():
        parser.error(f"there is no head in {options.head}: 'make serve' trains one, or 'raydesk intents train'")
    origin, asked = provenance(), questions()
    rows = through_the_handle(options, asked)
    print("the peer", file=sys.stderr)
    by, embed = load_minilm(ensure_minilm(ROOT / ".raydesk" / "perf" / "all-MiniLM-L6-v2"), options.threads)
    examples = read_examples(_EXAMPLES)
    peer = MiniLMClassifier(embed, [each.text for each in examples], [each.label for each in examples])
    ask_peer(peer, asked, options.seconds / 4)
    rows.append(summary(f"MiniLM fp32 ({by}), called here", 1, ask_peer(peer, asked, options.seconds)))
    print(f"{'':<44}{'clients':>8}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'questions/s':>13}")
    for row in rows:
        latency = "".join(f"{row['latency_ms'][name]:>8.2f}" for name in ("p50", "p95", "p99"))
        print(f"{row['who']:<44}{row['clients']:>8}{latency}{row['questions_per_s']:>13.1f}")
    one, many, theirs = rows
    ratios = {
        "p50_to_peer": round(one["latency_ms"]["p50"] / theirs["latency_ms"]["p50"], 3),
        "queries_ratio_8_clients": round(many["questions_per_s"] / theirs["questions_per_s"], 3),
    }
    print(json.dumps({"benchmark": "intent_handle", **origin, "threads": options.threads, "rows": rows, **ratios}))


if __name__ == "__main__":
    main()
