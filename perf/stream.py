"""What a stream through a running desk costs: `python -m perf.stream --url http://127.0.0.1:8000`.

Holds 1, 8 and 32 streams (`--streams`) of `/v1/chat/completions` at once, which begin one after the other within the
time of an answer and ask again when theirs is at its end, and measures time to first text, chunks/s, tokens/s and
streams that broke off. The tier's model is named, so that every answer is written and none comes from a cache. The desk
is asked twice: by customers who say their names, so that no question was ever asked, and by customers who all ask the
same five, which it has understood before: then no encoder pass is in it, and it is the way of a stream alone. In the
same run, in turns with the desk, a peer:

  --peer serve-llm   ray.serve.llm's own OpenAI application with the tier's model, on the desk's Ray; its prompt is
                     filled up to as many tokens as the desk's, whose prompt holds sources
  --peer sse         bare uvicorn that streams the same script, for a desk whose tier is a script: what is left is the
                     graph's own cost. 1, 100 and 500 streams. Start both with the same RAYDESK_TIERS, such as
                     [{"name": "small", "model_id": "raydesk-small", "max_output_tokens": 300,
                       "script": {"tokens": 300, "tokens_per_s": 20, "first_token_ms": 100},
                       "replicas": {"max_ongoing_requests": 1000}}]

Added TTFT is the desk's less the peer's, at the same percentile. Prints a table, what was dropped by its error; the
last line is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import signal
import string
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import uvloop

from cluster import readiness
from deployments.settings import SettingsError, TierSettings, load_settings
from perf.bare_server import running
from perf.json_object import json_object
from perf.load import EventReader
from perf.loopback import loopback_url
from perf.metrics import Percentiles, percentiles, ratio
from perf.provenance import ROOT, provenance
from perf.sse_peer import Script

QUESTIONS = (
    "What does standard delivery cost and how long does it take?",
    "How do I send something back, and who pays for it?",
    "What is covered by the warranty of the Orbit?",
    "How can I pay, and when is the money taken?",
    "How often does the filter of the Zephyr have to be changed?",
)
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer. Times in seconds since the question was sent."""

    first_s: float | None  # first text
    last_s: float
    chunks: int  # with text
    tokens: int
    prompt_tokens: int
    error: str  # "" where it came to its end


@dataclass(frozen=True, slots=True)
class Result:
    server: str
    streams: int
    answers: int
    dropped: int
    errors: dict[str, int]  # of those
    ttft_ms: Percentiles | None
    chunks_per_s: float
    tokens_per_s: float
    client_cpu: float  # of one core


