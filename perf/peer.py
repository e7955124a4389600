"""The least that a server can do: answers every POST with the same bytes. `perf.load --peer` starts and ends it.

One line of JSON says what to answer (`bare_server.py`).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from perf.bare_server import serve


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


if __name__ == "__main__":
    serve(lambda line: build_app(Recording.parse(line)))
