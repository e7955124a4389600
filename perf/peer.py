"""The least that a server can do: answers every POST with the same bytes. `perf.load --peer` starts and ends it.

Plain uvicorn and Starlette, one process, no desk. Gets what to answer as one line of JSON on stdin, prints its port on
loopback, and ends when stdin does, so that it never outlives whoever started it.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Recording:
    """One answer of the desk. A document is one part, a stream has a part for every event."""

    content_type: str
    parts: tuple[str, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Recording:
        content = json.loads(text)
        return cls(content["content_type"], tuple(content["parts"]))


def build_app(recording: Recording) -> Starlette:
    headers = {"content-type": recording.content_type}
    parts = [part.encode() for part in recording.parts]

    async def stream() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(parts[0], headers=headers) if len(parts) == 1 else StreamingResponse(stream(), headers=headers)

    return Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])


def main() -> None:
    app = build_app(Recording.parse(sys.stdin.readline()))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
    threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    with socket.create_server((_LOOPBACK, 0), backlog=2048) as listener:
        print(listener.getsockname()[1], flush=True)  # it listens: who connects now only waits
        server.run(sockets=[listener])


def _end_with_stdin(server: uvicorn.Server) -> None:
    sys.stdin.read()
    server.should_exit = True


if __name__ == "__main__":
    main()
