"""Who may come in: keys, tenants, loopback, other web pages; and what every response carries."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from starlette.testclient import TestClient

from deployments.answering.protocols import AppStatus
from deployments.answering.types import Principal
from deployments.http.admission import Admission
from deployments.http.app import build_http_app
from deployments.http.auth import Authenticator
from deployments.http.middleware import Door
from tests.unit.http.scripted_turns import READY, ClientMaker, ScriptedTurns, counting_ids, settings

pytestmark = pytest.mark.unit

BODY = {"messages": [{"role": "user", "content": "hi"}]}
KEYS = (
    {
        "id": "shop",
        "sha256": hashlib.sha256(b"rk-shop").hexdigest(),
        "tenant": "shop",
        "audiences": ("public", "staff"),
    },
    {"id": "bank", "sha256": hashlib.sha256("rk-ünï".encode()).hexdigest(), "tenant": "bank"},
)
EXPOSED = settings(http={"bind_host": "0.0.0.0"}, auth={"keys": KEYS})  # noqa: S104
LOOPBACK = settings(auth={"keys": KEYS, "loopback_tenant": "demo"})
KEYLESS = settings(auth={"keys": (), "loopback_tenant": "demo"})


@pytest.mark.parametrize(
    ("app_settings", "authorization", "principal"),
    [
        (LOOPBACK, None, Principal("demo", frozenset({"public"}), "loopback")),
        (LOOPBACK, "Bearer rk-shop", Principal("shop", frozenset({"public", "staff"}), "shop")),
        (LOOPBACK, "Bearer wrong", None),
        (KEYLESS, "Bearer sk-whatever", Principal("demo", frozenset({"public"}), "loopback")),  # as stock clients do
        (EXPOSED, None, None),
        (EXPOSED, "", None),
        (EXPOSED, "Bearer", None),
        (EXPOSED, "Bearer ", None),
        (EXPOSED, "Bearer wrong", None),
        (EXPOSED, "Bearer rk-shop rk-shop", None),
        (EXPOSED, "Basic rk-shop", None),
        (EXPOSED, "rk-shop", None),
        (EXPOSED, b"Bearer \xff\xfe", None),
        (EXPOSED, "bearer rk-shop", Principal("shop", frozenset({"public", "staff"}), "shop")),
        (EXPOSED, "Bearer  rk-shop ", Principal("shop", frozenset({"public", "staff"}), "shop")),
        (EXPOSED, "Bearer rk-ünï".encode(), Principal("bank", frozenset({"public"}), "bank")),
    ],
)
def test_the_key_says_who_asks(
    app_settings: Any,
    authorization: str | bytes | None,
    principal: Principal | None,
    make_client: ClientMaker,
    turns: ScriptedTurns,
) -> None:
    sent = authorization.encode() if isinstance(authorization, str) else authorization
    headers = {} if sent is None else {b"authorization": sent}
    response = make_client(app_settings).post("/v1/chat", json=BODY | {"stream": False}, headers=headers)
    if principal is None:
        assert (response.status_code, response.json()["error"]["code"]) == (401, "authentication_failed")
        assert response.json()["error"]["type"] == "authentication_error"
        assert response.headers["www-authenticate"] == "Bearer"
        assert turns.requests == []
    else:
        assert response.status_code == 200
        assert turns.requests[0].principal == principal


def test_two_keys_are_none(make_client: ClientMaker) -> None:
    response = make_client(EXPOSED).get(
        "/v1/models", headers=[("authorization", "Bearer rk-shop"), ("authorization", "Bearer rk-shop")]
    )
    assert response.status_code == 401


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/nothing", "/v1/chat"])
def test_everything_but_the_page_and_the_probes_needs_a_key(path: str, make_client: ClientMaker) -> None:
    assert make_client(EXPOSED).get(path).status_code == 401


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/static/chat.js", "/static/chat.css"])
def test_the_page_and_the_probes_need_no_key(path: str, make_client: ClientMaker) -> None:
    assert make_client(EXPOSED, "http://help.example").get(path).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8000", None, 200),
        ("127.0.0.2", None, 200),
        ("localhost:8000", None, 200),
        ("LOCALHOST:8000", "http://localhost:8000", 200),
        ("[::1]:8000", "http://[::1]:8000", 200),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", 200),
        ("evil.example", None, 403),  # DNS rebinding
        ("evil.example:8000", "http://evil.example:8000", 403),
        ("127.0.0.1.evil.example", None, 403),
        ("localhost.evil.example", None, 403),
        ("[::1", None, 403),
        ("", None, 403),
        ("127.0.0.1:8000", "http://evil.example", 403),  # another page posts
        ("127.0.0.1:8000", "http://127.0.0.1:3000", 403),  # another service of this machine
        ("127.0.0.1:8000", "http://localhost:8000", 403),
        ("127.0.0.1:8000", "null", 403),  # a sandboxed frame or a file
        ("127.0.0.1:8000", "http://[", 403),
    ],
)
def test_other_web_pages_cannot_use_a_loopback_service(
    host: str, origin: str | None, status: int, client: TestClient
) -> None:
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    response = client.post("/v1/chat", json=BODY, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.json()["error"]["code"] == "permission_denied"


def test_an_exposed_service_takes_any_host(make_client: ClientMaker) -> None:
    headers = {"authorization": "Bearer rk-shop", "origin": "https://shop.example"}
    assert make_client(EXPOSED, "https://help.example").get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("wished", ["", "a" * 65, "a b", "a\tb", "ä", "../x", "<script>", "a,b"])
def test_a_strange_request_id_is_replaced(wished: str, client: TestClient) -> None:
    response = client.get("/healthz", headers={b"x-request-id": wished.encode()})
    assert response.headers["x-request-id"] == "id-1"


def test_a_sound_request_id_is_kept(client: TestClient) -> None:
    assert client.get("/healthz", headers={"x-request-id": "A.b_c-9"}).headers["x-request-id"] == "A.b_c-9"


async def test_headers_that_would_steer_ray_serve_are_stripped() -> None:
    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.extend(scope["headers"])

    names = (b"x-request-timeout-seconds", b"X-Request-Disconnect-Disabled", b"x-other")
    scope = {"type": "http", "path": "/healthz", "headers": [(name, b"1") for name in names], "state": {}}
    door = Door(
        inner, settings(), frozenset({"/healthz"}), frozenset(), Admission(settings()), Authenticator(settings())
    )
    await door(scope, None, None)  # type: ignore[arg-type]
    assert seen == [(b"x-other", b"1")]


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/nothing", "/static/chat.css"])
def test_every_response_carries_the_security_headers(path: str, client: TestClient) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-request-id"]


def test_readyz_says_what_is_up(client: TestClient) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "ready": True,
        "rooms": {"intent_classifier": "ready", "retriever": "ready"},
        "tiers": [
            {"name": "small", "model_id": "smollm2-135m", "state": "ready", "breaker": "closed"},
            {"name": "large", "model_id": "org/big-7b", "state": "starting", "breaker": "closed"},
        ],
    }


def test_readyz_is_503_until_every_room_is_ready() -> None:
    turns = ScriptedTurns(status=AppStatus({"retriever": "starting"}, READY.tiers))
    client = TestClient(build_http_app(settings(), turns, new_id=counting_ids()), base_url="http://localhost")
    response = client.get("/readyz")
    assert (response.status_code, response.json()["ready"]) == (503, False)


def test_metrics_are_given_only_where_there_are_any(client: TestClient) -> None:
    response = client.get("/metrics")
    assert (response.text, response.headers["content-type"]) == (
        "turns_total 1\n",
        "text/plain; version=0.0.4; charset=utf-8",
    )
    bare = TestClient(build_http_app(settings(), ScriptedTurns(), new_id=counting_ids()), base_url="http://localhost")
    assert bare.get("/metrics").status_code == 404


def test_head_is_get_without_a_body(client: TestClient) -> None:
    assert client.head("/healthz").status_code == 200
    assert client.head("/").status_code == 200


def test_an_exception_of_ours_is_a_500_that_tells_nothing() -> None:
    def broken() -> bytes:
        raise ZeroDivisionError("secret")

    app = build_http_app(settings(), ScriptedTurns(), metrics=broken, new_id=counting_ids())
    response = TestClient(app, base_url="http://localhost").get("/metrics")
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
    assert "secret" not in response.text
