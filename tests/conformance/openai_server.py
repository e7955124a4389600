"""A small OpenAI-compatible server on a real socket: says what a scripted model says, or fails as it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.engine_wire import message_of
from deployments.settings import TierSettings
from models.fakes import ScriptedLLM
from models.protocols import GenerationRequest, TextDelta, ToolCallDelta

API_KEY = "sk-for-this-test"


class OpenAIServer:
    def __init__(self, llm: ScriptedLLM | None = None) -> None:
        self.llm = llm or ScriptedLLM("one two three four five six seven eight nine 完")
        self.bodies: list[dict[str, Any]] = []
        self.authorizations: list[str] = []
        self.looks = 0
        self.failure: Callable[[], Response] | None = None  # instead of an answer
        self.cut_after: int | None = None  # pieces, then the connection breaks
        self.url = ""
        self.app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._completions, methods=["POST"]),
            ]
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[OpenAIServer]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            server = uvicorn.Server(uvicorn.Config(self.app, log_level="critical", lifespan="off"))
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            while not server.started:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)
            try:
                yield self
            finally:
                server.should_exit = server.force_exit = True
                await serving

    def tier(self, **changes: Any) -> TierSettings:
        openai = {"base_url": self.url, "tenants": ("demo",)} | changes.pop("openai", {})
        return TierSettings.model_validate({"name": "cloud", "model_id": "m-1", "openai": openai} | changes)

    async def _models(self, _: Request) -> Response:
        self.looks += 1
        return self.failure() if self.failure is not None else JSONResponse({"object": "list", "data": []})

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        self.authorizations.append(request.headers.get("authorization", ""))
        if self.failure is not None:
            return self.failure()
        return StreamingResponse(self._events(body), media_type="text/event-stream")

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        said = [message_of(message) for message in body["messages"]]
        before = said.pop().content if body.get("continue_final_message") else ""
        stop = tuple(body.get("stop", ()))
        tools = {name: body[name] for name in ("tools", "tool_choice") if name in body}
        request = GenerationRequest(tuple(said), body["max_tokens"], stop=stop, continuation=before, tools=tools)
        yield ": a comment\n\n"
        yield _event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        sent = 0
        async for item in self.llm.generate(request):
            if isinstance(item, TextDelta):
                if sent == self.cut_after:
                    raise ConnectionResetError("cut, as told")
                sent += 1
                yield _event({"choices": [{"index": 0, "delta": {"content": item.text}}]})
            elif isinstance(item, ToolCallDelta):
                function = {"name": item.name or None, "arguments": item.arguments}
                call = {"index": item.index, "id": item.id or None, "type": "function", "function": function}
                yield _event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
            else:
                yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": item.finish_reason}]})
                usage = {"prompt_tokens": item.input_tokens, "completion_tokens": item.output_tokens}
                yield _event({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"


def _event(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"
