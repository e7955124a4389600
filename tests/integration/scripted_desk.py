"""A desk for browsers and clients: the real HTTP side and turn runner over a scripted pipeline, on real sockets.

Its network can be cut and mended, which the real application's cannot; and other people's pages stand beside it.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from cluster.ports import is_free
from deployments.answering.errors import NotFoundError
from deployments.answering.pipeline import Pipeline
from deployments.answering.protocols import AppStatus, ConversationSummary, Rating
from deployments.answering.session import Session
from deployments.answering.spans import TurnSpans
from deployments.answering.types import AnswerEvent, ChatRequest, Principal, TurnRecord
from deployments.fakes import InMemoryEventLog, InMemoryEventStore
from deployments.http.app import build_http_app
from deployments.settings import AppSettings, TurnSettings
from deployments.turns.recorder import Recorder
from deployments.turns.runner import TurnRunner

START_TIMEOUT_S = 60
Step = AnswerEvent | BaseException | float  # a float is a pause in seconds
Script = Callable[[ChatRequest], Sequence[Step]]


class _ScriptedTurn:
    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self.spans = TurnSpans()

    async def at_once(self) -> None:
        return None

    async def events(self) -> AsyncIterator[AnswerEvent]:
        for step in self._steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, BaseException):
                raise step
            else:
                yield step

    def elapsed_ms(self) -> float:
        return 1.0


class _ScriptedPipeline:
    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[ChatRequest] = []

    async def check(self, request: ChatRequest) -> str:
        return "v1"

    def turn(self, request: ChatRequest, record: TurnRecord, version: str) -> _ScriptedTurn:
        self.requests.append(request)
        return _ScriptedTurn(self.script(request))


class _Records:
    def __init__(self) -> None:
        self.records: list[TurnRecord] = []

    def put(self, record: TurnRecord) -> None:
        self.records.append(record)


class RememberedTurns:
    """A history of what it was told."""

    def __init__(self) -> None:
        self.ratings: list[tuple[str, Rating, str]] = []
        self.sessions: dict[str, Session] = {}
        self.summaries: list[ConversationSummary] = []

    async def conversations(self, principal: Principal, limit: int) -> Sequence[ConversationSummary]:
        return self.summaries[:limit]

    async def conversation(self, principal: Principal, conversation_id: str) -> Session:
        if conversation_id not in self.sessions:
            raise NotFoundError
        return self.sessions[conversation_id]

    async def forget(self, principal: Principal, conversation_id: str) -> None:
        if self.sessions.pop(conversation_id, None) is None:
            raise NotFoundError

    async def rate(self, principal: Principal, turn_id: str, rating: Rating, comment: str) -> None:
        self.ratings.append((turn_id, rating, comment))


class Network:
    """A wire to a port of this machine, which can be cut: what runs over it breaks, and nothing gets through."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._is_cut = False
        self._writers: set[asyncio.StreamWriter] = set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        both = {writer, far_writer}
        self._writers |= both
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        self._writers -= both

    def cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()

    def mend(self) -> None:
        self._is_cut = False


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # cut
    finally:
        writer.close()


class ScriptedDesk:
    """Runs in a thread of its own. `url` is the service behind the wire, `shop_url` another origin's page."""

    def __init__(self, ports: Sequence[int]) -> None:
        app_port, wire_port, shop_port = ports
        self.url = f"http://127.0.0.1:{wire_port}"
        self.shop_url = f"http://127.0.0.1:{shop_port}"
        self.shop_page = ""
        self.shop_policy = f"default-src 'none'; script-src {self.url}; connect-src {self.url}"
        self.pipeline = _ScriptedPipeline(lambda _: ())
        self.history = RememberedTurns()
        self._ports = ports
        self._network = Network(app_port)
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)

    @property
    def questions(self) -> list[str]:
        """Of the turns that were begun."""
        return [request.text for request in self.pipeline.requests]

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._network.cut)

    def mend(self) -> None:
        self._loop.call_soon_threadsafe(self._network.mend)

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(START_TIMEOUT_S), "the scripted desk has not started"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)

    async def _run(self) -> None:
        app_port, wire_port, shop_port = self._ports
        settings = AppSettings(http={"allowed_origins": (self.shop_url,)})  # type: ignore[arg-type]
        turns = TurnRunner(
            cast(Pipeline, self.pipeline),
            cast(Recorder, _Records()),
            max_turns=64,
            turn_timeout_s=60,
            status=lambda: AppStatus({"retriever": "ready"}, ()),
            events=InMemoryEventLog(InMemoryEventStore()),
            limits=TurnSettings(),
        )
        await turns.start()
        app = build_http_app(settings, turns, history=self.history, new_id=lambda: str(uuid.uuid4()))
        shop = Starlette(routes=[Route("/{path:path}", self._shop)])
        servers = [_server(app, app_port), _server(shop, shop_port)]
        serving = [asyncio.create_task(server.serve()) for server in servers]
        wire = await asyncio.start_server(self._network.carry, "127.0.0.1", wire_port)
        while not all(server.started for server in servers):  # noqa: ASYNC110 - uvicorn has nothing to wait for
            await asyncio.sleep(0.01)
        self._started.set()
        await self._stop.wait()
        wire.close()
        self._network.cut()
        await turns.stop()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)

    async def _shop(self, request: Request) -> HTMLResponse:
        return HTMLResponse(self.shop_page, headers={"content-security-policy": self.shop_policy})


def _server(app: Any, port: int) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off"))


@contextmanager
def scripted_desk() -> Iterator[ScriptedDesk]:
    ports = [port for port in range(21_000, 22_000) if is_free(port)][:3]
    desk = ScriptedDesk(ports)
    desk.start()
    try:
        yield desk
    finally:
        desk.stop()
