import json
from dataclasses import asdict
from itertools import islice

import pytest
from starlette.testclient import TestClient

from deployments.settings import SettingsError, TierSettings
from perf.sse_peer import Script, build_app, frames
from perf.stream import QUESTIONS, Reading, Result, Stream, comparisons, never_asked, script_of, summarise

pytestmark = pytest.mark.unit


def read(*parts: bytes) -> Reading:
    reading = Reading()
    for number, part in enumerate(parts, 1):
        reading.feed(part, number / 10)
    return reading


def chunk(**content: object) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def test_whole_stream_is_read_across_its_pieces() -> None:
    role = chunk(choices=[{"delta": {"role": "assistant", "content": ""}}])
    text = chunk(choices=[{"delta": {"content": "Four euros."}}])
    usage = chunk(choices=[], usage={"completion_tokens": 3, "prompt_tokens": 40})
    reading = read(role, text[:20], text[20:] + text, b": keep-alive\n\n" + usage, b"data: [DONE]\n\n")
    assert (reading.first_s, reading.chunks, reading.tokens, reading.prompt_tokens) == (0.3, 2, 3, 40)
    assert reading.error == ""


def test_stream_without_an_end_and_one_with_an_error_are_dropped() -> None:
    assert read(chunk(choices=[{"delta": {"content": "Four"}}])).error == "broke off"
    assert read(chunk(error={"code": "engine_died"}), b"data: [DONE]\n\n").error == "engine_died"


def test_peer_streams_its_script_in_the_desks_format() -> None:
    script = Script(tokens=5, first_ms=0, interval_ms=0)
    answer = TestClient(build_app(script)).post("/v1/chat/completions", json={})
    reading = read(answer.content)
    assert (reading.chunks, reading.tokens, reading.error) == (5, 5, "")
    assert b"".join(frames(script)) == answer.content


def test_script_of_a_tier() -> None:
    script = {"tokens": 60, "first_token_ms": 100, "tokens_per_s": 50}
    tier = TierSettings.model_validate({"name": "small", "model_id": "m", "script": script})
    assert script_of(tier, 300) == Script(tokens=60, first_ms=100, interval_ms=20)
    assert script_of(tier, 40).tokens == 40
    with pytest.raises(SettingsError, match="is a model"):
        script_of(TierSettings(name="small", model_id="m", model_source="m"), 64)


def result(server: str, first_s: float, chunks: int, errors: int = 0) -> Result:
    whole = [Stream(first_s, 1.0, chunks, 2 * chunks, 10, "")] * 4
    return summarise(server, 4, [*whole, *[Stream(None, 0.1, 0, 0, 0, "503")] * errors], 2.0, 0.5)


def test_desk_is_compared_with_its_peer_at_the_same_number_of_streams() -> None:
    desk, peer = result("desk", 0.12, 30, errors=1), result("bare SSE", 0.10, 60)
    assert (desk.answers, desk.dropped, desk.chunks_per_s, desk.tokens_per_s) == (4, 1, 60.0, 120.0)
    assert asdict(desk)["errors"] == {"503": 1}
    row, again = comparisons([desk, result("desk, asked before", 0.11, 60), peer])
    assert (again["server"], again["chunks_ratio"]) == ("desk, asked before", 1.0)
    assert row["added_ttft_p50_ms"] == pytest.approx(20)
    assert (row["streams"], row["dropped"], row["chunks_ratio"]) == (4, 1, 0.5)


def test_no_question_is_asked_twice() -> None:
    asked = list(islice(never_asked(), 500))
    assert len(set(asked)) == len(set(islice(never_asked(), 500)) - set(asked)) == 500
    assert all(any(question in each for question in QUESTIONS) for each in asked)
