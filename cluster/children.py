"""Child processes that work for the launcher: their output goes to a log, and they end when it does."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cluster.checks import StartError
from cluster.processes import ProcessId, end

_LAST_LINES = 15
_GRACE_S = 3.0


class Children:
    """All children that are running. Threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[subprocess.Popen[str]] = []
        self._closed = False

    def run(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
        *,
        niceness: int = 0,
        go: threading.Event | None = None,
    ) -> None:
        """Waits for its end, and tells each line it prints. Raises `StartError` with its last lines if it fails.

        go: when it is set, the child is sent an empty line, for which it waits.
        """
        process = self._start(command, environment, niceness)
        if go is not None:
            threading.Thread(target=_send_line, args=(process, go), daemon=True).start()
        lines: list[str] = []
        assert process.stdout is not None
        with log.open("a") as file:
            for line in process.stdout:
                file.write(line)
                file.flush()
                lines = [*lines[1 - _LAST_LINES :], line.rstrip()]
                if line.strip():
                    on_line(line.strip())
        status = process.wait()
        with self._lock:
            self._running.remove(process)
        if status != 0 and not self._closed:
            last = "\n".join(f"    {line}" for line in lines)
            raise StartError(f"This step failed (status {status}): {' '.join(command)}\n{last}\n  The whole log: {log}")

    def _start(self, command: Sequence[str], environment: Mapping[str, str], niceness: int) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise StartError("stopping")
            process = subprocess.Popen(
                ["nice", "-n", str(niceness), *command] if niceness else list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=os.environ | dict(environment),
                start_new_session=True,  # Ctrl-C in the terminal is for the launcher, which stops things in order
            )
            self._running.append(process)
            return process

    def stop(self) -> None:
        with self._lock:
            self._closed = True
            running = [ProcessId.of(process.pid) for process in self._running]
        end([process for process in running if process is not None], _GRACE_S)


def _send_line(process: subprocess.Popen[str], go: threading.Event) -> None:
    go.wait()
    assert process.stdin is not None
    try:
        process.stdin.write("\n")
        process.stdin.close()
    except BrokenPipeError:  # it has ended already; `run` tells why
        return
