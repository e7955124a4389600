"""The keeper of a node's Ray, over processes that only have the names of Ray's. With the real ones: tests/e2e."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.processes import ProcessId, marked_with

pytestmark = pytest.mark.integration

MARK = "RAYDESK_TEST_KEEPER"
ROOT = Path(__file__).parents[2]
LIMIT_S = 30.0
DAEMONS = ("gcs_server", "dashboard.py", "raylet")
STORE = "--redis_address=127.0.0.1"
# Starts what `ray start` starts, and leaves it once it is there. All of them are shells.
RAY = """#!/bin/sh
for name in gcs_server dashboard.py raylet; do
    "$BIN/$name" -c 'echo starts; sleep 1000 & wait' "$STORE" >>"$BIN/$name.log" 2>&1 &
    until grep -qs starts "$BIN/$name.log"; do sleep 0.01; done
done
"""


class Keeper:
    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.mark = folder, f"{folder.name}-{os.getpid()}"
        (folder / "ray").write_text(RAY)
        (folder / "ray").chmod(0o755)
        for name in DAEMONS:
            shutil.copy("/bin/sh", folder / name)
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "BIN": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cluster.ray_node", "--head"],
            cwd=ROOT,
            env=os.environ | environment | {MARK: self.mark, "STORE": store},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert "watched: dashboard.py, gcs_server, raylet" in self.process.stdout.readline()
        self.wait_for(lambda: all(self.starts(name) for name in DAEMONS))

    def all(self) -> list[ProcessId]:
        return marked_with(MARK, self.mark)

    def of(self, name: str) -> ProcessId | None:
        found = [process for process in self.all() if any(part.endswith(f"/{name}") for part in command(process))]
        return found[0] if found else None

    def kill(self, name: str) -> None:
        found = self.of(name)
        assert found is not None
        found.signal(signal.SIGKILL)

    def said(self) -> str:
        """Once it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def starts(self, name: str) -> int:
        file = self.folder / f"{name}.log"
        return file.read_text().count("starts") if file.exists() else 0

    def wait_for(self, is_true: Callable[[], bool]) -> None:
        until_s = time.monotonic() + LIMIT_S
        while not is_true():
            assert time.monotonic() < until_s, [command(process) for process in self.all()]
            time.sleep(0.05)


def command(process: ProcessId) -> list[str]:
    try:
        return [part for part in Path(f"/proc/{process.pid}/cmdline").read_text().split("\0") if part]
    except (FileNotFoundError, ProcessLookupError):
        return []


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str], Keeper]]:
    keepers: list[Keeper] = []

    def start(store: str = STORE) -> Keeper:
        keepers.append(Keeper(tmp_path, store))
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.process.kill()
        for process in keeper.all():
            process.signal(signal.SIGKILL)
        keeper.process.wait()


@pytest.mark.parametrize("name", ["gcs_server", "dashboard.py"])
def test_what_dies_is_started_again_as_it_was_and_nothing_else_is(started: Callable[..., Keeper], name: str) -> None:
    keeper = started()
    others = {other: keeper.of(other) for other in DAEMONS if other != name}
    before = command_of(keeper, name)
    keeper.kill(name)
    keeper.wait_for(lambda: keeper.starts(name) == 2)
    assert command_of(keeper, name) == before
    assert {other: keeper.of(other) for other in others} == others
    assert keeper.process.poll() is None


@pytest.mark.parametrize(("name", "store"), [("raylet", STORE), ("gcs_server", "--nothing")])
def test_what_cannot_come_back_alone_takes_all_with_it(started: Callable[..., Keeper], name: str, store: str) -> None:
    keeper = started(store)
    keeper.kill(name)
    assert keeper.process.wait(LIMIT_S) == 1
    assert f"{name} has ended (status -9); all the others are ended" in keeper.said()
    assert keeper.all() == []


def test_what_dies_again_at_once_takes_all_with_it(started: Callable[..., Keeper]) -> None:
    keeper = started()
    keeper.kill("gcs_server")
    keeper.wait_for(lambda: keeper.starts("gcs_server") == 2)
    keeper.kill("gcs_server")
    assert keeper.process.wait(LIMIT_S) == 1
    assert keeper.all() == []


def test_ended_it_ends_all(started: Callable[..., Keeper]) -> None:
    keeper = started()
    keeper.process.terminate()
    assert keeper.process.wait(LIMIT_S) == 0
    assert keeper.all() == []


def command_of(keeper: Keeper, name: str) -> list[str]:
    found = keeper.of(name)
    assert found is not None
    return command(found)
