"""How many answers a second a running desk gives: `python -m perf.load --url http://127.0.0.1:8000`.

A closed loop: `--concurrency` connections, each of which asks again as soon as it has its answer. Every question is
asked once before, so what is measured is the way to a stored answer: HTTP in, cache, HTTP out. `--peer` measures in
the same run the least that a server can do, with the same bytes; the ratio to it is what survives a change of machine.
Prints a table; the last line is one JSON document. Talks to loopback and to nothing else.

The client is aiohttp on uvloop: of one core it takes some 0.4 ms for an answer, where httpx2 takes 2.3 ms (two busy
cores, 64 connections, a server that does nothing). Its own ceiling is measured in every run, see `ClientCost`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from perf.bare_server import BareServerError, running
from perf.json_object import json_object
from perf.loopback import loopback_url
from perf.metrics import ClientCost, LoadSummary, Percentiles, Sample, client_cost, ratio, summarise
from perf.peer import Recording
from perf.provenance import provenance

# Curated questions of the sample company, in both its languages: each has one certain answer, which is then stored.
QUESTIONS = (
    "Is there a minimum order value?",
    "How long does standard delivery take?",
    "How long is my parcel kept at the pick-up point?",
    "Can you deliver to a PO box?",
    "How long do I have to return an item?",
    "Do I need the original packaging to return an item?",
    "How is my refund paid out?",
    "Can I pay in instalments?",
    "How long does my password have to be?",
    "What does the warranty cover?",
    "Which robot vacuum can also mop?",
    "When is the showroom open?",
    "普通快递几天能到？",
    "包裹在自提柜里能放多久？",
    "运费险最多赔多少？",
    "金卡会员有什么好处？",
)
MAX_SECONDS = 120.0
MAX_CONCURRENCY = 512
_MAX_REQUESTS = 500_000  # in one window; some 100 MB of samples
_REQUEST_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 5.0
_PAUSE_AFTER_ERROR_S = 0.1  # a refusal takes no time: without a pause the loop would do nothing but collect them
_CLIENT_BOUND = 0.7  # of a core, which it seldom has for itself; from there on a faster server would hardly show
_HEADERS = {"content-type": "application/json"}


class LoadError(RuntimeError):
    """There is nothing to measure; the message says why."""


# --- one question ---


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request: a path, or an error."""

    path: str = ""
    error: str = ""


def read_document(status: int, body: bytes) -> Reply:
    """An answer of `POST /v1/chat`, or an error of it, or whatever a proxy says in its place."""
    content = json_object(body)
    if status == 200 and content.get("path"):
        return Reply(path=str(content["path"]))
    error = content.get("error")
    return Reply(error=f"{status} {error.get('code') if isinstance(error, dict) else 'and no answer of a desk'}")


