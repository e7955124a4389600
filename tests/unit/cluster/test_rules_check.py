"""`raydesk rules check`, as its user sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app

pytestmark = pytest.mark.unit
VALID = "rules:\n  - name: a\n    intent: hours\n    reply: {en: {text: x}}\n"


Check = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    def run(text: str | None, *labels: str) -> tuple[int, list[str]]:
        """labels: what the published head knows; none: there is no head."""
        file = tmp_path / "rules.yaml"
        if text is not None:
            file.write_text(text, encoding="utf-8")
        monkeypatch.setattr("cluster.rules_check.known_labels", lambda _: frozenset(labels) or None)
        result = CliRunner().invoke(app, ["rules", "check", str(file)])
        return result.exit_code, result.stdout.replace(str(tmp_path), "").splitlines()

    return run


def test_valid_file(check: Check) -> None:
    assert check(VALID, "hours") == (
        0,
        ["/rules.yaml is valid: 1 rules, 0 of which ask first, and 0 slots."],
    )


def test_problems_have_their_lines_and_the_status_says_so(check: Check) -> None:
    status, lines = check(VALID + "  - {name: b, intent: x}\n  - {name: c, intent: y}\n", "hours")
    assert status == 1
    assert [line[: line.index(": it does")] for line in lines] == ["/rules.yaml:5: rules[1]", "/rules.yaml:6: rules[2]"]


def test_intent_that_the_head_does_not_know_is_a_warning(check: Check) -> None:
    status, lines = check(VALID, "opening")
    assert status == 0
    assert lines[0].startswith("warning: /rules.yaml:3: rules[0].intent: the trained head knows no intent 'hours'")


def test_without_a_head_names_are_not_checked_and_that_is_said(check: Check) -> None:
    status, lines = check(VALID)
    assert status == 0
    assert "not checked" in lines[0]


def test_missing_file(check: Check) -> None:
    status, lines = check(None)
    assert status == 1
    assert lines == ["cannot read the rules file /rules.yaml: No such file or directory"]
