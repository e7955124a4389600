"""What works on a launcher from outside: starting one in the background, ending it, asking it, joining its Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from cluster import processes
from cluster.environment import ray_client_environment
from cluster.instance import Instance, InstanceError, InstanceState
from cluster.readiness import ask

_STOP_TIMEOUT_S = 45.0
_SWEEP_GRACE_S = 3.0
_POLL_INTERVAL_S = 0.1


def serve_detached(state: Path, arguments: list[str]) -> int:
    """Shows what the launcher says until it is ready, or has failed."""
    instance = Instance(state)
    try:
        instance.create_folders()
    except (InstanceError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    output = instance.logs / "launcher.out"
    with output.open("w") as sink:
        launcher = subprocess.Popen(
            [sys.executable, "-m", "cluster.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with output.open() as lines:
            return _follow(launcher, instance, lines)
    except KeyboardInterrupt:
        launcher.send_signal(signal.SIGTERM)
        launcher.wait()
        return 130


def _follow(launcher: subprocess.Popen[bytes], instance: Instance, lines: TextIO) -> int:
    while True:
        status = launcher.poll()
        state = instance.read()
        is_ready = state is not None and state.ready and state.launcher.pid == launcher.pid
        if is_ready:
            time.sleep(_POLL_INTERVAL_S)  # for the lines that it writes now
        print(lines.read(), end="", flush=True)
        if status is not None:
            return status or 1
        if is_ready:
            print("It runs in the background. 'make stop' (raydesk stop) ends it.")
            return 0
        time.sleep(_POLL_INTERVAL_S)


def stop_running(state: Path) -> int:
    instance = Instance(state)
    running = instance.read()
    if running is not None:
        running.launcher.signal(signal.SIGTERM)
        if processes.wait_until_ended([running.launcher], _STOP_TIMEOUT_S):
            running.launcher.signal(signal.SIGKILL)
    leftovers = instance.processes()
    processes.end(leftovers, _SWEEP_GRACE_S)
    if running is None and not leftovers:
        print("Raydesk is not running in this folder.")
    else:
        print("Raydesk is stopped.")
    return 0


def print_status(state: Path) -> int:
    running = Instance(state).read()
    if running is None:
        print("Raydesk is not running in this folder.")
        return 1
    print(f"{running.url}  (process {running.launcher.pid}, Ray at {running.ray_address or '-'})")
    _print_readiness(running)
    return 0


def _print_readiness(running: InstanceState) -> None:
    address = urlsplit(running.url)
    assert address.hostname is not None
    assert address.port is not None
    readiness = ask(address.hostname, address.port)
    if readiness is None:
        print("  it does not answer yet")
        return
    for kind, states in (("room", readiness.rooms), ("tier", readiness.tiers)):
        for name, its_state in states.items():
            print(f"  {kind} {name}: {its_state}")


def join_running(state: Path) -> InstanceState | None:
    """Lets this process use the Ray and the settings of the running launcher, if there is one.

    A second Ray would take a second one's memory, and other settings would publish where nobody looks.
    """
    instance = Instance(state)
    running = instance.read()
    if running is not None and running.ray_address is not None and "RAY_ADDRESS" not in os.environ:
        os.environ.update(ray_client_environment(instance, running.ray_address))
        os.environ.setdefault("RAYDESK_SETTINGS", running.settings_file)
    return running
