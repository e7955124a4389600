"""What a look at a starting desk means, when to stop looking, and what is printed. No desk is started."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perf import startup
from perf.startup import (
    Found,
    Look,
    StartUp,
    StartupError,
    StillRunningError,
    Tier,
    choose_port,
    find_tier,
    fresh_clone,
    judge_curated,
    judge_generated,
    look_until,
    medians,
    options,
    plain_environment,
    refuse_if_running,
    serve_command,
    shortcomings,
    table,
)

pytestmark = pytest.mark.unit


def as_body(content: Any) -> bytes:
    return json.dumps(content).encode()


def completion(path: str, text: str = "You have 30 days.") -> bytes:
    return as_body({"choices": [{"message": {"content": text, "raydesk": {"path": path}}}]})


# --- one look ---


@pytest.mark.parametrize(
    ("exchange", "look"),
    [
        (None, Look(False, "nothing answers")),
        ((200, as_body({"path": "faq", "text": "30 days"})), Look(True, "faq")),
        ((200, as_body({"path": "exact_cache", "text": "30 days"})), Look(True, "exact_cache")),
        ((200, as_body({"path": "semantic_cache", "text": "30 days"})), Look(True, "semantic_cache")),
        ((200, as_body({"path": "faq", "text": ""})), Look(False, "faq")),
        ((200, as_body({"path": "passage", "text": "In our pages …"})), Look(False, "passage")),
        ((200, as_body({"path": "abstain", "text": "I could not find"})), Look(False, "abstain")),
        ((503, as_body({"error": {"code": "not_ready"}})), Look(False, "503 not_ready")),
        ((503, b"<html>503 Service Unavailable</html>"), Look(False, "503")),
        ((404, b""), Look(False, "404")),
        ((200, b"[]"), Look(False, "200")),
    ],
)
def test_a_curated_answer_is_told_from_everything_else(exchange: tuple[int, bytes] | None, look: Look) -> None:
    assert judge_curated(exchange) == look


@pytest.mark.parametrize(
    ("exchange", "look"),
    [
        (None, Look(False, "nothing answers")),
        ((200, completion("small")), Look(True, "small")),
        ((200, completion("passage")), Look(False, "passage")),  # quoted, because the model is not up
        ((200, completion("abstain")), Look(False, "abstain")),
        ((200, completion("small", text="")), Look(False, "small")),
        ((503, as_body({"error": {"code": "overloaded"}})), Look(False, "503 overloaded")),
        ((200, as_body({"choices": []})), Look(False, "200")),
        ((200, as_body({"choices": [{"message": None}]})), Look(False, "200")),
    ],
)
def test_a_generated_answer_is_told_from_everything_else(exchange: tuple[int, bytes] | None, look: Look) -> None:
    assert judge_generated(exchange, "small") == look


READYZ = {
    "ready": True,
    "rooms": {"retriever": "ready"},
    "tiers": [
        {"name": "large", "model_id": "raydesk-large", "state": "down"},
        {"name": "small", "model_id": "raydesk-small", "state": "starting"},
    ],
}


@pytest.mark.parametrize(
    ("exchange", "tier"),
    [
        ((200, as_body(READYZ)), Tier("small", "starting")),
        ((503, as_body(READYZ)), Tier("small", "starting")),  # rooms are not ready: the tier may be
        ((200, as_body({"ready": True, "rooms": {}, "tiers": []})), None),
        ((404, b"no route"), None),
        (None, None),
    ],
)
def test_the_tier_of_a_model_is_found(exchange: tuple[int, bytes] | None, tier: Tier | None) -> None:
    assert find_tier(exchange, "raydesk-small") == tier


# --- looking until it is there ---


def scripted(looks: list[Look]) -> Iterator[Look]:
    yield from looks


def test_looking_ends_with_the_answer_and_its_time() -> None:
    looks = scripted([Look(False, "nothing answers"), Look(False, "503"), Look(True, "faq"), Look(True, "too far")])
    found = look_until(lambda: next(looks), 0.0, threading.Event(), lambda: 12.5)
    assert found == Found(12.5, "faq")


def test_looking_ends_when_told_and_keeps_what_it_saw_last() -> None:
    stop = threading.Event()
    stop.set()
    assert look_until(lambda: Look(False, "tier small starting"), 60.0, stop, lambda: 1.0) == Found(
        None, "tier small starting"
    )


# --- the commands ---


def test_the_command_is_the_one_in_the_readme() -> None:
    assert serve_command(8123) == ["make", "--no-print-directory", "serve", "DETACH=1", "PORT=8123"]


def test_the_command_sees_a_plain_environment() -> None:
    environment = {"PATH": "/bin", "PIP_INDEX_URL": "u", "MAKEFLAGS": "-k", "VIRTUAL_ENV": "/v", "SETTINGS": "other"}
    assert plain_environment(environment) == {"PATH": "/bin", "PIP_INDEX_URL": "u"}


class Rehearsal:
    """`measure` with commands of no consequence in place of make; notes what would have been stopped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
        self.folder = folder
        (folder / "Makefile").write_text("stop:\n\t@touch stopped\n")
        monkeypatch.setattr(startup, "serve_command", lambda port: [sys.executable, "-S", "-c", code])

    def measure(self, limit_s: float) -> StartUp:
        return startup.measure(self.folder, 1, limit_s)  # nothing listens on port 1

    @property
    def has_stopped(self) -> bool:
        return (self.folder / "stopped").exists()


