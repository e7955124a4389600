"""Bad input through the real HAProxy and replica: a clear 4xx with a stable code, and nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.conftest import HTTP_TIMEOUT_S, Desk

pytestmark = pytest.mark.e2e

ASK = [{"role": "user", "content": "How much does express delivery cost?"}]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"messages": NaN}', 400, "invalid_json"),
        (b'"text"', 400, "invalid_request"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b'{"messages": []}', 400, "invalid_request"),
        (b'{"messages": [{"role": "user", "content": ""}]}', 400, "invalid_request"),
        (b'{"messages": [{"role": "user", "content": "%s"}]}' % (b"x" * 9_000), 400, "invalid_request"),
        (b'{"messages": [{"role": "user", "content": "%s"}]}' % (b"x" * 1_000_000), 413, "payload_too_large"),
    ],
)
def test_a_body_that_is_none(desk: Desk, body: bytes, status: int, code: str) -> None:
    assert_error(post_bytes(desk, body, "application/json"), status, code)


def post_bytes(desk: Desk, body: bytes, content_type: str) -> httpx2.Response:
    headers = {"content-type": content_type}
    return httpx2.post(f"{desk.url}/v1/chat", content=body, headers=headers, timeout=HTTP_TIMEOUT_S)


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/chat", {"messages": ASK, "tenant": "other"}, 400, "invalid_request"),
        ("/v1/chat", {"messages": ASK, "collection": "nobody-has-this"}, 404, "unknown_collection"),
        ("/v1/chat", {"messages": ASK, "collection": "../../etc"}, 400, "invalid_request"),
        ("/v1/chat/completions", {"messages": ASK, "model": "gpt-none"}, 404, "unknown_model"),
        ("/v1/chat/completions", {"messages": ASK, "model": "raydesk", "n": 3}, 400, "unsupported_parameter"),
        ("/v1/nothing", {"messages": ASK}, 404, "not_found"),
    ],
)
def test_a_wish_that_cannot_be_granted(desk: Desk, path: str, body: Any, status: int, code: str) -> None:
    assert_error(desk.post(path, body), status, code)


def test_other_kinds_methods_and_hosts(desk: Desk) -> None:
    assert_error(post_bytes(desk, b"a=b", "application/x-www-form-urlencoded"), 415, "unsupported_media_type")
    assert_error(desk.get("/v1/chat"), 405, "method_not_allowed")
    assert_error(desk.post("/v1/chat", {"messages": ASK}, headers={"host": "evil.example"}), 403, "permission_denied")


def assert_error(response: httpx2.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert error["message"]
    assert error["request_id"] == response.headers["x-request-id"]


def test_an_unreadable_document_is_a_row_of_the_report_and_the_others_are_published(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 not really")
    for number in range(5):
        (tmp_path / f"note-{number}.md").write_text(f"# Note {number}\n\nThe secret word of note {number} is quartz.\n")
    done = desk.raydesk("ingest", "apply", "--collection", "notes", str(tmp_path), timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "broken.pdf" in done.stdout
    answer = desk.ask("What is the secret word of note 3?", collection="notes")
    assert answer["path"] != "abstain"
    assert answer["citations"][0]["title"].startswith("Note")
