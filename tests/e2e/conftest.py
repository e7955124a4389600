"""The real application, started once for the run as its user starts it: `raydesk serve --sample --detach`.

It has a state folder, ports, knowledge and a turn log of its own, so that a desk which runs beside the tests is not
disturbed; only the models are shared, since they take minutes to build and never change.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cluster.environment import ray_client_environment
from cluster.instance import Instance, InstanceState
from cluster.ports import is_free
from cluster.processes import ProcessId, descendants
from tests.counts import FULL_COUNTS, IS_FULL

ROOT = Path(__file__).parents[2]
RHO_BANK = ROOT.parent / "shared" / "data" / "rho-bank" / "documents.jsonl"
START_TIMEOUT_S = 900  # models may have to be downloaded and built first
TIER_TIMEOUT_S = 900
INGEST_TIMEOUT_S = 1200
SUITE_TIMEOUT_S = 3600 if IS_FULL else 600
HTTP_TIMEOUT_S = 90
COMMAND_TIMEOUT_S = 120  # one that only asks
SLACK_S = 2.0 if IS_FULL else 20.0  # of a busy machine, on top of what is promised; a hang lasts longer
# A busy machine makes a desk degrade, as it should: without its cache or its encoder. What is answered when nothing
# is late is what these tests are about.
PATIENCE = {
    "RAYDESK_CACHE__TIMEOUT_S": "10",
    "RAYDESK_SESSIONS__TIMEOUT_S": "10",
    "RAYDESK_DEADLINES__UNDERSTAND_S": "30",
    "RAYDESK_DEADLINES__SEARCH_S": "30",
    "RAYDESK_HTTP__TARGET_LAG_S": "10",
    "RAYDESK_HTTP__TARGET_WAIT_S": "60",
}


@dataclass(frozen=True, slots=True)
class Desk:
    """A running application, and how to ask it."""

    url: str
    state: Path
    environment: dict[str, str]

    def raydesk(self, *arguments: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cluster.cli", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @property
    def running(self) -> InstanceState:
        state = Instance(self.state).read()
        assert state is not None, "the application has ended"
        return state

    def processes(self, title: str) -> list[ProcessId]:
        """Its processes whose command line holds `title`."""
        found = descendants(self.running.launcher.pid)
        return [process for process in found if title in command_line(process.pid)]

    def passes(self, suite: Path, *, in_callers_loop: bool = False) -> None:
        """Runs a file of tests in a process that joins this desk's Ray, and calls its rooms as the ingress does.

        In a process of its own: Ray reads where and how to join when it is imported. Its handles have a loop of their
        own, as pytest's stands still between tests, and a handle whose loop does so is never told of replicas again.
        in_callers_loop: they have the tests' own, as in the ingress; what may wait at a caller is counted otherwise.
        """
        address = self.running.ray_address
        assert address is not None
        loop_scopes = [f"-oasyncio_default_{what}_loop_scope=session" for what in ("test", "fixture")]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *loop_scopes, str(suite)],
            cwd=ROOT,
            env=self.environment
            | ray_client_environment(Instance(self.state), address)
            | {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", FULL_COUNTS: str(int(IS_FULL))}
            | {"RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": str(int(not in_callers_loop))},
            capture_output=True,
            text=True,
            timeout=SUITE_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-1000:]
        assert "skipped" not in done.stdout

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}{path}", json=body, timeout=HTTP_TIMEOUT_S, **options)

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", timeout=HTTP_TIMEOUT_S)

    def ask(self, question: str, **fields: Any) -> dict[str, Any]:
        """One question, one JSON document."""
        body = {"messages": [{"role": "user", "content": question}], "stream": False} | fields
        response = self.post("/v1/chat", body)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def readiness(self) -> dict[str, Any]:
        document: dict[str, Any] = self.get("/readyz").json()
        return document

    def wait_for_tiers(self) -> None:
        """A few looks in a row: several ingress replicas answer, each with a view of its own."""

        def are_ready() -> bool:
            looks = [self.readiness() for _ in range(6)]
            return all(look["ready"] and {tier["state"] for tier in look["tiers"]} == {"ready"} for look in looks)

        wait_until(are_ready, TIER_TIMEOUT_S, "the tiers")

    def wait_for_tier(self) -> None:
        wait_until(lambda: self.readiness()["tiers"][0]["state"] == "ready", TIER_TIMEOUT_S, "the small tier")


def wait_until(is_true: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.5)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def free_port() -> int:
    """Below the range that the kernel hands out from: nobody is given it before the application takes it."""
    return next(port for port in random.sample(range(10_000, 20_000), 100) if is_free(port))


def start_desk(folder: Path, *arguments: str, **settings: str) -> Desk:
    """settings: by environment variable, e.g. RAYDESK_RETRIEVER__TOP_K='8'."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYDESK_"))}
    environment |= {
        "RAYDESK_STATE": str(folder / "state"),
        "RAYDESK_KNOWLEDGE__ROOT": str(folder / "knowledge"),
        "RAYDESK_TURN_LOG__DSN": f"chdb:///{folder}/turnlog",
        **PATIENCE,
        **settings,
    }
    port = free_port()
    desk = Desk(f"http://127.0.0.1:{port}", folder / "state", environment)
    try:
        started = desk.raydesk("serve", "--port", str(port), "--detach", *arguments, timeout_s=START_TIMEOUT_S)
    except BaseException:  # interrupted, or too late: what was started runs apart from this process
        desk.raydesk("stop", timeout_s=COMMAND_TIMEOUT_S)
        raise
    assert started.returncode == 0, started.stdout[-5000:] + started.stderr[-2000:]
    return desk


