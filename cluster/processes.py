"""Finding and ending processes by what the kernel says about them. Knows nothing of Ray or Valkey.

A pid alone may have been given to another process since; together with its start time it is an identity.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_POLL_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one of the same pid."""

    pid: int
    start_ticks: int  # clock ticks since boot, field 22 of /proc/PID/stat

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """None when there is no such process (or only its zombie)."""
        fields = _stat(pid)
        return None if fields is None or fields[0] == "Z" else cls(pid, int(fields[19]))

    @classmethod
    def own(cls) -> ProcessId:
        own = cls.of(os.getpid())
        assert own is not None
        return own

    def is_alive(self) -> bool:
        return ProcessId.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        if not self.is_alive():
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:  # it ended between the two lines; that is what was wanted
            return


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the third on: the second is a name in brackets that may hold anything."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def marked_with(name: str, value: str) -> list[ProcessId]:
    """This user's processes that were started with the environment variable `name` set to `value`."""
    wanted = f"{name}={value}".encode()
    found = []
    for folder in _PROC.iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # ended, or another user's
            continue
        process = ProcessId.of(int(folder.name)) if wanted in environment else None
        if process is not None:
            found.append(process)
    return found


def descendants(pid: int) -> list[ProcessId]:
    """All processes below `pid`. A program that writes a title over its environment has lost its mark: see here."""
    of_parent = _by_parent()
    below: list[int] = []
    waiting = [pid]
    while waiting:
        found = of_parent.get(waiting.pop(), [])
        below += found
        waiting += found
    return _alive(below)


def children(pid: int) -> list[ProcessId]:
    """The processes whose parent `pid` is."""
    return _alive(_by_parent().get(pid, []))


def _by_parent() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        fields = _stat(int(folder.name)) if folder.name.isdigit() else None
        if fields is not None:
            found.setdefault(int(fields[1]), []).append(int(folder.name))
    return found


def _alive(pids: Iterable[int]) -> list[ProcessId]:
    return [process for process in map(ProcessId.of, pids) if process is not None]


def end(processes: Iterable[ProcessId], grace_s: float) -> None:
    """Asks them to end, and after `grace_s` makes those that have not."""
    waiting = list(processes)
    for process in waiting:
        process.signal(signal.SIGTERM)
    for process in wait_until_ended(waiting, grace_s):
        process.signal(signal.SIGKILL)
    wait_until_ended(waiting, 2.0)


def wait_until_ended(processes: Iterable[ProcessId], timeout_s: float) -> list[ProcessId]:
    """Those that are still alive after the wait."""
    waiting = list(processes)
    deadline = time.monotonic() + timeout_s
    while waiting := [process for process in waiting if process.is_alive()]:
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_INTERVAL_S)
    return waiting
