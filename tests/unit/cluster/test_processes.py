from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cluster.processes import ProcessId, descendants, end, marked_with, wait_until_ended

pytestmark = pytest.mark.unit
NAME = "RAYDESK_TEST_MARK"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    value = f"{os.getpid()}-{time.monotonic_ns()}"
    process = subprocess.Popen(["sleep", "60"], env=os.environ | {NAME: value})
    process.mark = value  # type: ignore[attr-defined]
    yield process
    process.kill()
    process.wait()


def test_a_process_is_known_by_its_start_time_too(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessId.of(sleeper.pid)
    assert identity is not None
    assert identity.is_alive()
    assert not replace(identity, start_ticks=identity.start_ticks - 1).is_alive()  # an earlier one of this pid


def test_a_zombie_counts_as_ended(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessId.of(sleeper.pid)
    assert identity is not None
    sleeper.kill()
    assert wait_until_ended([identity], 5.0) == []
    assert ProcessId.of(sleeper.pid) is None


def test_marked_processes_are_found_and_others_are_not(sleeper: subprocess.Popen[bytes]) -> None:
    assert [process.pid for process in marked_with(NAME, sleeper.mark)] == [sleeper.pid]  # type: ignore[attr-defined]
    assert marked_with(NAME, "another") == []


def test_end_asks_first(sleeper: subprocess.Popen[bytes]) -> None:
    identity = ProcessId.of(sleeper.pid)
    assert identity is not None
    end([identity], grace_s=5.0)
    assert sleeper.wait() == -15


def test_end_makes_those_that_do_not_listen() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        identity = ProcessId.of(process.pid)
        assert identity is not None
        end([identity], grace_s=0.2)
        assert process.wait() == -9


def test_descendants_are_found_at_any_depth() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        found = [below for below in descendants(os.getpid()) if below.pid in (process.pid, grandchild)]
        assert {below.pid for below in found} == {process.pid, grandchild}
        assert {below.pid for below in descendants(process.pid)} == {grandchild}
        end(found, grace_s=5.0)
