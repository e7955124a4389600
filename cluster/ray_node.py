"""One node's Ray, and its keeper: `ray start --block`, for which one dead process is not a dead node.

    python -m cluster.ray_node --head --dashboard-host=127.0.0.1 …      # the options of `ray start`

Started again alone, as it was: what only helps (dashboard, log monitor …), and the GCS, the heart of the cluster, where
its state is in a Redis (`RAY_REDIS_ADDRESS`). It finds all there, at its old address, long before the nodes would give
it up; nobody is moved, and no customer notices. Where a raylet ends, or a GCS that kept its state in itself, all is
ended, and so is this.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.processes import children, descendants, end

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND
_LIVES_S = 10.0  # what ends sooner after it was started again will go on doing so
_GRACE_S = 10.0  # of an orderly end; what a dead node leaves is of no use to anybody


@dataclass(frozen=True, slots=True)
class Daemon:
    """How a process was started, while that can still be read."""

    command: tuple[str, ...]
    environment: dict[str, str]
    output: tuple[str, str]  # the files of its standard output and error; or a pipe, whose other end is gone
    started_again_s: float = -math.inf  # monotonic

    @classmethod
    def of(cls, pid: int) -> Daemon | None:
        """None where it has ended."""
        folder = _PROC / str(pid)
        try:
            command = _strings(folder / "cmdline")
            environment = dict(line.split("=", 1) for line in _strings(folder / "environ") if "=" in line)
            output = (os.readlink(folder / "fd" / "1"), os.readlink(folder / "fd" / "2"))
        except (FileNotFoundError, ProcessLookupError):
            return None
        return cls(command, environment, output) if command else None

    @property
    def name(self) -> str:
        """The program, or the script that Python runs."""
        scripts = [part for part in self.command if part.endswith(".py")]
        return Path((scripts or self.command)[0]).name

    @property
    def can_start_alone(self) -> bool:
        if self.name == "gcs_server":
            return any(part.startswith("--redis_address=") for part in self.command)
        return self.name != "raylet"

    def start(self) -> tuple[int, Daemon]:
        """(process id, as it is now)."""
        spawned = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        spawned += [
            (os.POSIX_SPAWN_OPEN, number, file if file[0] == "/" else os.devnull, _APPEND, 0o644)
            for number, file in enumerate(self.output, start=1)
        ]
        # Not subprocess, which would wait for it, too.
        pid = os.posix_spawn(self.command[0], self.command, self.environment, file_actions=spawned)
        return pid, replace(self, started_again_s=time.monotonic())


def _strings(file: Path) -> tuple[str, ...]:
    return tuple(file.read_bytes().decode(errors="surrogateescape").split("\0")[:-1])  # each ends with a NUL


def keep(daemons: dict[int, Daemon]) -> None:
    """Until one of them ends that cannot be started again alone. daemons: by process id, our children."""
    names = sorted(daemon.name for daemon in daemons.values())
    _say(f"watched: {', '.join(names)}")
    while "raylet" in names:  # or it has ended already
        pid, status = os.wait()
        ended = daemons.pop(pid, None)
        if ended is None:  # left to us by somebody who has ended
            continue
        how = f"{ended.name} has ended (status {os.waitstatus_to_exitcode(status)})"
        if not ended.can_start_alone or time.monotonic() - ended.started_again_s < _LIVES_S:
            _say(f"{how}; all the others are ended")
            return
        pid, started = ended.start()
        daemons[pid] = started
        _say(f"{how}; it is started again alone")


def _say(what: str) -> None:
    print(f"{time.strftime('%FT%TZ', time.gmtime())}  {what}", flush=True)


def _take_orphans() -> None:
    """What `ray start` leaves behind becomes our children, whose end the kernel tells us."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def main(options: Sequence[str]) -> int:
    _take_orphans()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    grace_s = _GRACE_S
    try:
        started = subprocess.run(["ray", "start", *options], check=False)
        if started.returncode == 0:
            found = {process.pid: Daemon.of(process.pid) for process in children(os.getpid())}
            keep({pid: daemon for pid, daemon in found.items() if daemon is not None})
        grace_s = 0.0
    finally:
        end(descendants(os.getpid()), grace_s)
    return started.returncode or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