class EventReader:
    """Splits a stream into events as the desk writes them: lines end in LF, `data` is one line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, received: bytes) -> list[tuple[str, bytes]]:
        """The (name, data) of the events that are complete now."""
        *frames, self._rest = (self._rest + received).split(b"\n\n")
        return [self._event(frame) for frame in frames if not frame.startswith(b":")]

    @staticmethod
    def _event(frame: bytes) -> tuple[str, bytes]:
        fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n"))
        return fields.get(b"event", b"message").decode(), fields.get(b"data", b"")


def read_end(name: str, data: bytes) -> Reply | None:
    """What a stream ended with; None for an event that does not end it."""
    if name == "done":
        return Reply(path=str(json_object(data).get("path") or "unknown"))
    if name == "error":
        return Reply(error=f"stream {json_object(data).get('code') or 'unknown'}")
    return None


class Client:
    """Asks one server. Whatever goes wrong becomes a sample with an error, never an exception."""

    def __init__(self, session: aiohttp.ClientSession, base: str, *, stream: bool) -> None:
        self._session = session
        self._url = f"{base}/v1/chat"
        self._streams = stream

    def body(self, question: str) -> bytes:
        content = {"messages": [{"role": "user", "content": question}], "stream": self._streams}
        return json.dumps(content, ensure_ascii=False).encode()

    async def ask(self, body: bytes, window_began_s: float = 0.0) -> Sample:
        """`window_began_s` is on the clock of `time.perf_counter`."""
        began_s = time.perf_counter()
        ttft_ms = None
        try:
            async with self._post(body) as response:
                if self._streams and response.status == 200:
                    reply, first_s = await _read_stream(response)
                    ttft_ms = None if first_s is None else (first_s - began_s) * 1000
                else:
                    reply = read_document(response.status, await response.read())
        except TimeoutError:
            reply = Reply(error="timeout")
        except (aiohttp.ClientError, OSError) as error:
            reply = Reply(error=f"connection {type(error).__name__}")
        ended_s = time.perf_counter()
        return Sample(ended_s - window_began_s, (ended_s - began_s) * 1000, reply.path, reply.error, ttft_ms)

    async def record(self, body: bytes) -> Recording:
        """An answer as it came, for a peer to give. Raises `LoadError`."""
        try:
            async with self._post(body) as response:
                text = (await response.read()).decode()
        except (aiohttp.ClientError, OSError) as error:
            raise LoadError(f"There is no answer to {body.decode()}: {type(error).__name__}.") from error
        parts = tuple(f"{part}\n\n" for part in text.split("\n\n") if part) if self._streams else (text,)
        return Recording(response.headers.get("content-type", "application/json"), parts)

    def _post(self, body: bytes) -> Any:
        # A redirect could lead off this machine.
        return self._session.post(self._url, data=body, headers=_HEADERS, allow_redirects=False)


async def _read_stream(response: aiohttp.ClientResponse) -> tuple[Reply, float | None]:
    """How it ended, and when its first text came, on the clock of `time.perf_counter`."""
    reader = EventReader()
    first_s: float | None = None
    reply = Reply(error="stream broke off")
    async for received in response.content.iter_any():
        for name, data in reader.feed(received):
            if name == "delta" and first_s is None:
                first_s = time.perf_counter()
            reply = read_end(name, data) or reply
    return reply, first_s


# --- many questions ---


@dataclass(frozen=True, slots=True)
class Load:
    """How one server did."""

    server: str
    first_paths: dict[str, int]  # path → how many questions it answered the first time
    summary: LoadSummary
    client: ClientCost
    recording: Recording


@dataclass(frozen=True, slots=True)
class Options:
    concurrency: int
    seconds: float
    stream: bool


async def measure(server: str, base: str, questions: Sequence[str], options: Options) -> Load:
    timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=options.concurrency),
        timeout=timeout,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=["user-agent", "accept-encoding"],
    ) as session:
        client = Client(session, base, stream=options.stream)
        bodies = [client.body(question) for question in questions]
        first_paths = Counter([await _first(client, body) for body in bodies])
        recording = await client.record(bodies[0])
        # Opens the connections, so that no answer of the window has to.
        await asyncio.gather(
            *(client.ask(body) for body in itertools.islice(itertools.cycle(bodies), options.concurrency))
        )
        summary, cost = await _closed_loop(client, bodies, options)
        return Load(server, dict(first_paths), summary, cost, recording)


async def _first(client: Client, body: bytes) -> str:
    sample = await client.ask(body)
    if sample.error:
        raise LoadError(f"There is no answer to {body.decode()}: {sample.error}. Is the desk up ('make status')?")
    return sample.path


async def _closed_loop(client: Client, bodies: Sequence[bytes], options: Options) -> tuple[LoadSummary, ClientCost]:
    samples: list[Sample] = []
    turns = itertools.cycle(bodies)
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    ends_s = began_s + options.seconds

    async def ask_on() -> None:
        while time.perf_counter() < ends_s and len(samples) < _MAX_REQUESTS:
            samples.append(await client.ask(next(turns), began_s))
            if samples[-1].error:
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)

    async with asyncio.TaskGroup() as group:
        for _ in range(options.concurrency):
            group.create_task(ask_on())
    elapsed_s = time.perf_counter() - began_s
    cost = client_cost(len(samples), time.process_time() - began_cpu_s, elapsed_s)
    return summarise(samples, min(options.seconds, elapsed_s)), cost  # shorter only at the limit of requests


# --- what is printed ---


def print_table(loads: Sequence[Load], desk_to_peer: float | None) -> None:
    print(f"{'server':<8}{'answers/s':>11}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'errors':>8}{'client CPU':>12}")
    for load in loads:
        summary = load.summary
        print(
            f"{load.server:<8}{summary.answers_per_s:>11.1f}{_three(summary.latency_ms)}"
            f"{sum(summary.errors.values()):>8}{load.client.cpu_share:>11.0%} "
        )
        if summary.ttft_ms is not None:
            print(f"{'  to first text':<19}{_three(summary.ttft_ms)}")
    if desk_to_peer is not None:
        print(f"\ndesk to peer: {desk_to_peer:.3f}")
    desk = loads[0].summary
    print("\npaths: " + (", ".join(f"{path} {share:.1%}" for path, share in desk.path_share.items()) or "none"))
    if desk.errors:
        print("errors: " + ", ".join(f"{code}: {count}" for code, count in desk.errors.items()))
    for load in loads:
        print(client_line(load.server, load.client))


def client_line(server: str, client: ClientCost) -> str:
    """Whose number it is."""
    ceiling = "nothing" if client.ceiling_per_s is None else f"{client.ceiling_per_s:,.0f} requests/s"
    if client.cpu_share >= _CLIENT_BOUND:
        return f"client, asking the {server}: near its ceiling ({ceiling}); the {server} may well be faster"
    return f"client, asking the {server}: {client.cpu_share:.0%} of a core; with a whole one it could do {ceiling}"


def _three(values: Percentiles | None) -> str:
    if values is None:
        return f"{'-':>9}" * 3
    return f"{values.p50:>9.2f}{values.p95:>9.2f}{values.p99:>9.2f}"


def _as_result(load: Load) -> dict[str, Any]:
    return {
        **asdict(load.summary),
        "client": asdict(load.client) | {"is_bound": load.client.cpu_share >= _CLIENT_BOUND},
        "answer_bytes": sum(len(part.encode()) for part in load.recording.parts),
    }


# --- from the command line ---


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m perf.load", description=__doc__)
    parser.add_argument(
        "--url",
        type=loopback_url,
        default="http://127.0.0.1:8000",
        help="a desk on this machine (default: %(default)s)",
    )
    parser.add_argument("--seconds", type=float, default=10.0, help=f"of load, at most {MAX_SECONDS:.0f} (default: 10)")
    parser.add_argument(
        "--concurrency", type=int, default=64, help=f"connections, at most {MAX_CONCURRENCY} (default: 64)"
    )
    parser.add_argument("--peer", action="store_true", help="measure a minimal server in the same run")
    parser.add_argument("--stream", action="store_true", help="server-sent events, with the time to the first text")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="one a line (default: 16 of the sample company)")
    options = parser.parse_args(arguments)
    if not 0.1 <= options.seconds <= MAX_SECONDS:
        parser.error(f"--seconds must be from 0.1 to {MAX_SECONDS:.0f}")
    if not 1 <= options.concurrency <= MAX_CONCURRENCY:
        parser.error(f"--concurrency must be from 1 to {MAX_CONCURRENCY}")
    return options


def _questions(file: Path | None) -> Sequence[str]:
    if file is None:
        return QUESTIONS
    questions = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
    if not questions:
        raise LoadError(f"There are no questions in {file}.")
    return questions


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures, prints the table and returns the result."""
    base, questions = arguments.url, _questions(arguments.questions)
    options = Options(arguments.concurrency, arguments.seconds, arguments.stream)
    result = {"benchmark": "load", **provenance(), "url": base, "questions": len(questions), **asdict(options)}
    loads = [uvloop.run(measure("desk", base, questions, options))]
    if arguments.peer:
        with running("perf.peer", loads[0].recording.to_json()) as peer_base:
            loads.append(uvloop.run(measure("peer", peer_base, questions, options)))
    rates = [load.summary.answers_per_s for load in loads]
    desk_to_peer = ratio(*rates) if arguments.peer else None
    print_table(loads, desk_to_peer)
    return result | {
        "client": f"aiohttp {aiohttp.__version__}",
        "first_paths": loads[0].first_paths,
        **{load.server: _as_result(load) for load in loads},
        "desk_to_peer": desk_to_peer,
    }


def main() -> None:
    try:
        result = run(_options())
    except (LoadError, BareServerError) as error:
        sys.exit(str(error))
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
