"""CPU time of a desk's replicas, as the kernel counts it: what a clock on the wall of a busy machine cannot tell."""

from __future__ import annotations

import os
from pathlib import Path

from cluster.instance import Instance
from cluster.processes import descendants

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def replica_cpu_s(state: Path, replica: str) -> float:
    """Of all replicas of `replica` ("application:deployment") of the desk with this state folder, since they began."""
    desk = Instance(state).read()
    if desk is None:
        raise RuntimeError(f"No desk is running in {state}.")
    title = f"ray::ServeReplica:{replica}"
    return sum(cpu_s(process.pid) for process in descendants(desk.launcher.pid) if _title(process.pid) == title)


def cpu_s(pid: int) -> float:
    """Of one process, its threads included; 0 where it has ended."""
    # Behind the name in brackets, which may hold anything, are fields 3 and on; user and system time are 14 and 15.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def _title(pid: int) -> str:
    """As Ray sets it."""
    return _read(pid, "cmdline").rstrip("\0 ")


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
