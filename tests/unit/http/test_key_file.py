"""Keys that come and go while the service runs, and floods of wrong ones."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from deployments.answering.errors import AuthenticationError, RateLimitedError
from deployments.answering.types import Principal
from deployments.http.app import build_http_app
from deployments.http.auth import Authenticator
from deployments.http.key_file import KeyFileError, Keys, parse_keys, read_keys, watch_keys
from deployments.settings import ApiKey
from tests.unit.http.scripted_turns import ScriptedTurns, counting_ids, settings

pytestmark = pytest.mark.unit


def entry(name: str, key: str) -> dict[str, object]:
    return {"id": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "tenant": "acme"}


def content(*entries: dict[str, object]) -> bytes:
    return yaml.safe_dump({"auth": {"keys": list(entries)}}).encode()


def keys(*entries: dict[str, object]) -> Keys:
    return parse_keys(content(*entries), Path("keys.yaml"))


def exposed(keys_file: str = "keys.yaml", **auth: object) -> Authenticator:
    return Authenticator(settings(http={"bind_host": "0.0.0.0"}, auth={"keys_file": keys_file} | auth))  # noqa: S104


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"auth: {keys: [{id: shop}]}", "keys.0.sha256"),
        (b"auth: {keys: [], extra: 1}", "nothing else"),
        (b"keys: []", "nothing else"),
        (b"", "nothing else"),
        (b"auth: [", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (content(entry("shop", "a"), entry("shop", "b")), "two keys of one id: shop"),
    ],
)
def test_a_file_that_is_not_valid_is_refused_by_name_and_place(text: bytes, named: str) -> None:
    with pytest.raises(KeyFileError, match=named) as refused:
        parse_keys(text, Path("keys.yaml"))
    assert "keys.yaml" in str(refused.value)


def test_a_raw_key_put_there_by_mistake_is_not_repeated() -> None:
    text = content(entry("shop", "a") | {"sha256": "rd_the_key_itself"})
    with pytest.raises(KeyFileError) as refused:
        parse_keys(text, Path("keys.yaml"))
    assert "rd_the_key_itself" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"none\.yaml"):
        read_keys(tmp_path / "none.yaml")


def test_old_and_new_key_overlap_and_the_revoked_one_is_dead() -> None:
    authenticator = exposed()
    authenticator.use_keys(keys(entry("old", "one"), entry("new", "two")))
    assert authenticator.of_key("one") == Principal("acme", frozenset({"public"}), "old")
    authenticator.use_keys(keys(entry("new", "two")))
    with pytest.raises(AuthenticationError):
        authenticator.of_key("one")
    assert authenticator.of_key("two").key_id == "new"


def test_who_came_in_by_a_key_that_was_revoked_or_narrowed_no_longer_stands() -> None:
    authenticator = exposed()
    authenticator.use_keys(keys(entry("shop", "one") | {"audiences": ["public", "staff"]}))
    principal = authenticator.of_key("one")
    assert authenticator.still_stands(principal)
    authenticator.use_keys(keys(entry("shop", "one")))
    assert not authenticator.still_stands(principal)


def test_an_empty_file_lets_nobody_in_but_those_of_the_settings() -> None:
    authenticator = exposed(keys=[entry("fixed", "three")])
    authenticator.use_keys(())
    assert authenticator.of_key("three").key_id == "fixed"
    with pytest.raises(AuthenticationError):
        authenticator.of_key("one")


def test_on_loopback_a_key_file_makes_wrong_keys_wrong() -> None:
    authenticator = Authenticator(settings(auth={"keys_file": "keys.yaml"}))
    with pytest.raises(AuthenticationError):
        authenticator.of_key("sk-whatever")


def test_a_flood_of_wrong_keys_is_told_to_wait_and_shuts_nobody_out() -> None:
    now = [0.0]
    exposed_settings = settings(http={"bind_host": "0.0.0.0"}, auth={"keys": [entry("shop", "one")]})  # noqa: S104
    authenticator = Authenticator(exposed_settings, lambda: now[0])
    refusals: list[type[Exception]] = []
    for number in range(1000):  # in a minute
        now[0] += 0.06
        with pytest.raises((AuthenticationError, RateLimitedError)) as refused:
            authenticator.of_key(f"wrong {number}")
        refusals.append(refused.type)
    assert refusals[:60] == [AuthenticationError] * 60
    assert 800 < refusals.count(RateLimitedError) <= 1000 - 60
    assert isinstance(refused.value, RateLimitedError)
    assert refused.value.retry_after_s == 1
    assert authenticator.of_key("one").key_id == "shop"
    now[0] += 60
    with pytest.raises(AuthenticationError):
        authenticator.of_key("wrong once more")


@pytest.mark.parametrize(
    "sent",
    [
        "' OR '1'='1",
        "rd_x'; DROP TABLE keys;--",
        "../../keys",
        "{{7*7}}",
        "${jndi:ldap://x}",
        "a" * 4000,
        "%00",
        "undefined",
    ],
)
def test_a_key_that_is_an_attack_is_a_wrong_key(sent: str) -> None:
    exposed_settings = settings(http={"bind_host": "0.0.0.0"}, auth={"keys": [entry("shop", "one")]})  # noqa: S104
    app = build_http_app(exposed_settings, ScriptedTurns(), new_id=counting_ids())
    with TestClient(app) as client:
        answer = client.get("/v1/models", headers={"authorization": f"Bearer {sent}"})
    assert answer.status_code == 401
    assert sent[:20] not in answer.text


async def test_the_file_is_read_again_when_it_changes_and_what_is_not_valid_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_bytes(content(entry("one", "1")))
    used: list[list[str]] = []

    def use(found: tuple[ApiKey, ...]) -> None:
        used.append([key.id for key in found])

    async def until(count: int) -> None:
        async with asyncio.timeout(10):
            while len(used) < count:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.005)

    watching = asyncio.create_task(watch_keys(file, use, 0.01))
    await until(1)
    file.write_bytes(b"auth: [")
    await asyncio.sleep(0.05)
    file.unlink()
    await asyncio.sleep(0.05)
    file.write_bytes(content())
    await until(2)
    watching.cancel()
    assert used == [["one"], []]
