"""How a desk bears many connections, and more questions than it can answer: `python -m perf.connections --url URL`.

Three windows:

1. `--connections` WebSockets and as many HTTP connections are held at once; each asks every `--pause-s` seconds, as a
   customer who reads does, what has a stored answer. Time to the first piece of text, and what a connection costs in
   memory.
2. A closed loop finds how many answers a second the desk gives at most.
3. An open loop asks twice that (`--factor`) for `--overload-s` seconds, no matter what comes back. What counts: how
   long those wait who are let in, how many are (goodput beside the peak), whether the others are told 429 or 503 with a
   `Retry-After` of 1 to 60 seconds, and how soon; by how much the replica has grown; and after how many seconds half
   of the peak is served as before: all of it, with at most 1.5 times the p95.

In both loops `--running-share` of the questions are of conversations that have begun. `--asked never` makes their
questions new ones, each of which is encoded, searched for and answered by a model: there the desk's own capacity is
what is overrun, and not this machine's, which client and door share with it.
Prints a table; the last line is one JSON document. Talks to loopback and to nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from perf.lean_http import LeanClient
from perf.load import QUESTIONS, EventReader
from perf.loopback import loopback_url
from perf.metrics import Percentiles, percentiles, ratio
from perf.provenance import provenance
from perf.stream import never_asked

_TIMEOUT_S = 30.0
_PEAK_CONNECTIONS = 32
_PAUSE_AFTER_REFUSAL_S = 0.1  # a refusal takes no time: without a pause the loop would do nothing but collect them
_OPENING_AT_ONCE = 25  # connections that are opened together: it is the holding that is measured
_STEP_S = 0.005  # of the open loop
_CONVERSATIONS = 20_000  # that run in it: turns of one follow each other, and a customer has seconds between two
_RECOVERY_S, _NORMAL = 15, 1.5  # how long to wait for it after the open loop; of the p95 before
_MOST_IN_FLIGHT = 4000  # of the open loop; beyond, the client is what is overloaded, and says so


@dataclass(frozen=True, slots=True)
class Ask:
    """What came of one question."""

    status: int  # HTTP, or of the error event; 0: the connection failed
    wait_ms: float  # to the first piece of text, or to the refusal
    is_running: bool = False  # of a conversation that has begun
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Overload:
    """What the open loop saw."""

    asked_per_s: float
    answered_per_s: float
    goodput_of_peak: float | None
    answered_wait_ms: Percentiles | None
    refused_wait_ms: Percentiles | None
    refused: int
    refused_without_pause: int  # no `Retry-After` of 1 to 60 whole seconds
    failed: dict[str, int]  # neither answered nor refused, by their status; 0: the connection broke, or 30 s were over
    new_answered_share: float | None
    running_answered_share: float | None


def overload_of(asks: Sequence[Ask], window_s: float, peak_per_s: float) -> Overload:
    answered = [ask for ask in asks if ask.status == 200]
    refused = [ask for ask in asks if ask.status in (429, 503)]
    return Overload(
        asked_per_s=len(asks) / window_s,
        answered_per_s=len(answered) / window_s,
        goodput_of_peak=ratio(len(answered) / window_s, peak_per_s),
        answered_wait_ms=percentiles([ask.wait_ms for ask in answered]),
        refused_wait_ms=percentiles([ask.wait_ms for ask in refused]),
        refused=len(refused),
        refused_without_pause=sum(not _is_pause(ask.retry_after) for ask in refused),
        failed=dict(Counter(str(ask.status) for ask in asks if ask.status not in (200, 429, 503))),
        new_answered_share=_answered_share([ask for ask in asks if not ask.is_running]),
        running_answered_share=_answered_share([ask for ask in asks if ask.is_running]),
    )


def _is_pause(text: str | None) -> bool:
    return text is not None and text.isdecimal() and 1 <= int(text) <= 60


def _answered_share(asks: Sequence[Ask]) -> float | None:
    return ratio(sum(ask.status == 200 for ask in asks), len(asks))


# --- one question, over HTTP and over a socket ---


def _body(question: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], **fields}


async def ask_http(client: LeanClient, body: dict[str, Any]) -> Ask:
    is_running, began = "conversation_id" in body, time.perf_counter()
    heard = _Heard()
    try:
        response = await client.post("/v1/chat", json.dumps(body).encode(), heard.take, _TIMEOUT_S)
    except OSError:
        return Ask(0, _ms(began), is_running)
    if response.status != 200:
        return Ask(response.status, _ms(began), is_running, response.headers.get("retry-after"))
    if heard.failed:
        return Ask(500, _ms(began), is_running)
    return Ask(200 if heard.first_s else 0, 1000 * (heard.first_s - began) if heard.first_s else _ms(began), is_running)


class _Heard:
    """What of a stream matters here."""

    def __init__(self) -> None:
        self.first_s = 0.0  # when text came first, on the clock of `time.perf_counter`
        self.failed = False
        self._reader = EventReader()

    def take(self, body: bytes) -> None:
        for name, _ in self._reader.feed(body):
            if name == "delta" and not self.first_s:
                self.first_s = time.perf_counter()
            self.failed = self.failed or name == "error"


async def ask_socket(socket: aiohttp.ClientWebSocketResponse, name: str, body: dict[str, Any]) -> Ask:
    began, wait_ms = time.perf_counter(), None
    await socket.send_json({"type": "ask", "id": name, **body})
    while True:
        message = await socket.receive(_TIMEOUT_S)
        if message.type != aiohttp.WSMsgType.TEXT:
            return Ask(0, _ms(began))
        event = json.loads(message.data)
        if event["event"] == "ping":
            await socket.send_json({"type": "pong"})
        if event["id"] != name:
            continue
        if event["event"] == "delta" and wait_ms is None:
            wait_ms = _ms(began)
        if event["event"] == "error":
            return Ask(503 if event["data"]["retry_after_s"] else 500, _ms(began))
        if event["event"] == "done":
            return Ask(200, wait_ms or _ms(began))


def _ms(began: float) -> float:
    return 1000 * (time.perf_counter() - began)


# --- the windows ---


async def hold(
    url: str, connections: int, pause_s: float, seconds: float, replica: int | None
) -> tuple[dict[str, list[Ask]], dict[str, float]]:
    """Asks by kind of connection, and KiB of the replica a connection while all are held."""
    asks: dict[str, list[Ask]] = {"http": [], "websocket": []}
    memory: dict[str, float] = {}
    stop = asyncio.Event()
    async with _session(connections) as session, LeanClient(url) as client:
        users: list[asyncio.Task[None]] = []
        opening: dict[str, Callable[[], Awaitable[Asker]]] = {
            "websocket": lambda: _open_socket(session, url),
            "http": lambda: _open_http(client),
        }
        for kind, open_one in opening.items():
            before = _resident_kib(replica)
            found: list[Any] = []
            while (left := connections - len(found)) > 0:
                found += await asyncio.gather(*(open_one() for _ in range(min(left, _OPENING_AT_ONCE))))
            if before is not None and (after := _resident_kib(replica)) is not None:
                memory[kind] = (after - before) / connections
            users += [asyncio.create_task(_use(one, pause_s, stop, asks[kind])) for one in found]
        await asyncio.sleep(seconds)
        stop.set()
        await asyncio.gather(*users)
    return asks, memory


Asker = Callable[[dict[str, Any]], Awaitable[Ask]]


async def _open_socket(session: aiohttp.ClientSession, url: str) -> Asker:
    socket = await session.ws_connect(f"{url.replace('http', 'ws', 1)}/v1/ws", max_msg_size=0)
    await socket.receive()  # ready
    number = 0

    async def ask(body: dict[str, Any]) -> Ask:
        nonlocal number
        number += 1
        return await ask_socket(socket, f"q{number}", body)

    return ask


async def _open_http(client: LeanClient) -> Asker:
    """One connection each, as long as all of them are busy at once."""
    await ask_http(client, {})  # refused: it is the connection that is wanted

    async def ask(body: dict[str, Any]) -> Ask:
        return await ask_http(client, body)

    return ask


async def _use(ask: Asker, pause_s: float, stop: asyncio.Event, asks: list[Ask]) -> None:
    pause = random.uniform(0, pause_s)  # so that not all ask in the same moment
    while not stop.is_set():
        try:
            async with asyncio.timeout(pause):
                await stop.wait()
        except TimeoutError:
            asks.append(await ask(_body(random.choice(QUESTIONS))))
        pause = pause_s


def bodies(questions: Iterator[str], running_share: float) -> Iterator[dict[str, Any]]:
    """Of conversations that run, and of new ones."""
    for number, question in enumerate(questions):
        fields = {"conversation_id": f"c{number % _CONVERSATIONS}"} if random.random() < running_share else {}
        yield _body(question, **fields)


async def peak(url: str, seconds: float, asked: Iterator[dict[str, Any]]) -> float:
    """Answers a second of a closed loop, of the questions that the open one asks, too."""
    until = time.perf_counter() + seconds
    answered = 0

    async def loop(client: LeanClient) -> None:
        nonlocal answered
        while time.perf_counter() < until:
            if (await ask_http(client, next(asked))).status == 200:
                answered += 1
            else:
                await asyncio.sleep(_PAUSE_AFTER_REFUSAL_S)

    async with LeanClient(url) as client:
        await asyncio.gather(*(loop(client) for _ in range(_PEAK_CONNECTIONS)))
    return answered / seconds


async def ask_openly(
    url: str, per_s: float, seconds: float, wanted: Iterator[dict[str, Any]]
) -> tuple[list[Ask], list[float]]:
    """Asks `per_s` times a second, whatever comes back; waits for what was asked within the window.

    Also how late this program itself was, ms: where that is much, what it says of waits is of itself.
    """
    late_ms: list[float] = []
    asks: list[Ask] = []
    in_flight: set[asyncio.Task[Ask]] = set()
    began, asked = time.perf_counter(), 0

    def landed(task: asyncio.Task[Ask]) -> None:
        in_flight.discard(task)
        asks.append(task.result())

    async with LeanClient(url) as client:
        while (now := time.perf_counter() - began) < seconds:
            while asked < now * per_s and len(in_flight) < _MOST_IN_FLIGHT:
                task = asyncio.create_task(ask_http(client, next(wanted)))
                task.add_done_callback(landed)
                in_flight.add(task)
                asked += 1
            await asyncio.sleep(_STEP_S)
            late_ms.append(1000 * (time.perf_counter() - began - now - _STEP_S))
        while in_flight:
            await asyncio.wait(set(in_flight))
        return asks, late_ms


async def recovered_after_s(
    url: str, per_s: float, normal_p95_ms: float, asked: Iterator[dict[str, Any]]
) -> int | None:
    """Seconds until all are served again as they were; None: not in the time that is given for it."""
    for second in range(1, _RECOVERY_S + 1):
        asks, _ = await ask_openly(url, per_s, 1.0, asked)
        waits = percentiles([ask.wait_ms for ask in asks if ask.status == 200])
        if waits and waits.p95 <= _NORMAL * normal_p95_ms and all(ask.status == 200 for ask in asks):
            return second
    return None


def _session(limit: int) -> aiohttp.ClientSession:
    """limit: connections at once."""
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    return aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=limit, keepalive_timeout=60))


async def _store_answers(url: str) -> None:
    async with LeanClient(url) as client:
        for question in QUESTIONS * 2:
            ask = await ask_http(client, _body(question))
            if ask.status != 200:
                raise SystemExit(f"the desk does not answer {question!r} (status {ask.status}): is it ready?")


# --- memory ---


def ingress_replica() -> int | None:
    """The process id of the one ingress replica on this machine; None where there are none, or several."""
    found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if _is_ingress(path)]
    return found[0] if len(found) == 1 else None


def _is_ingress(path: Path) -> bool:
    try:
        title = path.read_bytes()
    except OSError:
        return False
    return b"ServeReplica" in title and b":ingress" in title


def _resident_kib(pid: int | None) -> float | None:
    if pid is None:
        return None
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    return None


# --- the command ---


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    replica = options.replica or ingress_replica()
    await _store_answers(options.url)
    held, memory = await hold(options.url, options.connections, options.pause_s, options.hold_s, replica)
    result: dict[str, Any] = {"connections": options.connections, "held": {}, "kib_per_connection": memory}
    for kind, asks in held.items():
        waits = percentiles([ask.wait_ms for ask in asks if ask.status == 200])
        lost = sum(ask.status != 200 for ask in asks)
        result["held"][kind] = {"asks": len(asks), "not_answered": lost, "ttft_ms": waits and asdict(waits)}
    questions = never_asked() if options.asked == "never" else (random.choice(QUESTIONS) for _ in itertools.count())
    asked = bodies(questions, options.running_share)
    peak_per_s = await peak(options.url, options.peak_s, asked)
    normal, _ = await ask_openly(options.url, peak_per_s / 2, options.peak_s, asked)
    normal_ms = percentiles([ask.wait_ms for ask in normal if ask.status == 200])
    memory_kib, cpu_s, began = _resident_kib(replica), time.process_time(), time.perf_counter()
    asks, late_ms = await ask_openly(options.url, options.factor * peak_per_s, options.overload_s, asked)
    late = percentiles(late_ms)
    result |= {
        "peak_per_s": peak_per_s,
        "half_of_peak_ms": normal_ms and asdict(normal_ms),
        "client_late_ms": late and asdict(late),
        "client_cpu_share": (time.process_time() - cpu_s) / (time.perf_counter() - began),
        "grown_mib": None if memory_kib is None else ((_resident_kib(replica) or memory_kib) - memory_kib) / 1024,
        "overload": asdict(overload_of(asks, options.overload_s, peak_per_s)),
        "recovered_after_s": normal_ms and await recovered_after_s(options.url, peak_per_s / 2, normal_ms.p95, asked),
    }
    return result


def print_table(result: dict[str, Any]) -> None:
    print(f"{'':34}{'p50':>9}{'p95':>9}{'p99':>9}")
    rows = {f"{kind}, first text, ms": one["ttft_ms"] for kind, one in result["held"].items()}
    over = result["overload"]
    rows["half of the peak, ms"] = result["half_of_peak_ms"]
    rows |= {"overload, answered, ms": over["answered_wait_ms"], "overload, refused, ms": over["refused_wait_ms"]}
    rows["this program late, ms"] = result["client_late_ms"]
    for name, values in rows.items():
        shown = [f"{values[key]:9.1f}" for key in ("p50", "p95", "p99")] if values else ["        -"] * 3
        print(f"{name:34}{''.join(shown)}")
    for kind, kib in result["kib_per_connection"].items():
        print(f"{kind + ', memory of the replica':34}{kib:9.1f} KiB a connection")
    print(f"{'peak':34}{result['peak_per_s']:9.1f} answers/s")
    goodput = over["goodput_of_peak"]
    print(f"{'overload':34}{over['asked_per_s']:9.1f} asked/s, {over['answered_per_s']:.1f} answered/s")
    print(f"{'goodput':34}{'-' if goodput is None else f'{goodput:9.2f}'} of the peak")
    print(f"{'refused':34}{over['refused']:9d}, {over['refused_without_pause']} without a pause")
    print(f"{'failed, by status':34}{over['failed'] or '     none'}")
    for kind in ("running", "new"):
        share = over[f"{kind}_answered_share"]
        print(f"{kind + ' conversations answered':34}{'        -' if share is None else f'{share:9.1%}'}")
    if result["grown_mib"] is not None:
        print(f"{'replica, grown by':34}{result['grown_mib']:9.1f} MiB")
    recovered_s = result["recovered_after_s"]
    print(
        f"{'half of the peak again as before':34}{recovered_s or '     not':>9} {'s after' if recovered_s else 'yet'}"
    )
    print(f"{'client':34}{result['client_cpu_share']:9.2f} of a core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", type=loopback_url, required=True, help="the desk, on this machine")
    parser.add_argument("--connections", type=int, default=500, help="of each kind (500)")
    parser.add_argument("--pause-s", type=float, default=10.0, help="between two questions of a connection (10)")
    parser.add_argument("--hold-s", type=float, default=60.0, help="how long they are held (60)")
    parser.add_argument("--peak-s", type=float, default=10.0, help="of the closed loop (10)")
    parser.add_argument("--overload-s", type=float, default=60.0, help="of the open loop (60)")
    parser.add_argument("--factor", type=float, default=2.0, help="questions of the open loop, of the peak (2)")
    parser.add_argument(
        "--asked", choices=["before", "never"], default="before", help="what both loops ask (before: stored answers)"
    )
    parser.add_argument(
        "--running-share",
        type=float,
        default=0.3,
        help="of the questions of both loops, of running conversations (0.3)",
    )
    parser.add_argument("--replica", type=int, help="process id of the ingress replica, where there are several")
    options = parser.parse_args()
    origin = provenance()
    result = uvloop.run(measure(options))
    print_table(result)
    print(json.dumps({"connections": origin | result}))


if __name__ == "__main__":
    main()
