"""Pages of other origins: the script for them, who of them may ask, and what a key may do that stands in one."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from deployments.http.app import WEB
from deployments.http.widget import PARTS, widget_source
from tests.unit.http.scripted_turns import ClientMaker, ScriptedTurns, settings

pytestmark = pytest.mark.unit

SHOP = "https://shop.example"
BODY = {"messages": [{"role": "user", "content": "hi"}], "stream": False}
KEYS = (
    {"id": "page", "sha256": hashlib.sha256(b"rd-page").hexdigest(), "tenant": "shop", "origins": (SHOP,)},
    {"id": "secret", "sha256": hashlib.sha256(b"rd-secret").hexdigest(), "tenant": "shop"},
)
EXPOSED = settings(http={"bind_host": "0.0.0.0"}, auth={"keys": KEYS})  # noqa: S104
LOOPBACK = settings(http={"allowed_origins": (SHOP,)})
FROM_PAGE = {"origin": SHOP, "authorization": "Bearer rd-page"}


# --- the script ---


def test_the_widget_is_one_script_that_other_pages_may_load(make_client: ClientMaker) -> None:
    response = make_client(EXPOSED, "https://desk.example").get("/widget.js")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    assert response.headers["cross-origin-resource-policy"] == "cross-origin"
    assert response.headers["cache-control"] == "no-cache"
    assert not re.search(r"^(import|export)\b", response.text, re.MULTILINE)
    assert 'customElements.define("raydesk-chat"' in response.text


def test_only_the_widget_is_for_other_pages(client: TestClient) -> None:
    for path in ("/", "/static/element.js", "/healthz"):
        assert client.get(path).headers["cross-origin-resource-policy"] == "same-origin"


def test_a_browser_that_has_the_widget_does_not_get_it_again(client: TestClient) -> None:
    etag = client.get("/widget.js").headers["etag"]
    again = client.get("/widget.js", headers={"if-none-match": f'W/"old", {etag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)


def test_no_two_parts_of_the_widget_call_different_things_by_one_name() -> None:
    declared = re.findall(r"^(?:async )?(?:function\*?|class|const|let) (\w+)", widget_source(WEB), re.MULTILINE)
    assert len(declared) > 30
    assert sorted(declared) == sorted(set(declared))


def test_every_part_imports_from_those_before_it_alone() -> None:
    for at, part in enumerate(PARTS):
        imported = re.findall(r'^import [^;]+ from "\./([\w.]+)";', (WEB / part).read_text(), re.MULTILINE)
        assert set(imported) <= set(PARTS[:at])


# --- who may ask from where ---


def preflight(client: TestClient, origin: str, **headers: str) -> Any:
    asked = {"origin": origin, "access-control-request-method": "POST"} | headers
    return client.options("/v1/chat", headers=asked)


@pytest.mark.parametrize("app_settings", [EXPOSED, LOOPBACK])
def test_an_allowed_page_may_send_what_a_chat_needs(app_settings: Any, make_client: ClientMaker) -> None:
    wanted = "authorization,content-type,idempotency-key,last-event-id"
    response = preflight(make_client(app_settings), SHOP, **{"access-control-request-headers": wanted})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == SHOP
    assert "access-control-allow-credentials" not in response.headers
    assert set(wanted.split(",")) <= set(response.headers["access-control-allow-headers"].lower().split(", "))


@pytest.mark.parametrize("app_settings", [EXPOSED, LOOPBACK, settings()])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://shop.example", "https://shop.example:444"])
def test_no_other_page_is_told_that_it_may(app_settings: Any, origin: str, make_client: ClientMaker) -> None:
    client = make_client(app_settings)
    assert "access-control-allow-origin" not in preflight(client, origin).headers
    assert "access-control-allow-origin" not in client.post("/v1/chat", json=BODY, headers={"origin": origin}).headers


def test_on_loopback_an_allowed_page_may_ask_and_others_may_not(make_client: ClientMaker) -> None:
    client = make_client(LOOPBACK)
    allowed = client.post("/v1/chat", json=BODY, headers={"origin": SHOP})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "Origin" in allowed.headers["vary"]
    assert client.post("/v1/chat", json=BODY, headers={"origin": "https://evil.example"}).status_code == 403


def test_a_page_can_read_why_it_was_refused(make_client: ClientMaker) -> None:
    response = make_client(EXPOSED).post("/v1/chat", json=BODY, headers={"origin": SHOP})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (401, SHOP)
    assert "x-request-id" in response.headers["access-control-expose-headers"]


# --- a key that stands in a page ---


def test_a_key_of_a_page_asks_from_that_page(make_client: ClientMaker, turns: ScriptedTurns) -> None:
    assert make_client(EXPOSED).post("/v1/chat", json=BODY, headers=FROM_PAGE).status_code == 200
    assert turns.requests[0].principal.key_id == "page"


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null"])
def test_a_key_of_a_page_is_of_no_use_elsewhere(origin: str | None, make_client: ClientMaker) -> None:
    headers = {"authorization": "Bearer rd-page"} | ({"origin": origin} if origin else {})
    response = make_client(EXPOSED).post("/v1/chat", json=BODY, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (403, "permission_denied")


@pytest.mark.parametrize(
    "path",
    ["/v1/models", "/metrics", "/v1/conversations", "/v1/conversations/c1", "/v1/chat/completions", "/v1/turns/t"],
)
def test_a_key_of_a_page_does_nothing_but_ask(path: str, make_client: ClientMaker) -> None:
    assert make_client(EXPOSED).get(path, headers=FROM_PAGE).status_code == 403
    assert make_client(EXPOSED).delete(path, headers=FROM_PAGE).status_code == 403


@pytest.mark.parametrize("path", ["/v1/turns/t1/events", "/v1/cancel", "/v1/feedback"])
def test_a_key_of_a_page_follows_ends_and_rates_its_turns(path: str, make_client: ClientMaker) -> None:
    assert make_client(EXPOSED).put(path, headers=FROM_PAGE).status_code in (404, 405)  # past the door


def test_a_secret_key_is_not_bound_to_pages(make_client: ClientMaker) -> None:
    assert make_client(EXPOSED).get("/v1/models", headers={"authorization": "Bearer rd-secret"}).status_code == 200


# --- the settings ---


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://Shop.Example", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(written: str, origin: str) -> None:
    assert settings(http={"allowed_origins": (written,)}).allowed_origins == (origin,)


@pytest.mark.parametrize(
    "written",
    [
        *("*", "null", "", "shop.example", "https://*.shop.example", "https://shop.example/", "https://a@shop.example"),
        *(
            "ftp://shop.example",
            "https://shop.example/chat",
            "https://",
            "https://shop.example:x",
            "https://店.example",
        ),
    ],
)
def test_what_is_no_origin_is_refused(written: str) -> None:
    with pytest.raises(ValidationError, match=r"origin|Port"):
        settings(http={"allowed_origins": (written,)})


def test_a_key_that_everybody_can_read_sees_what_is_public_alone() -> None:
    with pytest.raises(ValidationError, match="'public' alone"):
        settings(auth={"keys": (KEYS[0] | {"audiences": ("public", "staff")},)})
