"""An engine writes for nobody: not for who has left, nor for an ingress that was killed, nor past a turn's time.

`test_freed_engines.py` runs this in a process that joins the Ray of a desk whose one tier takes minutes for an answer:
whatever ends sooner was ended.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ray.serve.handle import DeploymentHandle

from cluster.instance import Instance, InstanceState
from cluster.processes import ProcessId, descendants
from deployments.app import TIER_DEPLOYMENT, tier_app_name
from tests.counts import IS_FULL
from tests.e2e.conftest import SLACK_S

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("joined_ray")]

LEAVERS = 1000 if IS_FULL else 100
KILLS = 10 if IS_FULL else 1
HURRIED = 20
FREED_S = 5.0
QUESTION = "How often does the Zephyr 600 need a new filter, what does the filter cost, and how do I change it?"
TRICKS = {"x-request-timeout-seconds": "0", "x-request-disconnect-disabled": "?1"}


class Engines:
    """All replicas of the tier."""

    def __init__(self) -> None:
        self._handle = DeploymentHandle(TIER_DEPLOYMENT, tier_app_name("raydesk", "small"))

    async def running(self) -> int:
        told = await self._handle.broadcast("running").results_async(timeout_s=30)
        return sum(count for _, count in told)

    async def wait_for(self, count: int, within_s: float) -> float:
        """Seconds that it took."""
        begun = time.monotonic()
        while (found := await self.running()) != count:
            spent_s = time.monotonic() - begun
            assert spent_s < within_s, f"{found} generations run after {spent_s:.1f} s, not {count}"
            await asyncio.sleep(0.2)
        return time.monotonic() - begun


class Client:
    def __init__(self, url: str) -> None:
        limits = httpx2.Limits(max_connections=200)
        self._http = httpx2.AsyncClient(base_url=url, timeout=60, limits=limits)

    async def ask(self, *, stream: bool = True, headers: dict[str, str] | None = None) -> None:
        messages = [{"role": "user", "content": QUESTION}]
        body = {"model": "raydesk-small", "stream": stream, "max_tokens": 4000, "messages": messages}
        async with self._http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            async for _ in response.aiter_bytes():
                pass

    async def answer(self, timeout_s: float) -> tuple[dict[str, Any], float]:
        """The message, and the seconds that it took."""
        # A temperature of its own: such an answer is neither stored nor shared.
        body = {"model": "raydesk", "temperature": 0.01, "messages": [{"role": "user", "content": QUESTION}]}
        begun = time.monotonic()
        response = await self._http.post(
            "/v1/chat/completions", json=body | {"metadata": {"timeout_s": str(timeout_s)}}
        )
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"], time.monotonic() - begun

    async def until_up(self, within_s: float) -> None:
        """Returns once the ingresses know that the tier is up: a few looks in a row, since each may be another's."""
        async with asyncio.timeout(within_s):
            while not all([await self._is_up() for _ in range(6)]):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.5)

    async def _is_up(self) -> bool:
        try:
            response = await self._http.get("/readyz")
        except httpx2.TransportError:  # nobody is there at all
            return False
        tiers = response.json().get("tiers", []) if response.status_code == 200 else []
        return bool(tiers) and all(tier["state"] == "ready" for tier in tiers)

    async def leave_after(self, pause_s: float, **how: object) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self.ask(**how)  # type: ignore[arg-type]
        except TimeoutError:
            return
        pytest.fail("the answer ended before its customer left")

    async def close(self) -> None:
        await self._http.aclose()


@pytest.fixture(scope="module")
async def engines() -> Engines:
    return Engines()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    client = Client(_instance().url)
    yield client
    await client.close()


def _instance() -> InstanceState:
    state = Instance(Path(os.environ["RAYDESK_STATE"])).read()
    assert state is not None
    return state


def ingresses() -> list[ProcessId]:
    found = descendants(_instance().launcher.pid)
    return [process for process in found if b"ServeReplica:raydesk:ingress" in _command_line(process.pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def test_customers_who_leave_at_any_time_leave_no_generation_behind(engines: Engines, client: Client) -> None:
    pauses = random.Random(16)
    for _ in range(0, LEAVERS, 50):
        await asyncio.gather(
            *(client.leave_after(pauses.uniform(0.05, 3), stream=number % 2 == 0) for number in range(50))
        )
    await engines.wait_for(0, FREED_S + SLACK_S)


async def test_slow_engines_are_asked_once_and_every_answer_keeps_its_time(engines: Engines, client: Client) -> None:
    answers = await asyncio.gather(*(client.answer(timeout_s=3) for _ in range(HURRIED)))
    notes = [note for message, _ in answers for note in message["raydesk"]["degraded"]]
    assert all(message["content"] for message, _ in answers)
    assert sum(note.endswith((":retried", ":continued")) for note in notes) <= 0.1 * HURRIED, notes
    assert max(took_s for _, took_s in answers) <= 3.5 + SLACK_S
    await engines.wait_for(0, FREED_S + SLACK_S)


async def test_headers_that_switch_serve_off_do_not_keep_a_generation(engines: Engines, client: Client) -> None:
    await client.leave_after(3, headers=TRICKS)
    await engines.wait_for(0, FREED_S + SLACK_S)


async def test_an_ingress_that_stands_still_keeps_its_generations(engines: Engines, client: Client) -> None:
    asked = [asyncio.create_task(client.ask()) for _ in range(4)]
    await engines.wait_for(4, 60)
    standing = ingresses()
    try:
        for process in standing:
            process.signal(signal.SIGSTOP)
        await asyncio.sleep(FREED_S)
        assert await engines.running() == 4
    finally:
        for process in standing:
            process.signal(signal.SIGCONT)
        for task in asked:
            task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await engines.wait_for(0, FREED_S + SLACK_S)


async def test_an_ingress_that_is_killed_frees_the_engines(engines: Engines, client: Client) -> None:
    for _ in range(KILLS):
        await client.until_up(120)
        asked = [asyncio.create_task(client.ask()) for _ in range(6)]
        await engines.wait_for(6, 120)
        for process in ingresses():
            process.signal(signal.SIGKILL)
        await engines.wait_for(0, FREED_S + SLACK_S)
        await asyncio.gather(*asked, return_exceptions=True)