def stop_desk(desk: Desk) -> None:
    own = descendants(desk.running.launcher.pid)
    stopped = desk.raydesk("stop", timeout_s=COMMAND_TIMEOUT_S)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    left = [process.pid for process in own if process.is_alive()]
    assert not left, f"'raydesk stop' left processes behind: {left}"


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """With the sample company's knowledge, its rooms ready; the language model may still be starting."""
    running = start_desk(tmp_path_factory.mktemp("desk"), "--sample")
    yield running
    stop_desk(running)


def scripted_tier(name: str, **script: float) -> dict[str, Any]:
    """Two replicas of an engine that quotes the sources, quick to start and to replace."""
    replicas = {"num_cpus": 0.1, "min_replicas": 2, "health_check_period_s": 1, "graceful_shutdown_timeout_s": 2}
    limits = {"accept_timeout_s": 2, "first_token_timeout_s": 2, "inter_token_timeout_s": 2}
    script = {"tokens": 60, "first_token_ms": 100, "tokens_per_s": 40} | script
    return {"name": name, "model_id": f"raydesk-{name}", "script": script, "replicas": replicas} | limits


@contextmanager
def scripted_desk_of(folder: Path, desk: Desk, *tiers: dict[str, Any], **settings: str) -> Iterator[Desk]:
    """Two ingress replicas and these tiers, ready; shares the knowledge of `desk`. settings: as for `start_desk`."""
    running = start_desk(
        folder,
        "--no-memory-check",
        RAYDESK_KNOWLEDGE__ROOT=desk.environment["RAYDESK_KNOWLEDGE__ROOT"],
        RAYDESK_TIERS=json.dumps(tiers),
        RAYDESK_HTTP__REPLICAS__MIN_REPLICAS="2",
        **settings,
    )
    try:
        running.wait_for_tiers()
        yield running
    finally:
        stop_desk(running)


@pytest.fixture(scope="session")
def joined_ray() -> Iterator[None]:
    """For the files that `Desk.passes` runs."""
    import ray

    ray.init(log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def app_url(desk: Desk) -> str:
    return desk.url


@pytest.fixture(scope="session")
def writing_desk(desk: Desk) -> Desk:
    """The same one, once its language model writes."""
    desk.wait_for_tier()
    return desk


@pytest.fixture(scope="session")
def rho_bank(desk: Desk) -> str:
    """The collection with the 698 articles of a bank's real help centre."""
    if not RHO_BANK.is_file():
        pytest.skip(f"the rho-bank knowledge base is not there ({RHO_BANK})")
    done = desk.raydesk("ingest", "apply", "--collection", "rho-bank", str(RHO_BANK), timeout_s=INGEST_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return "rho-bank"
