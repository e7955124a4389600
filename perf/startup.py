"""How long from the command to answers: `python -m perf.startup`.

Runs `make serve DETACH=1` and asks beside it, until it has a curated answer and one that a language model wrote; then
`make stop`. Warm in this checkout, or with `--cold` in a fresh clone of its last commit, where nothing is installed
yet and which is deleted afterwards. pip's cache is used as it is found; PIP_NO_CACHE_DIR=1 goes without. Prints a
table; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perf.json_object import json_object
from perf.provenance import ROOT, provenance

QUESTION = "How long do I have to return an item?"
MODEL_ID = "raydesk-small"
WARM_LIMIT_S = 300.0
COLD_LIMIT_S = 1800.0  # downloads and installs some gigabytes
MAX_RUNS = 10

_LOOPBACK = "127.0.0.1"
_FAQ_INTERVAL_S = 0.1  # nothing listens at first, so a look costs nearly nothing
_TIER_INTERVAL_S = 0.25  # the ingress answers this one while the model needs the CPU
_LOOK_TIMEOUT_S = 10.0
_GENERATION_TIMEOUT_S = 60.0
_OUTPUT_TOKENS = 32  # enough to be an answer; the rest would measure the model and not the start
_INTERRUPT_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 120.0
# The curated answer itself, or the same from a cache that an earlier run has filled.
_CURATED_PATHS = frozenset({"faq", "exact_cache", "semantic_cache"})
# Of whoever started us, and not of a user's plain terminal: make inside make, another virtual environment.
_FOREIGN_VARIABLES = frozenset(
    {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "DEV", "DETACH", "SETTINGS"}
)


class StartupError(RuntimeError):
    """It cannot be measured here, or the start failed; the message says why."""


class StillRunningError(StartupError):
    """`make stop` failed: the folder is needed to end what runs."""


# --- one look at a starting desk ---


@dataclass(frozen=True, slots=True)
class Look:
    """What one question came back with. `seen` is the path of an answer, or what there was in its place."""

    is_answer: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Tier:
    name: str
    state: str


Exchange = tuple[int, bytes]  # status, body


def ask(port: int, method: str, path: str, content: Any = None, timeout_s: float = _LOOK_TIMEOUT_S) -> Exchange | None:
    """None while nothing answers there."""
    connection = http.client.HTTPConnection(_LOOPBACK, port, timeout=timeout_s)
    try:
        body = None if content is None else json.dumps(content)
        connection.request(method, path, body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def judge_curated(exchange: Exchange | None) -> Look:
    """Whether `POST /v1/chat` gave a curated answer."""
    if exchange is None:
        return Look(False, "nothing answers")
    content = json_object(exchange[1])
    path = content.get("path")
    if exchange[0] != 200 or not isinstance(path, str):
        return Look(False, _refusal(exchange[0], content))
    return Look(path in _CURATED_PATHS and bool(content.get("text")), path)


def judge_generated(exchange: Exchange | None, tier: str) -> Look:
    """Whether `POST /v1/chat/completions` gave an answer that the tier wrote: without it there is a quoted passage."""
    if exchange is None:
        return Look(False, "nothing answers")
    content = json_object(exchange[1])
    try:
        message = content["choices"][0]["message"]
        path, text = message["raydesk"]["path"], message["content"]
    except (KeyError, IndexError, TypeError):
        return Look(False, _refusal(exchange[0], content))
    return Look(path == tier and bool(text), str(path))


def find_tier(exchange: Exchange | None, model_id: str) -> Tier | None:
    """The tier of that model, from `GET /readyz`; None while nobody knows of it."""
    content = {} if exchange is None else json_object(exchange[1])
    for tier in content.get("tiers") or []:
        if tier.get("model_id") == model_id:
            return Tier(str(tier["name"]), str(tier["state"]))
    return None


def _refusal(status: int, content: Mapping[str, Any]) -> str:
    error = content.get("error")
    return f"{status} {error.get('code')}" if isinstance(error, dict) else f"{status}"


def look_for_curated(port: int) -> Look:
    question = {"messages": [{"role": "user", "content": QUESTION}], "stream": False}
    return judge_curated(ask(port, "POST", "/v1/chat", question))


def look_for_generated(port: int) -> Look:
    """Asks the model only once its tier is ready: earlier questions would slow down what they wait for."""
    tier = find_tier(ask(port, "GET", "/readyz"), MODEL_ID)
    if tier is None or tier.state != "ready":
        return Look(False, f"no tier with {MODEL_ID}" if tier is None else f"tier {tier.name} {tier.state}")
    messages = [{"role": "user", "content": QUESTION}]
    question = {"model": MODEL_ID, "messages": messages, "max_tokens": _OUTPUT_TOKENS}
    return judge_generated(ask(port, "POST", "/v1/chat/completions", question, _GENERATION_TIMEOUT_S), tier.name)


# --- looking until it is there ---


@dataclass(frozen=True, slots=True)
class Found:
    at_s: float | None  # since the command; None: never came
    seen: str  # the last look


def look_until(
    look: Callable[[], Look], interval_s: float, stop: threading.Event, elapsed_s: Callable[[], float]
) -> Found:
    while True:
        last = look()
        if last.is_answer:
            return Found(elapsed_s(), last.seen)
        if stop.wait(interval_s):
            return Found(None, last.seen)


@dataclass(frozen=True, slots=True)
class StartUp:
    """One start. Seconds since the command; None: did not come within the limit."""

    command_s: float | None
    command_status: int | None
    curated_s: float | None
    curated_seen: str  # its path, or what was there in its place
    generated_s: float | None
    generated_seen: str

    @property
    def is_complete(self) -> bool:
        return self.command_status == 0 and None not in (self.curated_s, self.generated_s)


def measure(checkout: Path, port: int, limit_s: float) -> StartUp:
    """Starts a desk, watches it come, and stops it again, whatever happens in between."""
    stop = threading.Event()
    began_s = time.monotonic()

    def elapsed_s() -> float:
        return time.monotonic() - began_s

    command = subprocess.Popen(
        serve_command(port),
        cwd=checkout,
        env=plain_environment(os.environ),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is ours to handle
    )
    timer = threading.Timer(limit_s, stop.set)
    timer.start()
    try:
        with ThreadPoolExecutor(2) as looking:
            try:
                curated = looking.submit(look_until, lambda: look_for_curated(port), _FAQ_INTERVAL_S, stop, elapsed_s)
                generated = looking.submit(
                    look_until, lambda: look_for_generated(port), _TIER_INTERVAL_S, stop, elapsed_s
                )
                status = _wait(command, limit_s)
                command_s = None if status is None else elapsed_s()
                if status:  # it has said why, and has cleared up after itself
                    stop.set()
                first, written = curated.result(), generated.result()
            finally:
                stop.set()  # or the threads of the pool would be waited for
    finally:
        timer.cancel()
        _end(command, checkout)
    return StartUp(command_s, status, first.at_s, first.seen, written.at_s, written.seen)


def serve_command(port: int) -> list[str]:
    return ["make", "--no-print-directory", "serve", "DETACH=1", f"PORT={port}"]


def plain_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in _FOREIGN_VARIABLES}


def _wait(command: subprocess.Popen[bytes], limit_s: float) -> int | None:
    try:
        return command.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None


def _end(command: subprocess.Popen[bytes], checkout: Path) -> None:
    """Stops the desk. Not after a command that failed: what runs in the folder then is somebody else's."""
    if command.poll() is None:
        os.killpg(command.pid, signal.SIGINT)  # its Ctrl-C, which also ends what it has begun in the background
        if _wait(command, _INTERRUPT_TIMEOUT_S) is None:
            os.killpg(command.pid, signal.SIGKILL)
            command.wait()
    elif command.returncode != 0:
        return
    try:
        subprocess.run(
            ["make", "--no-print-directory", "stop"],
            cwd=checkout,
            env=plain_environment(os.environ),
            timeout=_STOP_TIMEOUT_S,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise StillRunningError(f"'make stop' failed. By hand: cd {checkout} && make stop") from error


# --- where ---


def choose_port(wished: int | None) -> int:
    """Raises `StartupError` for a port that somebody listens on: it would be taken for our desk."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, wished or 0))
            probe.listen(1)
        except OSError as error:
            raise StartupError(f"Port {wished} is taken: give another --port, or none.") from error
        return int(probe.getsockname()[1])


def refuse_if_running(checkout: Path) -> None:
    """A second start in one folder fails, and `make stop` would end the first."""
    raydesk = checkout / ".venv" / "bin" / "raydesk"
    if not raydesk.is_file():
        return  # nothing is installed here, so nothing runs
    status = subprocess.run(
        [raydesk, "status"], cwd=checkout, capture_output=True, timeout=_STOP_TIMEOUT_S, check=False
    )
    if status.returncode == 0:
        raise StartupError(f"A desk runs in {checkout} already: 'make stop' ends it. Or measure with --cold.")


@contextmanager
def fresh_clone(source: Path) -> Iterator[Path]:
    """The last commit of `source` in a new folder, with nothing installed; deleted with the block."""
    folder = Path(tempfile.mkdtemp(prefix="raydesk-cold-"))
    checkout = folder / "raydesk"
    is_needed = False
    try:
        subprocess.run(["git", "clone", "--quiet", "--local", str(source), str(checkout)], check=True)
        yield checkout
    except StillRunningError:
        is_needed = True
        raise
    finally:
        if not is_needed:
            _remove_socket_folder(checkout)
            shutil.rmtree(folder, ignore_errors=True)


def _remove_socket_folder(checkout: Path) -> None:
    """Ray and Valkey keep theirs in /tmp, under a name that follows from the checkout's path."""
    python = checkout / ".venv" / "bin" / "python"
    if not python.is_file():
        return
    code = "from pathlib import Path; from cluster.instance import Instance; print(Instance(Path('.raydesk')).tmp)"
    asked = subprocess.run(
        [python, "-c", code], cwd=checkout, capture_output=True, text=True, timeout=_LOOK_TIMEOUT_S, check=False
    )
    folder = Path(asked.stdout.strip())
    if asked.returncode == 0 and folder.name.startswith("raydesk-"):
        shutil.rmtree(folder, ignore_errors=True)


# --- what is printed ---

_PHASES = (
    ("command returns", "command_s"),
    ("first curated answer", "curated_s"),
    ("first generated answer", "generated_s"),
)


def medians(runs: Sequence[StartUp]) -> dict[str, float | None]:
    """Of the runs that got so far."""
    found = {}
    for _, name in _PHASES:
        seconds = [value for run in runs if (value := getattr(run, name)) is not None]
        found[name] = statistics.median(seconds) if seconds else None
    return found


def table(runs: Sequence[StartUp]) -> list[str]:
    """Phases down, runs across, seconds."""
    lines = [f"{'seconds to':<24}" + "".join(f"{f'run {n}':>9}" for n in range(1, len(runs) + 1)) + f"{'median':>9}"]
    middle = medians(runs)
    for title, name in _PHASES:
        values = [getattr(run, name) for run in runs] + [middle[name]]
        lines.append(f"{title:<24}" + "".join(f"{'-' if value is None else f'{value:.1f}':>9}" for value in values))
    return lines


def shortcomings(run: StartUp) -> list[str]:
    """What did not come, and what was there in its place."""
    lines = []
    if run.command_status != 0:
        how = "did not return in time" if run.command_status is None else f"ended with status {run.command_status}"
        lines.append(f"The command {how}.")
    if run.curated_s is None:
        lines.append(f"There was no curated answer; the last look: {run.curated_seen}.")
    if run.generated_s is None:
        lines.append(f"There was no generated answer; the last look: {run.generated_seen}.")
    return lines


# --- from the command line ---


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m perf.startup", description=__doc__)
    parser.add_argument("--port", type=int, help="HTTP port of the desk (default: a free one)")
    parser.add_argument("--runs", type=int, default=1, help=f"starts, at most {MAX_RUNS} (default: 1)")
    parser.add_argument("--cold", action="store_true", help="in a fresh clone, installation included")
    parser.add_argument(
        "--limit",
        type=float,
        metavar="SECONDS",
        help=f"for one start (default: {WARM_LIMIT_S:.0f}, cold {COLD_LIMIT_S:.0f})",
    )
    parsed = parser.parse_args(arguments)
    if not 1 <= parsed.runs <= MAX_RUNS:
        parser.error(f"--runs must be from 1 to {MAX_RUNS}")
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        parser.error("--port must be from 1 to 65535")
    if parsed.limit is None:
        parsed.limit = COLD_LIMIT_S if parsed.cold else WARM_LIMIT_S
    if not 1 <= parsed.limit <= 2 * COLD_LIMIT_S:
        parser.error(f"--limit must be from 1 to {2 * COLD_LIMIT_S:.0f}")
    return parsed


def one_run(chosen: argparse.Namespace) -> StartUp:
    port = choose_port(chosen.port)
    if chosen.cold:
        with fresh_clone(ROOT) as checkout:
            return measure(checkout, port, chosen.limit)
    refuse_if_running(ROOT)
    return measure(ROOT, port, chosen.limit)


def run(chosen: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Measures and prints the table; the result, and whether everything came."""
    result = {
        "benchmark": "startup",
        **provenance(),
        "kind": "cold" if chosen.cold else "warm",
        "was_installed": not chosen.cold and (ROOT / ".venv" / "bin" / "raydesk").is_file(),
        "uses_pip_cache": "PIP_NO_CACHE_DIR" not in os.environ,
        "limit_s": chosen.limit,
    }
    if chosen.cold and str(result["commit"]).endswith("-dirty"):
        print("What is not committed is not in the clone, and is not measured.")
    runs: list[StartUp] = []
    while len(runs) < chosen.runs and all(run.is_complete for run in runs):
        runs.append(one_run(chosen))
    print("\n" + "\n".join(table(runs)))
    print("\n".join(shortcomings(runs[-1])))
    return result | {"runs": [asdict(run) for run in runs], "median": medians(runs)}, runs[-1].is_complete


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception: what was started is stopped on the way
    try:
        result, is_complete = run(options())
    except StartupError as error:
        sys.exit(str(error))
    print(json.dumps(result))
    sys.exit(0 if is_complete else 1)


if __name__ == "__main__":
    main()
