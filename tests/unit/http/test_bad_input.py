"""Whatever a customer sends: a 4xx with a stable code and, where a field is to blame, its name. Never a 500."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.unit.http.scripted_turns import ScriptedTurns

pytestmark = pytest.mark.unit

NATIVE, OPENAI, EMBEDDINGS = "/v1/chat", "/v1/chat/completions", "/v1/embeddings"
USER = {"role": "user", "content": "Where is my order?"}
JSON = {"content-type": "application/json"}


def native(**fields: Any) -> bytes:
    return json.dumps({"messages": [USER], **fields}).encode()


def openai(**fields: Any) -> bytes:
    return json.dumps({"model": "raydesk", "messages": [USER], **fields}).encode()


def embeddings(texts: Any, **fields: Any) -> bytes:
    return json.dumps({"model": "raydesk-encoder", "input": texts, **fields}).encode()


def message(role: Any, content: Any, **more: Any) -> list[Any]:
    return [{"role": role, "content": content, **more}]


@dataclass(frozen=True)
class Case:
    id: str
    body: bytes
    status: int = 400
    code: str = "invalid_request"
    param: str | None = None
    path: str = NATIVE
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))


IMAGE = [{"type": "image_url", "image_url": {"url": "http://x"}}]
CASES = [
    # the body as a whole
    Case("empty body", b"", code="invalid_json"),
    Case("not JSON", b"hello", code="invalid_json"),
    Case("cut JSON", b'{"messages": [', code="invalid_json"),
    Case("two documents", native() + native(), code="invalid_json"),
    Case("invalid UTF-8", b'{"messages": "\xff\xfe"}', code="invalid_json"),
    Case("byte order mark", b"\xef\xbb\xbf" + native(), code="invalid_json"),
    Case("UTF-16", native().decode().encode("utf-16"), code="invalid_json"),
    Case("NaN", b'{"messages": NaN}', code="invalid_json"),
    Case("-Infinity", b'{"temperature": -Infinity}', code="invalid_json", path=OPENAI),
    Case("deep lists", b"[" * 60_000 + b"]" * 60_000, code="invalid_json"),
    Case("deep objects", b'{"a":' * 40_000 + b"1" + b"}" * 40_000, code="invalid_json"),
    Case("endless number", b'{"seed": ' + b"9" * 10_000 + b"}", code="invalid_json", path=OPENAI),
    Case("key twice", b'{"stream": true, "stream": false}', code="invalid_json", param="stream"),
    Case("surrogate key twice", rb'{"\ud800": 1, "\ud800": 2}', code="invalid_json", param="?"),
    Case("a list", b"[]"),
    Case("a string", b'"hi"'),
    Case("null", b"null"),
    Case("a megabyte", native(messages=message("user", "x" * 1_000_000)), 413, "payload_too_large"),
    # content type
    Case("no content type", native(), 415, "unsupported_media_type", headers={}),
    Case("form", b"a=b", 415, "unsupported_media_type", headers={"content-type": "application/x-www-form-urlencoded"}),
    Case("text", native(), 415, "unsupported_media_type", headers={"content-type": "text/plain"}),
    Case(
        "latin-1", native(), 415, "unsupported_media_type", headers={"content-type": "application/json; charset=latin1"}
    ),
    Case("gzip", native(), 415, "unsupported_media_type", headers=JSON | {"content-encoding": "gzip"}),
    # fields of the native body
    Case("no messages", b"{}", param="messages"),
    Case("messages null", native(messages=None), param="messages"),
    Case("messages a string", native(messages="hi"), param="messages"),
    Case("messages empty", native(messages=[]), param="messages"),
    Case("too many messages", native(messages=[USER] * 65), param="messages"),
    Case("message a string", native(messages=["hi"]), param="messages[0]"),
    Case("message without role", native(messages=[{"content": "hi"}]), param="messages[0].role"),
    Case("message without content", native(messages=[{"role": "user"}]), param="messages[0].content"),
    Case("role unknown", native(messages=message("king", "hi")), param="messages[0].role"),
    Case("role a list", native(messages=message(["user"], "hi")), param="messages[0].role"),
    Case("role system", native(messages=[*message("system", "Obey"), USER]), param="messages[0].role"),
    Case("last not user", native(messages=[USER, *message("assistant", "hi")]), param="messages[1].role"),
    Case("content null", native(messages=message("user", None)), param="messages[0].content"),
    Case("content a number", native(messages=message("user", 7)), param="messages[0].content"),
    Case("content parts", native(messages=message("user", [])), param="messages[0].content"),
    Case("content empty", native(messages=message("user", "")), param="messages[0].content"),
    Case("content blank", native(messages=message("user", " \t\n\u3000")), param="messages[0].content"),
    Case("content invisible", native(messages=message("user", "\u200b\u2060")), param="messages[0].content"),
    Case("content too long", native(messages=message("user", "字" * 8_001)), param="messages[0].content"),
    Case("content with NUL", native(messages=message("user", "a\0b")), param="messages[0].content"),
    Case("lone surrogate", native(messages=message("user", "a\ud800b")), code="invalid_json", param="content"),
    Case("message field unknown", native(messages=message("user", "hi", name="x")), param="messages[0].name"),
    Case("field unknown", native(tenant="other"), param="tenant"),
    Case("surrogate field", native(**{"\udfff": 1}), code="invalid_json", param="?"),
    Case("stream a string", native(stream="yes"), param="stream"),
    Case("stream null", native(stream=None), param="stream"),
    Case("collection a path", native(collection="../secrets"), param="collection"),
    Case("collection empty", native(collection=""), param="collection"),
    Case("collection a number", native(collection=3), param="collection"),
    Case("conversation id with newline", native(conversation_id="a\nb"), param="conversation_id"),
    Case("conversation id too long", native(conversation_id="a" * 129), param="conversation_id"),
    Case("language unknown", native(language="de"), param="language"),
    # fields of OpenAI's body
    Case("no model", json.dumps({"messages": [USER]}).encode(), param="model", path=OPENAI),
    Case("model unknown", openai(model="gpt-4o"), 404, "unknown_model", path=OPENAI),
    Case("only system", openai(messages=message("system", "Obey")), param="messages", path=OPENAI),
    Case("role tool", openai(messages=message("tool", "x")), param="messages[0].tool_call_id", path=OPENAI),
    Case("n", openai(n=2), code="unsupported_parameter", param="n", path=OPENAI),
    Case("tool choice without tools", openai(tool_choice="required"), param="tool_choice", path=OPENAI),
    Case("logprobs", openai(logprobs=True), code="unsupported_parameter", param="logprobs", path=OPENAI),
    Case("top_p a string", openai(top_p="much"), param="top_p", path=OPENAI),
    Case("stop empty", openai(stop=[""]), param="stop[0]", path=OPENAI),
    Case("stops too many", openai(stop=list("abcde")), param="stop", path=OPENAI),
    Case(
        "response format",
        openai(response_format={"type": "json_object"}),
        code="unsupported_parameter",
        param="response_format",
        path=OPENAI,
    ),
    Case(
        "image part",
        openai(messages=message("user", IMAGE)),
        code="unsupported_parameter",
        param="messages[0].content",
        path=OPENAI,
    ),
    Case(
        "part not a dict",
        openai(messages=message("user", ["x"])),
        code="unsupported_parameter",
        param="messages[0].content",
        path=OPENAI,
    ),
    Case(
        "part without text",
        openai(messages=message("user", [{"type": "text"}])),
        param="messages[0].content",
        path=OPENAI,
    ),
    Case(
        "part of no type",
        openai(messages=message("user", [{"type": ["text"]}])),
        code="unsupported_parameter",
        param="messages[0].content",
        path=OPENAI,
    ),
    Case("no parts", openai(messages=message("user", [])), param="messages[0].content", path=OPENAI),
    Case(
        "half a character in a tool",
        openai(tools=[{"type": "function", "function": {"name": "f", "parameters": {"enum": ["HALF"]}}}]).replace(
            b"HALF", b"\\ud800"
        ),
        param="tools[0].function.parameters",
        path=OPENAI,
    ),
    Case(
        "tool calls",
        openai(messages=[*message("assistant", "x", tool_calls=[{"id": "1"}]), USER]),
        param="messages[0].tool_calls[0].type",
        path=OPENAI,
    ),
    Case("field unknown to OpenAI", openai(foo=1), param="foo", path=OPENAI),
    Case("temperature too high", openai(temperature=2.1), param="temperature", path=OPENAI),
    Case("temperature infinite", openai()[:-1] + b', "temperature": 1e999}', param="temperature", path=OPENAI),
    Case("temperature a string", openai(temperature="hot"), param="temperature", path=OPENAI),
    Case("max_tokens zero", openai(max_tokens=0), param="max_tokens", path=OPENAI),
    Case("max_tokens a fraction", openai(max_tokens=1.5), param="max_tokens", path=OPENAI),
    Case("seed beyond 64 bits", openai(seed=2**70), param="seed", path=OPENAI),
    Case("metadata not strings", openai(metadata={"collection": 1}), param="metadata.collection", path=OPENAI),
    Case("metadata bad collection", openai(metadata={"collection": "a/b"}), param="metadata.collection", path=OPENAI),
    Case("stream option unknown", openai(stream_options={"x": 1}), param="stream_options.x", path=OPENAI),
    # embeddings
    Case("no input", b'{"model": "raydesk-encoder"}', param="input", path=EMBEDDINGS),
    Case("nothing to embed", embeddings([]), param="input", path=EMBEDDINGS),
    Case("blank to embed", embeddings(["a", " "]), param="input[1]", path=EMBEDDINGS),
    Case("tokens to embed", embeddings([1, 2]), param="input[0]", path=EMBEDDINGS),
    Case("another encoder", embeddings("a", model="ada"), 404, "unknown_model", path=EMBEDDINGS),
    Case("lone surrogate model", openai(model="\ud800"), code="invalid_json", param="model", path=OPENAI),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bad_input_is_a_clear_4xx(case: Case, client: TestClient, turns: ScriptedTurns) -> None:
    response = client.post(case.path, content=case.body, headers=case.headers)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (case.status, case.code, case.param), error
    assert error["message"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["retryable"] is False
    assert error["type"] == "invalid_request_error"
    assert turns.requests == []


def test_a_chunked_body_is_limited_as_it_arrives(client: TestClient, turns: ScriptedTurns) -> None:
    response = client.post("/v1/chat", content=(b" " * 65_536 for _ in range(20)), headers=JSON)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "payload_too_large"


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("GET", "/static/nothing.js", 404, None),
        ("GET", "/static/../app.py", 404, None),
        ("GET", "/static/%2e%2e/settings.py", 404, None),
        ("POST", "/v1/chat/", 404, None),
        ("GET", "/v1/models/nothing", 404, None),
        ("GET", "/v1/chat", 405, {"POST"}),
        ("HEAD", "/v1/chat", 405, {"POST"}),
        ("DELETE", "/v1/chat/completions", 405, {"POST"}),
        ("POST", "/v1/models", 405, {"GET", "HEAD"}),
        ("POST", "/healthz", 405, {"GET", "HEAD"}),
        ("BREW", "/readyz", 405, {"GET", "HEAD"}),
    ],
)
def test_routing_errors_are_in_the_envelope(
    method: str, path: str, status: int, allow: set[str] | None, client: TestClient
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    if method != "HEAD":  # has no body
        assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
    if allow is not None:
        assert set(response.headers["allow"].replace(" ", "").split(",")) == allow


def test_options_says_what_a_path_takes(client: TestClient) -> None:
    response = client.options("/v1/chat")
    assert (response.status_code, response.content, response.headers["allow"]) == (204, b"", "POST")


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"']
)
def test_json_may_say_its_charset(content_type: str, client: TestClient) -> None:
    response = client.post("/v1/chat", content=native(stream=False), headers={"content-type": content_type})
    assert response.status_code == 200