def test_a_command_that_fails_ends_the_looking_and_stops_nobody_elses_desk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rehearsal = Rehearsal(monkeypatch, tmp_path, "raise SystemExit(2)")
    run = rehearsal.measure(limit_s=60.0)
    assert (run.command_status, run.curated_s, run.curated_seen) == (2, None, "nothing answers")
    assert not rehearsal.has_stopped


def test_a_desk_that_never_answers_is_stopped_at_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rehearsal = Rehearsal(monkeypatch, tmp_path, "pass")
    run = rehearsal.measure(limit_s=0.3)
    assert (run.command_status, run.generated_s) == (0, None)
    assert rehearsal.has_stopped


def test_a_command_that_hangs_is_interrupted_and_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rehearsal = Rehearsal(monkeypatch, tmp_path, "import time; time.sleep(60)")
    run = rehearsal.measure(limit_s=0.3)
    assert (run.command_s, run.command_status) == (None, None)
    assert rehearsal.has_stopped


# --- where ---


def test_a_port_is_chosen_or_refused() -> None:
    free = choose_port(None)
    assert choose_port(free) == free
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(StartupError, match="is taken"):
        choose_port(server.getsockname()[1])


def fake_raydesk(checkout: Path, status: int) -> None:
    folder = checkout / ".venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "raydesk").write_text(f"#!/bin/sh\nexit {status}\n")
    (folder / "raydesk").chmod(0o755)


def test_a_folder_in_which_a_desk_runs_is_refused(tmp_path: Path) -> None:
    fake_raydesk(tmp_path, status=0)
    with pytest.raises(StartupError, match="runs in"):
        refuse_if_running(tmp_path)


def test_a_folder_in_which_none_runs_is_accepted(tmp_path: Path) -> None:
    refuse_if_running(tmp_path)  # nothing is installed
    fake_raydesk(tmp_path, status=1)
    refuse_if_running(tmp_path)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit, and a file beside it that is not in it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = tmp_path / "source"
    source.mkdir()
    (source / "Makefile").write_text("serve:\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "Makefile"], [*identity, "commit", "--quiet", "-m", "one"]):
        subprocess.run(["git", *command], cwd=source, check=True)
    (source / "notes.txt").write_text("not committed")
    return source


def test_a_clone_has_what_is_committed_and_is_deleted(repository: Path) -> None:
    with fresh_clone(repository) as checkout:
        assert (checkout / "Makefile").is_file()
        assert not (checkout / "notes.txt").exists()
    assert not checkout.parent.exists()


def test_a_clone_is_deleted_after_a_failure(repository: Path) -> None:
    with pytest.raises(RuntimeError, match="out of luck"), fresh_clone(repository) as checkout:
        raise RuntimeError("out of luck")
    assert not checkout.parent.exists()


def test_a_clone_in_which_something_still_runs_is_kept(repository: Path) -> None:
    with pytest.raises(StillRunningError), fresh_clone(repository) as checkout:
        raise StillRunningError("make stop failed")
    assert checkout.exists()


# --- what is printed ---

GOOD = StartUp(20.0, 0, 18.5, "faq", 61.25, "small")
BETTER = StartUp(16.0, 0, 15.5, "exact_cache", 59.25, "small")
CUT_SHORT = StartUp(18.0, 0, 17.0, "faq", None, "tier small starting")


def test_medians_are_of_the_runs_that_got_so_far() -> None:
    assert medians([GOOD, BETTER, CUT_SHORT]) == {"command_s": 18.0, "curated_s": 17.0, "generated_s": 60.25}
    assert medians([CUT_SHORT])["generated_s"] is None


def test_the_table_has_a_line_a_phase_and_a_column_a_run() -> None:
    assert table([GOOD, CUT_SHORT]) == [
        "seconds to                  run 1    run 2   median",
        "command returns              20.0     18.0     19.0",
        "first curated answer         18.5     17.0     17.8",
        "first generated answer       61.2        -     61.2",
    ]


def test_only_a_run_with_everything_is_complete() -> None:
    assert GOOD.is_complete
    assert not CUT_SHORT.is_complete
    assert not StartUp(20.0, 1, 18.5, "faq", 61.25, "small").is_complete


def test_what_did_not_come_is_named_with_what_was_there_instead() -> None:
    assert shortcomings(GOOD) == []
    assert shortcomings(CUT_SHORT) == ["There was no generated answer; the last look: tier small starting."]
    failed = StartUp(3.0, 2, None, "nothing answers", None, "nothing answers")
    assert shortcomings(failed)[0] == "The command ended with status 2."
    hung = StartUp(None, None, None, "nothing answers", None, "nothing answers")
    assert shortcomings(hung)[0] == "The command did not return in time."


@pytest.mark.parametrize(
    ("arguments", "limit_s"), [([], 300.0), (["--cold"], 1800.0), (["--cold", "--limit", "9"], 9.0)]
)
def test_the_limit_follows_from_the_kind_of_start(arguments: list[str], limit_s: float) -> None:
    assert options(arguments).limit == limit_s


@pytest.mark.parametrize("arguments", [["--runs", "0"], ["--runs", "11"], ["--port", "0"], ["--limit", "99999"]])
def test_arguments_out_of_range_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(arguments)
    assert "must be from" in capsys.readouterr().err
