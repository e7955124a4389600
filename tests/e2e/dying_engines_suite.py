"""Kills and stops engines while they write; test_scripted_engines.py runs it in a process that joins the desk's Ray.

RAYDESK_FULL_COUNTS=1 runs as many kills as a night has time for.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cluster.processes import ProcessId
from deployments.app import script_of
from tests.counts import IS_FULL
from tests.e2e.conftest import HTTP_TIMEOUT_S, SLACK_S, Desk

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("joined_ray")]

KILLS = 20 if IS_FULL else 1
REQUESTS = 200 if IS_FULL else 24
BACK_TIMEOUT_S = 90.0
QUESTION = "How often does the Zephyr 600 need a new filter, what does the filter cost, and how do I change it?"


@dataclass(slots=True)
class Said:
    text: str = ""
    path: str = ""
    error: str = ""
    has_ended: bool = False
    took_s: float = 0.0


@pytest.fixture(scope="session")
def desk() -> Desk:
    found = Desk("", Path(os.environ["RAYDESK_STATE"]), {})
    return Desk(found.running.url, found.state, {})


async def ask(
    desk: Desk, model: str = "raydesk", meanwhile: Callable[[], Awaitable[None]] | None = None, **fields: Any
) -> Said:
    """One streamed answer, on a connection of its own. meanwhile: what is done once at the tenth piece."""
    # A temperature of its own: such an answer is neither stored nor shared.
    body = {"model": model, "stream": True, "temperature": 0.01, "messages": [{"role": "user", "content": QUESTION}]}
    said, pieces, begun = Said(), 0, time.monotonic()
    async with (
        httpx2.AsyncClient(timeout=HTTP_TIMEOUT_S) as client,
        client.stream("POST", f"{desk.url}/v1/chat/completions", json=body | fields) as response,
    ):
        async for line in response.aiter_lines():
            said.has_ended = said.has_ended or line == "data: [DONE]"
            if not line.startswith("data: {"):
                continue
            document = json.loads(line.removeprefix("data: "))
            said.error = document.get("error", {}).get("code", said.error)
            for choice in document.get("choices", ()):
                extra = choice["delta"].get("raydesk") or {}
                said.path = extra.get("path", said.path)
                if text := choice["delta"].get("content"):
                    said.text, pieces = said.text + text, pieces + 1
            if pieces == 10 and meanwhile is not None:
                await meanwhile()
                meanwhile = None
    said.took_s = time.monotonic() - begun
    return said


async def writer(tier: str = "small") -> int:
    """The process of a replica that is writing now."""
    script = script_of("raydesk", tier, HTTP_TIMEOUT_S)
    while True:
        pid, running = await script.running()
        if running:
            return pid
        await asyncio.sleep(0.01)


def replicas(desk: Desk, tier: str) -> list[ProcessId]:
    return desk.processes(f"ServeReplica:raydesk-{tier}:")


def send(desk: Desk, what: signal.Signals, *tiers: str) -> None:
    for tier in tiers:
        for replica in replicas(desk, tier):
            replica.signal(what)


async def both_are_back(desk: Desk, *tiers: str) -> None:
    """Two replicas of each answer, and every ingress replica knows."""
    async with asyncio.timeout(BACK_TIMEOUT_S):
        for tier in tiers:
            script, seen = script_of("raydesk", tier, 5.0), set[int]()
            while len(seen & {process.pid for process in replicas(desk, tier)}) < 2:
                try:
                    seen.add((await script.running())[0])
                except Exception:  # one that is dying answers with whatever it likes
                    await asyncio.sleep(0.2)
        await asyncio.to_thread(desk.wait_for_tiers)


async def until_small_writes(desk: Desk) -> list[Said]:
    """Asks until `small` has written six answers in a row: what one ingress learns of a replica the other does not."""
    answers: list[Said] = []
    async with asyncio.timeout(BACK_TIMEOUT_S):
        while [said.path for said in answers[-6:]] != ["small"] * 6:
            answers.append(await ask(desk))
    return answers


@pytest.fixture(autouse=True)
async def _whole(desk: Desk) -> None:
    await both_are_back(desk, "small", "large")


async def test_a_replica_that_dies_while_it_writes_is_not_noticed_by_the_customer(desk: Desk) -> None:
    whole = await ask(desk, "raydesk-small")
    assert whole.path == "small"
    assert whole.text

    async def kill_the_writer() -> None:
        os.kill(await writer(), signal.SIGKILL)

    for _ in range(KILLS):
        said = await ask(desk, "raydesk-small", kill_the_writer)
        assert (said.text, said.error, said.has_ended) == (whole.text, "", True)
        await both_are_back(desk, "small")


async def test_replicas_that_die_before_the_first_word_cost_nobody_an_answer(desk: Desk) -> None:
    first = await ask(desk, "raydesk-small")
    answers: list[Said] = []

    async def customer(number: int) -> None:
        await asyncio.sleep(number * 0.4)
        answers.append(await ask(desk, "raydesk-small"))

    async def killer() -> None:
        for _ in range(max(2, REQUESTS // 12)):
            os.kill(await writer(), signal.SIGKILL)
            await both_are_back(desk, "small")

    await asyncio.gather(killer(), *(customer(number) for number in range(REQUESTS)))
    good = [said for said in answers if said.text == first.text and said.has_ended and not said.error]
    assert len(good) >= 0.995 * REQUESTS, [said for said in answers if said not in good]


async def test_where_all_replicas_of_a_tier_are_gone_the_other_one_answers(desk: Desk) -> None:
    send(desk, signal.SIGKILL, "small")
    answers = await asyncio.gather(*(ask(desk) for _ in range(4)))
    assert {said.path for said in answers} <= {"small", "large"}  # small where its replicas were back already
    assert all(said.text and said.has_ended and not said.error for said in answers)
    assert max(said.took_s for said in answers) < 5 + SLACK_S


async def test_where_no_engine_is_left_every_turn_ends_in_its_time(desk: Desk) -> None:
    send(desk, signal.SIGKILL, "small", "large")
    answers = await asyncio.gather(*(ask(desk, metadata={"timeout_s": "3"}) for _ in range(4)))
    assert all(said.text and said.has_ended and not said.error for said in answers)
    # handoff: nothing was found in so short a time either, on a machine that is busy with new engines.
    assert {said.path for said in answers} <= {"passage", "small", "large"} | (set() if IS_FULL else {"handoff"})
    assert max(said.took_s for said in answers) < 3.5 + SLACK_S


async def test_of_two_replicas_the_one_that_hangs_is_left_alone_and_the_other_writes(desk: Desk) -> None:
    stuck = replicas(desk, "small")[0]
    stuck.signal(signal.SIGSTOP)
    try:
        answers = await asyncio.gather(*(ask(desk) for _ in range(16)))
        answers += await until_small_writes(desk)
        assert all(said.text and said.has_ended and not said.error for said in answers)
        states = [tier["state"] for _ in range(6) for tier in desk.readiness()["tiers"] if tier["name"] == "small"]
        assert set(states) == {"ready"}
    finally:
        stuck.signal(signal.SIGCONT)


async def test_an_engine_that_hangs_is_left_alone_until_a_probe_succeeds(desk: Desk) -> None:
    send(desk, signal.SIGSTOP, "small")
    try:
        answers = await asyncio.gather(*(ask(desk) for _ in range(10)))
        assert all(said.has_ended and not said.error for said in answers)
        assert {said.path for said in answers} <= {"large", "passage"}
        later = [await ask(desk) for _ in range(4)]
        assert {said.path for said in later} == {"large"}
        states = [tier["state"] for _ in range(6) for tier in desk.readiness()["tiers"] if tier["name"] == "small"]
        assert "ready" not in states
    finally:
        send(desk, signal.SIGCONT, "small")
    await both_are_back(desk, "small")
    assert (await ask(desk, "raydesk-small")).path == "small"
