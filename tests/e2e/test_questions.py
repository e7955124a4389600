"""What customers and client developers see: answers with sources, caches, languages, both wire formats."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
import openai
import pytest

from tests.e2e.conftest import COMMAND_TIMEOUT_S, HTTP_TIMEOUT_S, Desk

pytestmark = pytest.mark.e2e

RHO_QUESTION = "How many withdrawals can I make in a month with the Gold Plus Saver Account?"
RHO_TITLE = "Gold Plus Saver Account: Withdrawal limits"


def events(desk: Desk, question: str, **fields: Any) -> list[tuple[str, dict[str, Any]]]:
    """The named events of one streamed answer, as the wire has them."""
    body = {"messages": [{"role": "user", "content": question}]} | fields
    found: list[tuple[str, dict[str, Any]]] = []
    with httpx2.stream("POST", f"{desk.url}/v1/chat", json=body, timeout=HTTP_TIMEOUT_S) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        for block in "".join(response.iter_text()).split("\n\n"):
            fields_of = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if fields_of:
                found.append((fields_of["event"], json.loads(fields_of["data"])))
    return found


def text(stream: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(data["text"] for name, data in stream if name == "delta")


def test_a_curated_answer_is_streamed_with_its_source(desk: Desk) -> None:
    stream = events(desk, "How much does express delivery cost?")
    names = [name for name, _ in stream]
    assert names[0] == "meta"
    assert names[-1] == "done"
    assert {"delta", "citation"} <= set(names)
    assert "12.90 EUR" in text(stream)
    citation = next(data for name, data in stream if name == "citation")
    assert citation["url"].startswith("https://help.northlight.example/en/")
    assert stream[-1][1]["grounded"]


def test_the_second_answer_comes_from_the_cache_with_the_same_citations(desk: Desk) -> None:
    first = desk.ask("How long does standard delivery take to Portugal?")
    curated = desk.ask("How long do I have to return an item?")
    assert curated["path"] in ("faq", "exact_cache")
    again = desk.ask("  how long do I have to return an ITEM")
    assert again["path"] == "exact_cache"
    assert again["text"] == curated["text"]
    assert again["citations"] == curated["citations"] != []
    assert again["cache_age_s"] >= 0
    assert first["text"] != curated["text"]


def test_a_chinese_question_is_answered_in_chinese_from_chinese_knowledge(desk: Desk) -> None:
    answer = desk.ask("收到商品后多少天内可以退货？")
    assert answer["language"] == "zh"
    assert "7" in answer["text"]
    assert re.search(r"[\u4e00-\u9fff]{4}", answer["text"])
    assert all("/zh/" in citation["url"] for citation in answer["citations"])


def test_a_sure_intent_is_answered_by_its_flow(desk: Desk) -> None:
    for question, language in (("Where is my order?", "en"), ("我的快递到哪了", "zh")):
        answer = desk.ask(question)
        assert (answer["path"], answer["language"]) == ("rule", language), answer["route_reason"]
        assert "track_order" in answer["route_reason"]
    person = desk.ask("I want to talk to a human")
    assert (person["path"], bool(person["handoff_reason"])) == ("handoff", True)


def test_what_nobody_knows_is_not_invented(desk: Desk) -> None:
    assert desk.ask("Who won the football match last night?")["path"] == "abstain"


def test_knowledge_for_staff_does_not_exist_for_customers(desk: Desk) -> None:
    answer = desk.ask("Up to what goodwill amount may an agent decide?")
    shown = json.dumps(answer)
    assert "goodwill-limits" not in shown
    assert "team lead" not in shown.lower()


def test_the_model_writes_from_a_source_and_streams(writing_desk: Desk) -> None:
    client = openai.OpenAI(base_url=f"{writing_desk.url}/v1", api_key="unused", max_retries=0, timeout=HTTP_TIMEOUT_S)
    assert {"raydesk", "raydesk-small"} <= {model.id for model in client.models.list()}
    stream = client.chat.completions.create(
        model="raydesk-small",
        messages=[{"role": "user", "content": "How often does the filter of the Zephyr 600 have to be replaced?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert sum(bool(delta.content) for delta in deltas) > 3  # token by token, not in one piece
    extras = next(delta.model_extra for delta in deltas if delta.model_extra)
    assert extras["raydesk"]["path"] == "small"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 3


def test_a_banks_help_centre_is_ingested_and_answers_with_the_right_article(desk: Desk, rho_bank: str) -> None:
    stream = events(desk, RHO_QUESTION, collection=rho_bank)
    assert "30" in text(stream)
    assert next(data for name, data in stream if name == "citation")["title"] == RHO_TITLE
    client = openai.OpenAI(base_url=f"{desk.url}/v1", api_key="unused", max_retries=0, timeout=HTTP_TIMEOUT_S)
    completion = client.chat.completions.create(
        model="raydesk", messages=[{"role": "user", "content": RHO_QUESTION}], metadata={"collection": rho_bank}
    )
    message = completion.choices[0].message
    assert "30" in (message.content or "")
    assert (message.model_extra or {})["citations"][0]["title"] == RHO_TITLE


def test_operators_see_states_metrics_and_turns(desk: Desk) -> None:
    desk.ask("How much does express delivery cost?")
    assert desk.get("/healthz").json() == {"status": "ok"}
    readiness = desk.readiness()
    assert readiness["ready"]
    assert set(readiness["rooms"]) == {"intent_classifier", "retriever", "semantic_cache", "sessions", "turn_log"}
    metrics = desk.get("/metrics").text
    assert re.search(r'raydesk_turns_total\{outcome="answered",path="(faq|exact_cache)"\} [1-9]', metrics)
    assert 'raydesk_up{part="turn_log"} 1.0' in metrics
    shown = desk.raydesk("turns", "--limit", "3", timeout_s=COMMAND_TIMEOUT_S)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 3
