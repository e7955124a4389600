"""The OpenAPI document: it holds every route, is valid, and what is sent looks as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient

from deployments.answering.errors import all_errors, error_table
from deployments.answering.types import Delta, Done
from deployments.http.errors import BadRequestCode
from deployments.http.registry import Operation, Reply, public_paths, routes_of
from tests.unit.http.scripted_turns import ScriptedTurns, failed, meta

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
ASK = [{"role": "user", "content": "How long may I return?"}]


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    response = client.get("/openapi.json")
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def test_it_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_every_route_is_in_it_and_nothing_else(client: TestClient, document: dict[str, Any]) -> None:
    routes = client.app.routes  # type: ignore[attr-defined]
    served = {
        (re.sub(r":\w+}", "}", route.path), method)
        for route in routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert served == described
    assert {type(route) for route in routes} <= {Route, WebSocketRoute, Mount}
    assert [route.path for route in routes if isinstance(route, Mount)] == ["/static"]


def test_every_operation_has_its_words(document: dict[str, Any]) -> None:
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    names = [one["operationId"] for one in operations]
    assert len(set(names)) == len(names)
    for one in operations:
        assert one["summary"]
        assert "500" in one["responses"]
        assert any(status < "400" for status in one["responses"])
        if "requestBody" in one:
            assert one["requestBody"]["content"]["application/json"]["examples"]
            assert {"400", "401", "413", "415"} <= set(one["responses"])


def test_the_examples_are_what_they_are_examples_of(client: TestClient, document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "requestBody" not in operation:
                continue
            media = operation["requestBody"]["content"]["application/json"]
            for name, example in media["examples"].items():
                validate(example["value"], media["schema"], document)
                response = client.request(method, path, json=example["value"])
                assert response.status_code < 500 or path == "/v1/feedback", (path, name, response.text)  # no history
                assert response.status_code != 400, (path, name, response.text)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat", {"messages": ASK, "stream": False}),
        ("POST", "/v1/chat", {"messages": []}),
        ("POST", "/v1/chat/completions", {"model": "raydesk", "messages": ASK}),
        ("POST", "/v1/chat/completions", {"model": "nobody", "messages": ASK}),
        ("GET", "/v1/models", None),
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("GET", "/openapi.json", None),
    ],
)
def test_what_is_sent_looks_as_it_says(
    method: str, path: str, body: Any, client: TestClient, document: dict[str, Any]
) -> None:
    response = client.request(method, path, json=body)
    described = document["paths"][path][method.lower()]["responses"][str(response.status_code)]
    validate(response.json(), described["content"]["application/json"]["schema"], document)


def test_one_models_card_looks_as_it_says(client: TestClient, document: dict[str, Any]) -> None:
    described = document["paths"]["/v1/models/{model_id}"]["get"]["responses"]["200"]
    schema = described["content"]["application/json"]["schema"]
    for name in ("raydesk", "org/big-7b"):
        validate(client.get(f"/v1/models/{name}").json(), schema, document)


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_turns_report_looks_as_it_says(
    is_complete: bool, client: TestClient, turns: ScriptedTurns, document: dict[str, Any]
) -> None:
    client.post("/v1/chat", json={"messages": ASK})
    if not is_complete:
        turns.script = lambda request: [meta(request), Delta("a"), failed(request)]
    path = "/v1/turns/{turn_id}"
    schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    report = client.get(f"/v1/turns/{turns.requests[0].turn_id}").json()
    validate(report, schema, document)
    assert report["state"] == ("done" if is_complete else "failed")
    cancelled = client.post("/v1/cancel", json={"turn_id": turns.requests[0].turn_id})
    assert cancelled.json() == report


def test_the_rest_of_a_stream_is_what_came_after(client: TestClient, turns: ScriptedTurns) -> None:
    whole = client.post("/v1/chat", json={"messages": ASK}).text
    path = f"/v1/turns/{turns.requests[0].turn_id}/events"
    for after in range(6):
        rest = client.get(path, headers={"last-event-id": str(after), "x-request-id": "another"})
        assert rest.status_code == (200 if after < 5 else 204)
        assert rest.text == "".join(f"{block}\n\n" for block in whole.split("\n\n")[after:-1])
    assert client.get("/v1/turns/id-999/events").json()["error"]["code"] == "not_found"
    assert client.get("/v1/turns/no%20id/events").status_code == 404


def test_what_is_streamed_looks_as_it_says(client: TestClient, turns: ScriptedTurns, document: dict[str, Any]) -> None:
    stream = document["paths"]["/v1/chat"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    kinds = stream["schema"]["x-events"]
    complete = client.post("/v1/chat", json={"messages": ASK}).text
    turns.script = lambda request: [meta(request), Delta("a"), failed(request)]
    broken = client.post("/v1/chat", json={"messages": ASK}).text
    events = re.findall(r"event: (\w+)\ndata: (.*)\n", complete + broken)
    assert {name for name, _ in events} == set(kinds)
    for name, data in events:
        validate(json.loads(data), kinds[name], document)


def test_openais_chunks_look_as_it_says(client: TestClient, turns: ScriptedTurns, document: dict[str, Any]) -> None:
    path = document["paths"]["/v1/chat/completions"]["post"]
    kind = path["responses"]["200"]["content"]["text/event-stream"]["schema"]["x-events"]["message"]
    turns.script = lambda request: [meta(request), Delta("a"), Done("small", "length", grounded=False)]
    body = {"model": "raydesk", "messages": ASK, "stream": True, "stream_options": {"include_usage": True}}
    chunks = [line.removeprefix("data: ") for line in client.post("/v1/chat/completions", json=body).text.split("\n\n")]
    assert chunks[-2:] == ["[DONE]", ""]
    for chunk in chunks[:-2]:
        validate(json.loads(chunk), kind, document)


def validate(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema | {"components": document["components"]}).validate(value)


# --- the registry ---


async def nothing(_: Any) -> Any:
    raise AssertionError


def operation(method: Any = "GET", path: str = "/x", **fields: Any) -> Operation:
    words: dict[str, Any] = {"name": "x", "tag": "X", "summary": "x", "replies": [Reply("x")]}
    return Operation(method=method, path=path, endpoint=nothing, **(words | fields))


def test_a_method_of_a_path_is_given_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        routes_of([operation(), operation()])


def test_a_public_path_is_literal_and_public_for_every_method() -> None:
    assert public_paths([operation(policy="public"), operation(path="/y")]) == {"/x"}
    with pytest.raises(ValueError, match="/z/"):
        public_paths([operation(path="/z/{id}", policy="public")])
    with pytest.raises(ValueError, match="/x"):
        public_paths([operation(policy="public"), operation("POST")])


# --- the table of errors ---


def test_the_table_of_errors_is_complete() -> None:
    table = {entry.code: entry for entry in error_table()}
    assert {error.code for error in all_errors()} == set(table)
    assert set(get_args(BadRequestCode)) <= set(table)
    for entry in table.values():
        assert entry.sentence.endswith("."), entry
        assert entry.status >= 400
        assert entry.retry_after_s is None or (entry.retryable and 1 <= entry.retry_after_s <= 60), entry


def test_the_readme_names_every_error_with_its_status() -> None:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (\d{3}) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    named = {code: int(status) for codes, status in rows for code in re.findall(r"`(\w+)`", codes)}
    assert named == {entry.code: entry.status for entry in error_table()}
