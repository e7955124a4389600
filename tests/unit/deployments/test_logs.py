"""Lines of the log: JSON, with the turn that they are about, and without what is nobody's business."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from deployments.logs import HIDDEN, LONGEST, configure_logs, name_in_log
from deployments.settings import LogSettings

pytestmark = pytest.mark.unit
SECRET = "redis://:hunter2@store:6379/0"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    name_in_log()
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_line_says_when_who_and_about_which_turn(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(), sys.stdout, deployment="ingress", replica="ab12")
    name_in_log(request_id="r1", turn_id="t1", tenant="acme")
    structlog.get_logger("deployments.shop").warning("room_not_up", room="cache")
    (line,) = lines(capsys)
    assert line.pop("time").endswith("Z")
    assert line == {
        "event": "room_not_up",
        "level": "warning",
        "logger": "deployments.shop",
        "deployment": "ingress",
        "replica": "ab12",
        "request_id": "r1",
        "turn_id": "t1",
        "tenant": "acme",
        "room": "cache",
    }


def test_texts_of_customers_are_written_at_debug_alone(capsys: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger("x")
    configure_logs(LogSettings(), sys.stdout)
    log.info("unsupported_sentence", sentence="我的订单号是 20458812", question="Where is 20458812?")
    log.debug("not_seen")
    configure_logs(LogSettings(level="debug"), sys.stdout)
    log.debug("unsupported_sentence", sentence="我的订单号")
    first, second = lines(capsys)
    assert first["sentence"] == first["question"] == HIDDEN
    assert second["sentence"] == "我的订单号"


def test_secrets_are_hidden_at_every_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(level="debug"), sys.stdout)
    log = structlog.get_logger("x")
    log.info("connected", where=SECRET, password="hunter2", headers=["Authorization: Bearer hunter2"])
    try:
        raise ConnectionError(f"no answer from {SECRET}")
    except ConnectionError:
        log.exception("store_away")
    text = capsys.readouterr().out
    assert "hunter2" not in text
    assert "no answer from redis://***@store:6379/0" in text


def test_a_traceback_has_no_values_of_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(), sys.stdout)
    question = "my card is " + "4111"
    try:
        raise ValueError(f"too long: {len(question)}")
    except ValueError as error:
        structlog.get_logger("x").error("turn_failed", exc_info=error)
    (line,) = lines(capsys)
    assert line["exception"][0]["exc_value"].startswith("too long")
    assert "my card is 4111" not in json.dumps(line)


def test_a_long_value_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(LogSettings(), sys.stdout)
    structlog.get_logger("x").info("much", detail="a" * 10_000)
    (line,) = lines(capsys)
    assert len(line["detail"]) == LONGEST + 1
