"""`raydesk rules check`, as its user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app

pytestmark = pytest.mark.unit
VALID = "rules:\n  - name: a\n    intent: hours\n    reply: {en: {text: x}}\n"


def check(tmp_path: Path, text: str | None, *labels: str) -> tuple[int, list[str]]:
    file, head = tmp_path / "rules.yaml", tmp_path / "head"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    if labels:
        (head / "v1").mkdir(parents=True)
        (head / "v1" / "head.json").write_text(json.dumps({"labels": labels}))
    result = CliRunner().invoke(app, ["rules", "check", str(file), "--head", str(head)])
    return result.exit_code, result.stdout.replace(str(tmp_path), "").splitlines()


def test_valid_file(tmp_path: Path) -> None:
    assert check(tmp_path, VALID, "hours") == (
        0,
        ["/rules.yaml is valid: 1 rules, 0 of which ask first, and 0 slots."],
    )


def test_problems_have_their_lines_and_the_status_says_so(tmp_path: Path) -> None:
    status, lines = check(tmp_path, VALID + "  - {name: b, intent: x}\n  - {name: c, intent: y}\n", "hours")
    assert status == 1
    assert [line[: line.index(": it does")] for line in lines] == ["/rules.yaml:5: rules[1]", "/rules.yaml:6: rules[2]"]


def test_intent_that_the_head_does_not_know_is_a_warning(tmp_path: Path) -> None:
    status, lines = check(tmp_path, VALID, "opening")
    assert status == 0
    assert lines[0].startswith("warning: /rules.yaml:3: rules[0].intent: the trained head knows no intent 'hours'")


def test_without_a_head_names_are_not_checked_and_that_is_said(tmp_path: Path) -> None:
    status, lines = check(tmp_path, VALID)
    assert status == 0
    assert "not checked" in lines[0]


def test_missing_file(tmp_path: Path) -> None:
    status, lines = check(tmp_path, None)
    assert status == 1
    assert lines == ["cannot read the rules file /rules.yaml: No such file or directory"]
