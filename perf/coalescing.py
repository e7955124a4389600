"""What a piece of a stream costs, and what putting pieces together saves: `python -m perf.coalescing`.

The pipeline's own work on a written answer, from the model to its frames (links, grounding, wire), with a scripted
model in this process and no network: CPU time of `--streams` answers at once, each `--tokens` long at `--tokens-per-s`,
at several intervals; 0, where every token walks by itself, is the peer. What a piece costs on its way from the engine's
process comes on top (`perf.stream`). Prints a table; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass

from deployments.answering.grounding import Grounder, Sources
from deployments.answering.links import LinkFilter, without_links
from deployments.answering.types import Delta, RetrievedChunk
from deployments.http.openai_wire import OpenAIWire
from deployments.pace import Pace
from ingestion.chunk import Chunk
from models.fakes import ScriptedLLM
from models.protocols import ChatMessage, Generated, GenerationEnd, GenerationRequest, TextDelta, ToolCallDelta
from perf.provenance import provenance

_SENTENCE = "Standard delivery costs 4.95 euros and takes four working days to Cologne. "
_CHUNK = Chunk("d", "doc", 0, "passage", _SENTENCE, "Delivery", "en", "public", "a.md")


@dataclass(frozen=True, slots=True)
class Row:
    interval_ms: float
    pieces: int  # of all streams
    cpu_s: float
    first_piece_ms_p50: float
    first_piece_ms_p99: float


async def _stream(llm: ScriptedLLM, tokens: int, pace: Pace) -> tuple[int, float]:
    """(pieces, seconds to the first one)."""
    begun, first_s, pieces = time.perf_counter(), 0.0, 0
    wire = OpenAIWire(completion_id="c", created_s=0, model="m", include_usage=False)
    grounder = Grounder(Sources([RetrievedChunk(_CHUNK, 1.0)]))
    request = GenerationRequest((ChatMessage("user", "?"),), tokens)
    said = without_links(_generated(llm, request, pace), LinkFilter(()))
    async with aclosing(said):
        async for item in said:
            if isinstance(item, TextDelta):
                first_s = first_s or time.perf_counter() - begun
                pieces += 1
                grounder.feed(item.text)
                wire.frames(Delta(item.text))
    return pieces, first_s


async def _generated(
    llm: ScriptedLLM, request: GenerationRequest, pace: Pace
) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
    async with aclosing(pace.kept(_batches(llm, request))) as batches:
        async for batch in batches:
            for item in batch:
                assert not isinstance(item, ToolCallDelta)  # nothing was offered
                yield item


async def _batches(llm: ScriptedLLM, request: GenerationRequest) -> AsyncGenerator[list[Generated], None]:
    async for item in llm.generate(request):
        yield [item]


async def measured(streams: int, tokens: int, tokens_per_s: float, interval_ms: float) -> Row:
    llm = ScriptedLLM(_SENTENCE * (tokens // 12 + 1), tokens_per_s=tokens_per_s)
    pace = Pace(interval_ms / 1000, most_per_s=math.inf)
    begun_s = time.process_time()
    done = await asyncio.gather(*(_stream(llm, tokens, pace) for _ in range(streams)))
    cpu_s = time.process_time() - begun_s
    firsts = sorted(first_s * 1000 for _, first_s in done)
    p99 = firsts[min(len(firsts) - 1, int(len(firsts) * 0.99))]
    return Row(interval_ms, sum(pieces for pieces, _ in done), cpu_s, firsts[len(firsts) // 2], p99)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100, help="answers at once")
    parser.add_argument("--tokens", type=int, default=120, help="length of each")
    parser.add_argument("--tokens-per-s", type=float, default=100, help="speed of each")
    parser.add_argument("--intervals-ms", type=float, nargs="+", default=[0, 20, 30, 40], help="0 first: the peer")
    args = parser.parse_args()
    rows = [await measured(args.streams, args.tokens, args.tokens_per_s, each) for each in args.intervals_ms]
    print(f"{'interval ms':>12} {'pieces':>8} {'CPU s':>8} {'of 0 ms':>8} {'first ms p50':>13} {'p99':>8}")
    for row in rows:
        share = row.cpu_s / rows[0].cpu_s
        first = f"{row.first_piece_ms_p50:>13.1f} {row.first_piece_ms_p99:>8.1f}"
        print(f"{row.interval_ms:>12g} {row.pieces:>8} {row.cpu_s:>8.2f} {share:>8.2f} {first}")
    # By interval, ms: the processor's time beside that of every token by itself.
    ratios = {f"{row.interval_ms:g}": round(row.cpu_s / rows[0].cpu_s, 3) for row in rows[1:]}
    print(
        json.dumps(
            {
                "cpu_ratio": ratios,
                "rows": [asdict(row) for row in rows],
                "arguments": vars(args),
                "provenance": provenance(),
            }
        )
    )


if __name__ == "__main__":
    asyncio.run(main())
