"""The least that a server can do, in a process of its own: plain uvicorn, no desk. What peers are made of.

A module that serves gets what to serve as one line on stdin, prints its port on loopback, and ends when stdin does, so
that it never outlives whoever started it.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from perf.provenance import ROOT

_LOOPBACK = "127.0.0.1"
_TIMEOUT_S = 15.0


class BareServerError(RuntimeError):
    """It did not come up."""


@contextmanager
def running(module: str, what: str) -> Iterator[str]:
    """The address of the module's server, which is ended with the block. what: one line. Raises `BareServerError`."""
    with subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is ours to handle
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(what + "\n")
            process.stdin.flush()
            is_up, _, _ = select.select([process.stdout], [], [], _TIMEOUT_S)
            port = process.stdout.readline().strip() if is_up else ""
            if not port.isdecimal():
                raise BareServerError(f"The peer was not up within {_TIMEOUT_S:.0f} s.")
            yield f"http://{_LOOPBACK}:{port}"
        finally:
            process.stdin.close()  # its sign to end
            try:
                process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def serve(app_of: Callable[[str], Starlette]) -> None:
    """In the module's process. app_of: makes the application of the line on stdin."""
    app = app_of(sys.stdin.readline())
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    with socket.create_server((_LOOPBACK, 0), backlog=2048) as listener:
        print(listener.getsockname()[1], flush=True)  # it listens: who connects now only waits
        server.run(sockets=[listener])


def _end_with_stdin(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True
