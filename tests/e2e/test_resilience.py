"""What happens when things go away in the middle: customers, and the process that writes."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import COMMAND_TIMEOUT_S, HTTP_TIMEOUT_S, Desk, wait_until

pytestmark = pytest.mark.e2e

FAQ = "How much does express delivery cost?"


def turns(desk: Desk, conversation_prefix: str) -> list[dict[str, Any]]:
    """The logged turns whose conversation id begins so."""
    shown = desk.raydesk("turns", "--json", "--limit", "10000", timeout_s=COMMAND_TIMEOUT_S)
    assert shown.returncode == 0, shown.stderr
    rows = [json.loads(line) for line in shown.stdout.splitlines() if line.startswith("{")]
    return [row for row in rows if row["conversation_id"].startswith(conversation_prefix)]


# About something that the knowledge holds, and that takes the model many words.
LONG = "How often does the Zephyr 600 need a new filter, what does the filter cost, and how do I change it?"


def model_body(question: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": "raydesk-small", "stream": True, "max_tokens": 150, "messages": messages} | fields


def ask_and_maybe_leave(desk: Desk, number: int) -> str:
    """One of a hundred turns; every fifth customer asks the model and leaves at its first word."""
    conversation = f"hundred-{number}"
    if number % 5 != 0:
        return str(desk.ask(f"{FAQ} ({number})", conversation_id=conversation)["path"])
    body = model_body(LONG, metadata={"conversation_id": conversation})
    with httpx2.stream("POST", f"{desk.url}/v1/chat/completions", json=body, timeout=HTTP_TIMEOUT_S) as response:
        for line in response.iter_lines():
            if content(line):
                return "left"
    return "stayed"


def content(line: str) -> str:
    """The words in one line of a stream."""
    if not line.startswith("data: {"):
        return ""
    choices = json.loads(line.removeprefix("data: ")).get("choices") or [{"delta": {}}]
    return str(choices[0]["delta"].get("content") or "")


def test_a_hundred_turns_are_a_hundred_rows_though_twenty_customers_leave(writing_desk: Desk) -> None:
    with ThreadPoolExecutor(10) as pool:
        came = list(pool.map(lambda number: ask_and_maybe_leave(writing_desk, number), range(100)))
    assert came.count("left") == 20, came
    wait_until(lambda: len(turns(writing_desk, "hundred-")) >= 100, COMMAND_TIMEOUT_S, "all turns in the log")
    rows = turns(writing_desk, "hundred-")
    assert len(rows) == len({row["turn_id"] for row in rows}) == 100
    # Who leaves at the first words has had them all where they are one piece: a passage, or one supported sentence.
    left = [row for row in rows if int(row["conversation_id"].removeprefix("hundred-")) % 5 == 0]
    assert {row["outcome"] for row in rows if row not in left} == {"answered"}
    assert {row["outcome"] for row in left} - {"answered"} == {"disconnected"}


def test_model_killed_while_it_writes_is_an_error_event_and_the_next_question_works(writing_desk: Desk) -> None:
    desk = writing_desk
    body = model_body(LONG)
    replicas = desk.processes("ServeReplica:raydesk-small")
    assert replicas
    lines: list[str] = []
    with httpx2.stream("POST", f"{desk.url}/v1/chat/completions", json=body, timeout=HTTP_TIMEOUT_S) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            lines.append(line)
            if sum(bool(content(said)) for said in lines) == 2:
                for replica in replicas:
                    replica.signal(signal.SIGKILL)
    documents = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    error = documents[-1].get("error")
    assert error, documents[-3:]
    assert error["code"] == "engine_died"
    assert error["request_id"]
    assert lines[-2:] == ["data: [DONE]", ""] or lines[-1] == "data: [DONE]"
    assert "Traceback" not in "".join(lines)
    assert "/" not in error["message"]

    # Whatever needs no model goes on at once; what would need it says what it found instead.
    assert desk.ask(FAQ)["path"] in ("faq", "exact_cache", "semantic_cache")
    without = desk.ask("Can the Zephyr 600 stand in a damp cellar during the winter, and is its filter washable?")
    assert without["path"] in ("passage", "abstain", "faq")

    desk.wait_for_tier()
    again = desk.post("/v1/chat/completions", body | {"stream": False, "max_tokens": 20})
    assert again.status_code == 200
    assert again.json()["choices"][0]["message"]["content"]


def test_a_door_that_is_killed_opens_again(desk: Desk) -> None:
    """And 'raydesk stop' finds nothing of it, which the fixture's end shows."""
    doors = desk.processes("/haproxy ")
    assert doors
    for door in doors:
        door.signal(signal.SIGKILL)
    statuses: set[int] = set()
    wait_until(lambda: is_open(desk, statuses), COMMAND_TIMEOUT_S, "the door")
    assert statuses <= {200, 503}
    assert desk.ask(FAQ)["text"]


def is_open(desk: Desk, statuses: set[int]) -> bool:
    """Notes what the door says."""
    try:
        status = desk.get("/healthz").status_code
    except httpx2.TransportError:
        return False
    statuses.add(status)
    return status == 200