class Reading:
    """A completion as it comes in."""

    def __init__(self) -> None:
        self._reader = EventReader()
        self.first_s: float | None = None
        self.chunks = self.tokens = self.prompt_tokens = 0
        self.error = "broke off"

    def feed(self, received: bytes, at_s: float) -> None:
        for _, data in self._reader.feed(received):
            if data == b"[DONE]":
                self.error = "" if self.error == "broke off" else self.error
                continue
            document = json_object(data)
            if "error" in document:
                self.error = str(document["error"].get("code") or "error")
            if usage := document.get("usage"):
                self.tokens, self.prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
            if any(choice.get("delta", {}).get("content") for choice in document.get("choices") or ()):
                self.chunks += 1
                self.first_s = at_s if self.first_s is None else self.first_s


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    url: str
    model: str
    max_tokens: int
    questions: Iterator[str]
    padding: str = ""  # before the question

    def body(self, question: str) -> bytes:
        content = {
            "model": self.model,
            "messages": [{"role": "user", "content": f"{self.padding}{question}"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": self.max_tokens,
            "temperature": 0,
        }
        return json.dumps(content).encode()


async def ask(session: aiohttp.ClientSession, server: Server, question: str) -> Stream:
    """Whatever goes wrong becomes a stream with an error."""
    sent_s = time.perf_counter()
    reading = Reading()
    try:
        headers = {"content-type": "application/json"}
        body = server.body(question)
        async with session.post(server.url, data=body, headers=headers, allow_redirects=False) as response:
            if response.status == 200:
                async for received in response.content.iter_any():
                    reading.feed(received, time.perf_counter() - sent_s)
            else:
                reading.error = str(response.status)
    except (aiohttp.ClientError, OSError) as error:
        reading.error = type(error).__name__
    last_s = time.perf_counter() - sent_s
    return Stream(reading.first_s, last_s, reading.chunks, reading.tokens, reading.prompt_tokens, reading.error)


def asked_before() -> Iterator[str]:
    return itertools.cycle(QUESTIONS)


def never_asked() -> Iterator[str]:
    """Also not by an earlier run."""
    for question in asked_before():
        name = "".join(random.choices(string.ascii_lowercase, k=8)).capitalize()
        yield f"I am {name}. {question}"


async def measure(
    session: aiohttp.ClientSession, server: Server, streams: int, rounds: int, spread_s: float = 0.0
) -> Result:
    """`streams` at a time, `rounds` answers each. spread_s: in which they begin, evenly."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()

    async def one(number: int) -> list[Stream]:
        await asyncio.sleep(spread_s * number / streams)
        return [await ask(session, server, next(server.questions)) for _ in range(rounds)]

    found = list(itertools.chain.from_iterable(await asyncio.gather(*map(one, range(streams)))))
    elapsed_s = time.perf_counter() - began_s
    return summarise(server.name, streams, found, elapsed_s, (time.process_time() - began_cpu_s) / elapsed_s)


def summarise(server: str, streams: int, found: Sequence[Stream], elapsed_s: float, client_cpu: float) -> Result:
    whole = [each for each in found if not each.error]
    return Result(
        server=server,
        streams=streams,
        answers=len(whole),
        dropped=len(found) - len(whole),
        errors=dict(Counter(each.error for each in found if each.error)),
        ttft_ms=percentiles([each.first_s * 1000 for each in whole if each.first_s is not None]),
        chunks_per_s=sum(each.chunks for each in whole) / elapsed_s,
        tokens_per_s=sum(each.tokens for each in whole) / elapsed_s,
        client_cpu=client_cpu,
    )


def script_of(tier: TierSettings, max_tokens: int) -> Script:
    """As many tokens as the tier writes of an answer, each by itself. Raises `SettingsError`."""
    made = tier.script
    if made is None:
        raise SettingsError(f"the tier {tier.name} is a model, not a script: measure it with --peer serve-llm")
    tokens = min(made.tokens, tier.max_output_tokens, max_tokens)
    return Script(tokens, made.first_token_ms, 1000 / made.tokens_per_s if made.tokens_per_s else 0.0)


def until_ready(url: str, tier: str) -> None:
    """While a tier starts, sources are quoted in its place: short answers, which say nothing of a stream's length."""
    at, due_s = urlsplit(url), time.monotonic() + _TIMEOUT_S
    while (found := readiness.ask(at.hostname or "", at.port or 80)) is None or found.tiers.get(tier) != "ready":
        if time.monotonic() > due_s:
            raise RuntimeError(
                f"The tier {tier} is not ready after {_TIMEOUT_S:g} s. Is the desk up ('raydesk status')?"
            )
        time.sleep(1)


async def run(options: argparse.Namespace, tier: TierSettings) -> list[Result]:
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        with ExitStack() as peers:
            url = f"{options.url}/v1/chat/completions"
            desk = Server("desk", url, tier.model_id, options.max_tokens, never_asked())
            first = await ask(session, desk, QUESTIONS[0])
            if first.error:
                raise RuntimeError(f"The desk gives no answer: {first.error}. Is the tier up ('raydesk status')?")
            servers = [desk, replace(desk, name="desk, asked before", questions=asked_before())]
            if options.peer == "sse":
                script = script_of(tier, options.max_tokens)
                base = peers.enter_context(running("perf.sse_peer", json.dumps(asdict(script))))
                url = f"{base}/v1/chat/completions"
                servers.append(Server("bare SSE", url, "peer", options.max_tokens, asked_before()))
            elif options.peer == "serve-llm":
                from perf.llm_app import running_llm

                path = peers.enter_context(running_llm(options.state, tier))  # minutes; nothing else runs meanwhile
                url = f"{options.url}{path}/v1/chat/completions"
                padding = "word " * max(0, first.prompt_tokens - 50)  # 50: about the question and the template
                servers.append(Server("ray.serve.llm", url, tier.model_id, options.max_tokens, never_asked(), padding))
            lengths_s = {}  # of an answer, of each server that is asked nothing else
            for server in servers:
                await measure(session, server, len(QUESTIONS), 1)  # wakes it, and asks each question once
                lengths_s[server.name] = (await ask(session, server, next(server.questions))).last_s
            results = []
            for streams in options.streams:
                for server in servers:
                    results.append(await measure(session, server, streams, options.rounds, lengths_s[server.name]))
                    print(f"{streams} streams, {server.name}: done", file=sys.stderr, flush=True)
            return results


def comparisons(results: Sequence[Result]) -> list[dict[str, str | float | None]]:
    """Desk, either way, and peer at each number of streams."""
    found: list[dict[str, str | float | None]] = []
    desks = [each for each in results if each.server.startswith("desk")]
    for desk in desks:
        for peer in (each for each in results if each not in desks and each.streams == desk.streams):
            added = {
                f"added_ttft_{name}_ms": getattr(desk.ttft_ms, name) - getattr(peer.ttft_ms, name)
                for name in ("p50", "p99")
                if desk.ttft_ms is not None and peer.ttft_ms is not None
            }
            rates = {
                "chunks_ratio": ratio(desk.chunks_per_s, peer.chunks_per_s),
                "tokens_ratio": ratio(desk.tokens_per_s, peer.tokens_per_s),
            }
            found.append({"server": desk.server, "streams": desk.streams, "dropped": desk.dropped, **added, **rates})
    return found


def print_table(results: Sequence[Result]) -> None:
    print(
        f"{'server':<20}{'streams':>8}{'answers':>9}{'dropped':>9}{'TTFT p50':>10}{'p99 ms':>9}{'chunks/s':>10}"
        f"{'tokens/s':>10}{'client CPU':>12}"
    )
    for each in results:
        ttft = f"{'-':>10}{'-':>9}" if each.ttft_ms is None else f"{each.ttft_ms.p50:>10.1f}{each.ttft_ms.p99:>9.1f}"
        print(
            f"{each.server:<20}{each.streams:>8}{each.answers:>9}{each.dropped:>9}{ttft}{each.chunks_per_s:>10.1f}"
            f"{each.tokens_per_s:>10.1f}{each.client_cpu:>11.0%}"
            + "".join(f"  {count} x {error}" for error, count in each.errors.items())
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.stream", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", type=loopback_url, default="http://127.0.0.1:8000", help="the desk (%(default)s)")
    parser.add_argument("--state", type=Path, default=ROOT / ".raydesk", help="state folder of that desk")
    parser.add_argument("--settings", type=Path, default=ROOT / "cluster" / "local.yaml", help="of that desk")
    parser.add_argument("--model", default="raydesk-small", help="the tier's model_id (%(default)s)")
    parser.add_argument("--peer", choices=("serve-llm", "sse", "none"), default="serve-llm", help="(%(default)s)")
    parser.add_argument("--streams", type=int, nargs="+", help="at once (1 8 32; with --peer sse 1 100 500)")
    parser.add_argument("--rounds", type=int, default=3, help="answers of each stream (%(default)s)")
    parser.add_argument("--max-tokens", type=int, help="of an answer (64; with --peer sse 300)")
    options = parser.parse_args()
    options.max_tokens = options.max_tokens or (300 if options.peer == "sse" else 64)
    options.streams = options.streams or ([1, 100, 500] if options.peer == "sse" else [1, 8, 32])
    if min(options.streams) < 1 or options.rounds < 1:
        parser.error("--streams and --rounds are at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the peers end with this program
    origin = provenance()
    try:
        tiers = {tier.model_id: tier for tier in load_settings(options.settings).tiers}
        if options.model not in tiers:
            parser.error(f"{options.settings} has no tier with the model_id {options.model}")
        until_ready(options.url, tiers[options.model].name)
        results = uvloop.run(run(options, tiers[options.model]))
    except (SettingsError, RuntimeError) as error:
        sys.exit(str(error))
    print_table(results)
    compared = comparisons(results)
    for row in compared:
        told = {name: value for name, value in row.items() if value is not None}
        print(
            ", ".join(
                f"{name} {value if isinstance(value, str) else format(value, '.3g')}" for name, value in told.items()
            )
        )
    result = {"benchmark": "stream", **origin, "peer": options.peer, "rounds": options.rounds}
    print(json.dumps(result | {"compared": compared, "servers": [asdict(each) for each in results]}))


if __name__ == "__main__":
    main()
