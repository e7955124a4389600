"""How fast a stored answer is given: `python -m perf.cache_speed`, while a desk is running.

The same closed loop asks, in turns and several rounds: the desk's exact cache, a no-op application on the desk's own
Ray (same HAProxy, same replica settings, the same bytes: what is left for a desk to lose), the desk's semantic cache,
and LiteLLM's proxy with its in-memory exact cache, 1 and 2 workers. All speak `POST /v1/chat/completions`. Semantic
hits are questions whose wording was never sent before: each stored question in courtesies that its own key does not
have. "replica CPU" is what an answer takes of the ingress, or of the no-op's replica, by the kernel's count: the
number to look at where the machine has other work. The no-op has as many replicas as the desk has ingresses; for two
of each beside LiteLLM's two workers start the desk, and this, with RAYDESK_HTTP__REPLICAS__MIN_REPLICAS=2. Ratios are
made within a round; their medians and spreads are printed; the last line is one JSON document. LiteLLM is installed by
the first run, into .raydesk/perf/litellm. All traffic stays on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import aiohttp
import uvloop

from deployments.settings import SettingsError, load_settings
from perf import noop_app
from perf.json_object import json_object
from perf.litellm_proxy import PeerError, installed, running_proxy
from perf.load import MAX_CONCURRENCY, MAX_SECONDS, QUESTIONS, LoadError
from perf.loopback import loopback_url
from perf.metrics import ClientCost, LoadSummary, Sample, client_cost, summarise
from perf.peer import Recording
from perf.provenance import ROOT, provenance
from perf.replica_cpu import replica_cpu_s

_TIMEOUT_S = 30.0
_UP_TIMEOUT_S = 240.0
# Courtesies before and behind a question that change nothing about it. A wording that was accepted once is an exact hit
# from then on, so every one is sent once: there are enough of them for some ten windows.
_GREETINGS = {
    "en": ("", "Hi, ", "Hello, ", "Hi there, ", "Good morning, ", "Good afternoon, ", "Good evening, ", "Hey, "),
    "zh": ("", "你好，", "您好，", "早上好，", "下午好，", "晚上好，", "客服你好，", "亲，"),
}
_OPENINGS = {
    "en": (
        "",
        "quick question: ",
        "excuse me, ",
        "sorry to bother you, ",
        "just wondering, ",
        "please tell me, ",
        "I would like to know, ",
        "can you help me? ",
        "I have a question: ",
        "could you tell me, ",
    ),
    "zh": (
        "",
        "请问",
        "请问一下，",
        "麻烦问一下，",
        "想问一下，",
        "不好意思，请问",
        "打扰一下，",
        "我想知道，",
        "咨询一下，",
        "请教一下，",
    ),
}
_CLOSINGS = {
    "en": (
        "",
        " Thanks",
        " Thank you",
        " Thanks in advance",
        " Thank you very much",
        " please",
        " Cheers",
        " Thanks a lot",
        " Many thanks",
        " thx",
    ),
    "zh": ("", "谢谢", "，谢谢", "，多谢", "，麻烦了", "呀", "呢", "，感谢", "，谢谢您", "，非常感谢"),
}


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    url: str
    headers: Mapping[str, str]
    bodies: Iterator[bytes]
    cpu_s: Callable[[], float] | None = None  # of its replicas, where they are a desk's


@dataclass(frozen=True, slots=True)
class Window:
    """One server in one round."""

    summary: LoadSummary
    client: ClientCost
    replica_cpu_ms: float | None = None  # of the server's replicas, an answer


# --- questions ---


def body(question: str) -> bytes:
    content = {"model": "raydesk", "messages": [{"role": "user", "content": question}]}
    return json.dumps(content, ensure_ascii=False).encode()


def reworded(questions: Sequence[str]) -> Iterator[str]:
    """Each question in each pair of courtesies, once, the questions in turn; the bare one is left out."""
    forms = {
        language: list(itertools.product(_CLOSINGS[language], _OPENINGS[language], _GREETINGS[language]))[1:]
        for language in map(_language, questions)
    }
    for number in range(min(map(len, forms.values()))):
        for question in questions:
            closing, opening, greeting = forms[_language(question)][number]
            yield f"{greeting}{opening}{question}{closing}"


def _language(question: str) -> str:
    return "en" if question.isascii() else "zh"


# --- one server ---


async def ask(session: aiohttp.ClientSession, server: Server, content: bytes, began_s: float) -> Sample:
    """Whatever goes wrong becomes a sample with an error."""
    sent_s = time.perf_counter()
    path, error = "", ""
    try:
        async with session.post(
            server.url,
            data=content,
            headers={"content-type": "application/json", **server.headers},
            allow_redirects=False,
        ) as response:
            received = await response.read()
            path = path_of(response.headers, received) if response.status == 200 else ""
            error = "" if path else f"{response.status}"
    except (aiohttp.ClientError, OSError) as failure:
        error = type(failure).__name__
    ended_s = time.perf_counter()
    return Sample(ended_s - began_s, (ended_s - sent_s) * 1000, path, error)


def path_of(headers: Mapping[str, str], received: bytes) -> str:
    """Which way an answer came: the desk's path, or whether LiteLLM's cache had it."""
    if "x-litellm-version" in headers:
        return "litellm_cache" if "x-litellm-cache-key" in headers else "litellm_upstream"
    choices = json_object(received).get("choices") or [{}]
    return str(choices[0].get("message", {}).get("raydesk", {}).get("path") or "")


async def measure(session: aiohttp.ClientSession, server: Server, concurrency: int, seconds: float) -> Window:
    samples: list[Sample] = []
    replica_s = 0.0 if server.cpu_s is None else server.cpu_s()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()

    async def ask_on() -> None:
        while time.perf_counter() - began_s < seconds and (content := next(server.bodies, None)) is not None:
            samples.append(await ask(session, server, content, began_s))
            if samples[-1].error:
                await asyncio.sleep(0.1)

    await asyncio.gather(*(ask_on() for _ in range(concurrency)))
    elapsed_s = time.perf_counter() - began_s
    cost = client_cost(len(samples), time.process_time() - began_cpu_s, elapsed_s)
    summary = summarise(samples, min(seconds, elapsed_s))
    if server.cpu_s is None or not summary.answers:
        return Window(summary, cost)
    return Window(summary, cost, (server.cpu_s() - replica_s) * 1000 / summary.answers)


# --- all of them ---


async def measure_all(
    session: aiohttp.ClientSession, servers: Sequence[Server], options: argparse.Namespace
) -> dict[str, list[Window]]:
    windows: dict[str, list[Window]] = {server.name: [] for server in servers}
    for number in range(options.rounds):
        for server in servers if number % 2 == 0 else list(reversed(servers)):
            await measure(session, server, options.concurrency, 0.5)  # opens connections, wakes the server
            windows[server.name].append(await measure(session, server, options.concurrency, options.seconds))
            rate = windows[server.name][-1].summary.answers_per_s
            print(f"round {number + 1}, {server.name}: {rate:,.0f} answers/s", file=sys.stderr, flush=True)
    return windows


async def warm(session: aiohttp.ClientSession, server: Server, questions: Sequence[str], times: int) -> bytes:
    """Asks everything, so that it is stored; returns an answer as it came. Raises `LoadError`."""
    ends_s = time.perf_counter() + _UP_TIMEOUT_S
    while True:
        sample = await ask(session, server, body(questions[0]), 0.0)
        if not sample.error:
            break
        if time.perf_counter() > ends_s:
            raise LoadError(f"{server.name} does not answer: {sample.error}")
        await asyncio.sleep(0.5)
    for question in [*questions] * times:
        await ask(session, server, body(question), 0.0)
    async with session.post(
        server.url, data=body(questions[0]), headers={"content-type": "application/json", **server.headers}
    ) as last:
        return await last.read()


async def run(options: argparse.Namespace) -> dict[str, list[Window]]:
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=options.concurrency),
                timeout=timeout,
                skip_auto_headers=["user-agent", "accept-encoding"],
            )
        )
        desk = f"{options.url}/v1/chat/completions"
        settings = load_settings(options.settings)
        ingress = partial(replica_cpu_s, options.state, f"{settings.app_name}:ingress")
        bodies = itertools.cycle([body(question) for question in QUESTIONS])
        exact = Server("desk, exact", desk, {}, bodies, ingress)
        answer = await warm(session, exact, QUESTIONS, 2)
        with ExitStack() as peers:
            recording = Recording("application/json", (answer.decode(),))
            path = peers.enter_context(noop_app.running_noop(options.state, recording, settings.http.replicas))
            noop_cpu_s = partial(replica_cpu_s, options.state, noop_app.REPLICA)
            noop = Server("no-op", f"{options.url}{path}/", {}, itertools.cycle([body(QUESTIONS[0])]), noop_cpu_s)
            await warm(session, noop, QUESTIONS[:1], 1)
            semantic = Server("desk, semantic", desk, {}, map(body, reworded(QUESTIONS)), ingress)
            servers = [exact, noop, semantic]
            for workers in () if options.no_litellm else (1, 2):
                proxy = peers.enter_context(running_proxy(options.url, options.litellm_port + workers, workers))
                bodies = itertools.cycle([body(question) for question in QUESTIONS])
                servers.append(
                    Server(f"LiteLLM, {workers} worker{'s'[: workers - 1]}", proxy.url, proxy.headers, bodies)
                )
                await warm(session, servers[-1], QUESTIONS, 4)
            return await measure_all(session, servers, options)


# --- what is printed ---

RATIOS = {
    "exact_to_litellm_2": ("desk, exact", "LiteLLM, 2 workers"),
    "exact_to_litellm_1": ("desk, exact", "LiteLLM, 1 worker"),
    "exact_to_noop": ("desk, exact", "no-op"),
    "semantic_to_litellm_2": ("desk, semantic", "LiteLLM, 2 workers"),
    "semantic_to_litellm_1": ("desk, semantic", "LiteLLM, 1 worker"),
}


def ratios(windows: Mapping[str, Sequence[Window]]) -> dict[str, list[float]]:
    """One number a round, of the pairs of servers that were both measured."""
    return {
        name: [
            above.summary.answers_per_s / below.summary.answers_per_s
            for above, below in zip(windows[first], windows[second], strict=True)
            if below.summary.answers_per_s
        ]
        for name, (first, second) in RATIOS.items()
        if first in windows and second in windows
    }


def print_table(windows: Mapping[str, Sequence[Window]]) -> None:
    heads = (
        f"{'server':<20}{'answers/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'errors':>8}{'client CPU':>12}{'replica CPU':>13}"
    )
    print(f"{heads}  paths")
    for name, rounds in windows.items():
        latencies = [each.summary.latency_ms for each in rounds if each.summary.latency_ms is not None]
        p50 = statistics.median(each.p50 for each in latencies) if latencies else float("nan")
        p99 = statistics.median(each.p99 for each in latencies) if latencies else float("nan")
        rate = statistics.median(each.summary.answers_per_s for each in rounds)
        errors = sum(sum(each.summary.errors.values()) for each in rounds)
        cpu = statistics.median(each.client.cpu_share for each in rounds)
        known = [each.replica_cpu_ms for each in rounds if each.replica_cpu_ms is not None]
        replica = f"{statistics.median(known):.2f} ms" if known else "-"
        paths = ", ".join(f"{path} {share:.1%}" for path, share in _path_share(rounds).items())
        print(f"{name:<20}{rate:>11,.1f}{p50:>9.2f}{p99:>9.2f}{errors:>8}{cpu:>11.0%} {replica:>13}   {paths}")


def _path_share(rounds: Sequence[Window]) -> dict[str, float]:
    counts: Counter[str] = Counter()
    for each in rounds:
        counts.update({path: share * each.summary.answers for path, share in each.summary.path_share.items()})
    return {path: count / counts.total() for path, count in counts.most_common()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m perf.cache_speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", type=loopback_url, default="http://127.0.0.1:8000", help="the desk (%(default)s)")
    parser.add_argument("--state", type=Path, default=ROOT / ".raydesk", help="state folder of that desk")
    parser.add_argument("--settings", type=Path, default=ROOT / "cluster" / "local.yaml", help="of that desk")
    parser.add_argument("--concurrency", type=int, default=32, help="connections (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each window (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of all servers, in turns (%(default)s)")
    parser.add_argument(
        "--litellm-port", type=int, default=8390, help="its two proxies take the next two (%(default)s)"
    )
    parser.add_argument("--no-litellm", action="store_true", help="only the desk and the no-op application")
    options = parser.parse_args()
    if not 1 <= options.concurrency <= MAX_CONCURRENCY or not 0 < options.seconds <= MAX_SECONDS or options.rounds < 1:
        parser.error(f"--concurrency is 1 to {MAX_CONCURRENCY}, --seconds up to {MAX_SECONDS:g}, --rounds at least 1")
    return options


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the peers end with this program
    origin = provenance()
    try:
        version = None if options.no_litellm else installed()
        windows = uvloop.run(run(options))
    except (LoadError, PeerError, SettingsError, RuntimeError) as error:
        sys.exit(str(error))
    print_table(windows)
    by_round = {name: values for name, values in ratios(windows).items() if values}
    for name, values in by_round.items():
        print(f"{name}: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
    result = {
        "benchmark": "cache_speed",
        **origin,
        "litellm": version,
        "concurrency": options.concurrency,
        "seconds": options.seconds,
        "rounds": options.rounds,
        **{name: statistics.median(values) for name, values in by_round.items()},
        "servers": {name: [asdict(each) for each in rounds] for name, rounds in windows.items()},
    }
    print(json.dumps(result, ensure_ascii=False))


if __name__ == "__main__":
    main()
