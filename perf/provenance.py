"""Where a number comes from: what every result says about the code and the machine it was measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def provenance() -> dict[str, Any]:
    """Ask before the measurement: the load is then what others put on the machine, not what we did."""
    return {
        "commit": _commit(),
        "machine": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),  # processes that wanted a CPU, mean of the last minute
    }


def _processor() -> str:
    """Its name, and how wide it computes, which decides what an encoder or a language model takes."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    parts = (line.partition(":") for line in lines)
    fields = {name.strip(): value.strip() for name, _, value in parts}
    flags = set(fields.get("flags", "").split())
    widest = next((name for name in ("amx_tile", "avx512f", "avx2") if name in flags), "")
    return " ".join(filter(None, (fields.get("model name") or platform.machine(), widest)))


def _commit() -> str:
    """Short, with "-dirty" when tracked files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
