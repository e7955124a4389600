"""The three wires through HAProxy and a real replica, with the clients that people have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.counts import IS_FULL
from tests.e2e.conftest import HTTP_TIMEOUT_S, ROOT, Desk

pytestmark = pytest.mark.e2e

QUESTION = "How much does express delivery cost?"
ASK: list[Any] = [{"role": "user", "content": QUESTION}]
FACT = "12.90"
EXAMPLES = "30" if IS_FULL else "3"  # of each operation; more find more, and take longer
SCHEMATHESIS_TIMEOUT_S = 800
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def test_the_stock_client_asks_and_embeds(desk: Desk) -> None:
    with openai.OpenAI(base_url=f"{desk.url}/v1", api_key="sk-any", timeout=HTTP_TIMEOUT_S) as client:
        completion = client.chat.completions.create(model="raydesk", messages=ASK, user="customer-7")
        assert FACT in (completion.choices[0].message.content or "")
        stream = client.chat.completions.create(
            model="raydesk", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert FACT in text
        assert chunks[-1].usage is not None
        cut = client.chat.completions.create(model="raydesk", messages=ASK, stop=FACT)
        assert FACT not in (cut.choices[0].message.content or "")
        vectors = client.embeddings.create(model="raydesk-encoder", input=[QUESTION, "快递多少钱？"]).data
        assert len(vectors[0].embedding) == len(vectors[1].embedding) > 100
        assert sum(number**2 for number in vectors[0].embedding) == pytest.approx(1, abs=0.02)


async def test_the_stock_async_client_streams(desk: Desk) -> None:
    async with openai.AsyncOpenAI(base_url=f"{desk.url}/v1", api_key="sk-any", timeout=HTTP_TIMEOUT_S) as client:
        stream = await client.chat.completions.create(model="raydesk", messages=ASK, stream=True)
        text = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert FACT in "".join(text)


def test_several_turns_over_one_socket(desk: Desk) -> None:
    with connect(f"{desk.url.replace('http', 'ws', 1)}/v1/ws", open_timeout=HTTP_TIMEOUT_S) as socket:
        assert received(socket)["event"] == "ready"
        for name, question in (("en", QUESTION), ("zh", "普通快递几天能到？")):
            messages = [{"role": "user", "content": question}]
            socket.send(json.dumps({"type": "ask", "id": name, "messages": messages}))
        ends: dict[str, str] = {}
        texts = {"en": "", "zh": ""}
        while len(ends) < 2:
            event = received(socket)
            if event["event"] == "ping":
                socket.send('{"type": "pong"}')
            elif event["event"] == "delta":
                texts[event["id"]] += event["data"]["text"]
            elif event["event"] in ("done", "error"):
                ends[event["id"]] = event["event"]
        assert ends == {"en": "done", "zh": "done"}
        assert FACT in texts["en"]
        assert texts["zh"]
        socket.send("x" * 66_000)
        with pytest.raises(ConnectionClosed) as closed:
            list(socket)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


def received(socket: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(socket.recv(HTTP_TIMEOUT_S))
    return event


# A part that is slow or away is a documented answer, too; a 500 never is one.
SCHEMATHESIS = """\
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 502, 503, 504]
"""


def test_whatever_the_document_allows_gets_a_documented_answer(desk: Desk, tmp_path: Path) -> None:
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(SCHEMATHESIS)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            f"--config-file={settings}",
            "run",
            f"{desk.url}/openapi.json",
            f"--max-examples={EXAMPLES}",
            f"--checks={','.join(CHECKS)}",
            f"--request-timeout={HTTP_TIMEOUT_S}",
            "--seed=1",
            "--no-color",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SCHEMATHESIS_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-1000:]
    assert "Test cases" in done.stdout
