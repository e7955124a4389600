"""What must be true of the machine before a start; each failure says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster import ports

# The embedded profile at work, measured (PSS, shared files included): the model's processes 3.4 GB with a cache of
# 1 GB, the ingress with the encoder 1.5 GB, Ray and the launcher 1.7 GB, the turn log 0.4 GB.
MIN_MEMORY_BYTES = 6 * 10**9
# Models, knowledge, the turn log and Ray's logs grow here.
MIN_DISK_BYTES = 2 * 10**9

MEMINFO = Path("/proc/meminfo")


class StartError(RuntimeError):
    """Raydesk cannot start; the message says what to do."""


def check_machine(
    state: Path, tmp: Path, host: str, port: int, available_memory: Callable[[], int | None] | None = None
) -> None:
    """Raises `StartError` with everything that is wrong, not only the first thing."""
    memory = (available_memory or read_available_memory)()
    problems = [*_port_problems(host, port), *_memory_problems(memory), *_disk_problems(state, tmp)]
    if problems:
        raise StartError("\n\n".join(problems))


def _port_problems(host: str, port: int) -> Iterator[str]:
    if ports.is_free(port, host):
        return
    other = next((candidate for candidate in range(port + 1, port + 50) if ports.is_free(candidate, host)), port + 100)
    yield (
        f"Port {port} of {host} is taken by another program.\n"
        f"  - See which one: ss -ltnp 'sport = :{port}'\n"
        f"  - If it is a Raydesk that was started in another folder, run 'make stop' there.\n"
        f"  - Or choose another port: make serve PORT={other}   (raydesk serve --port {other})"
    )


def _memory_problems(available: int | None) -> Iterator[str]:
    if available is None or available >= MIN_MEMORY_BYTES:
        return
    yield (
        f"{available / 1e9:.1f} GB of memory are available; Raydesk with its small language model needs "
        f"{MIN_MEMORY_BYTES / 1e9:.0f} GB.\n"
        "  - Close other programs ('ps aux --sort=-rss | head' shows the largest), or use a larger machine.\n"
        "  - Without a language model less is needed: take 'tiers' out of the settings file and add --no-memory-check."
    )


def _disk_problems(*folders: Path) -> Iterator[str]:
    for folder in folders:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if free < MIN_DISK_BYTES:
            yield (
                f"{free / 1e9:.1f} GB are free on the disk of {folder}; {MIN_DISK_BYTES / 1e9:.0f} GB are needed.\n"
                "  - Free some space ('df -h' shows the disks), or put the folder on another disk."
            )


def read_available_memory(meminfo: Path = MEMINFO) -> int | None:
    """Bytes that programs can still get without swapping; None where the kernel does not say."""
    for line in meminfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None
