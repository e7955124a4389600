"""The least that can stream a script: plain uvicorn, one process, no desk. `perf.stream` starts and ends it.

Answers every POST with chunks of an OpenAI completion, a token each, at the speed at which
`deployments.scripted_engine` makes them, from bytes that were made before. One line of JSON is the script
(`bare_server.py`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from perf.bare_server import serve


@dataclass(frozen=True, slots=True)
class Script:
    tokens: int
    first_ms: float  # before the first token
    interval_ms: float  # between tokens; 0: as fast as possible


def frames(script: Script) -> list[bytes]:
    """Of the size of a desk's: a token each, the usage, the end."""
    head: dict[str, Any] = {"object": "chat.completion.chunk", "id": "chatcmpl-" + "0" * 32, "created": 1, "model": "p"}
    delta = {"index": 0, "delta": {"content": "word "}, "logprobs": None, "finish_reason": None}
    usage = {"completion_tokens": script.tokens, "prompt_tokens": 0}
    documents = [head | {"choices": [delta]}] * script.tokens + [head | {"choices": [], "usage": usage}]
    made = [f"data: {json.dumps(document, separators=(',', ':'))}\n\n".encode() for document in documents]
    return [*made, b"data: [DONE]\n\n"]


def build_app(script: Script) -> Starlette:
    parts = frames(script)

    async def stream() -> AsyncIterator[bytes]:
        await asyncio.sleep(script.first_ms / 1000)
        for number, part in enumerate(parts):
            if 0 < number < script.tokens and script.interval_ms:
                await asyncio.sleep(script.interval_ms / 1000)
            yield part

    async def answer(request: Request) -> StreamingResponse:
        await request.body()
        return StreamingResponse(stream(), media_type="text/event-stream")

    return Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])


if __name__ == "__main__":
    serve(lambda line: build_app(Script(**json.loads(line))))
