"""Verdicts against worked examples, input that cannot be used, and the whole run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deployments.answering.context import Reading
from perf.quality import conversations as measured
from perf.quality.conversations import (
    BadInputError,
    Conversation,
    judge,
    last_two,
    read_conversations,
    read_questions,
    shares,
    touched,
)

pytestmark = pytest.mark.unit

TURNS = ["Do you ship to France?", "Yes.", "and to Germany?"]
QUERY = {"requires": [["ship", "deliver"], ["Germany"]], "forbids": ["France"]}
STANDALONE = {"standalone": True}
THANKS = {"turn": ["thanks", "small_talk"]}


def conversation(tmp_path: Path, expect: Any, turns: Any = TURNS) -> Conversation:
    path = tmp_path / "conversations.jsonl"
    path.write_text(json.dumps({"turns": turns, "expect": expect, "language": "en", "kind": "ellipsis"}) + "\n")
    (found,) = read_conversations(path)
    return found


@pytest.mark.parametrize(
    ("expect", "reading", "verdict"),
    [
        (QUERY, Reading("question", "Do you deliver to germany?"), "right"),
        (QUERY, Reading("question", "and to Germany?"), "incomplete"),
        (QUERY, Reading("question", "Do you ship to France? and to Germany?"), "incomplete"),
        (QUERY, Reading("thanks", "Do you ship to Germany?"), "other kind"),
        (STANDALONE, Reading("question", "and to Germany?"), "right"),
        (STANDALONE, Reading("question", "ship: and to Germany?"), "leak"),
        (STANDALONE, Reading("abuse", "and to Germany?"), "other kind"),
        (THANKS, Reading("small_talk", "x"), "right"),
        (THANKS, Reading("question", "x"), "other kind"),
    ],
)
def test_verdicts(tmp_path: Path, expect: Any, reading: Reading, verdict: str) -> None:
    assert judge(conversation(tmp_path, expect), reading) == verdict


def test_shares_are_by_language_and_kind(tmp_path: Path) -> None:
    given = [conversation(tmp_path, QUERY), conversation(tmp_path, STANDALONE)]
    found = shares(given, ["right", "leak"])
    assert list(found) == ["all", "en", "ellipsis"]
    assert (found["all"].n, found["all"].right, found["all"].leaks) == (2, 0.5, 1)


@pytest.mark.parametrize(
    ("expect", "turns"),
    [
        ({"requires": []}, TURNS),
        ({"requires": [[]]}, TURNS),
        ({"requires": [["a"]], "forbid": ["b"]}, TURNS),
        ({"standalone": False}, TURNS),
        ({"turn": ["question"]}, TURNS),
        (QUERY, TURNS[:2]),
        (QUERY, ["", "a", "b"]),
        ("yes", TURNS),
    ],
)
def test_input_that_cannot_be_used_is_named_by_its_line(tmp_path: Path, expect: Any, turns: Any) -> None:
    with pytest.raises(BadInputError, match=r"conversations\.jsonl:1"):
        conversation(tmp_path, expect, turns)


def test_single_questions_are_counted_when_the_history_gets_into_them() -> None:
    found = touched(["Where is it made?", "Is it warm?"], last_two)
    assert all(query == f"{history} {question}" for history, question, query in found)
    assert touched(["Where is my order?", "Do you sell lamps?"], measured.read) == []


def test_single_questions_are_read_from_json_lines_and_csv(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "How?"}\n{"query": "Why?"}\n')
    (tmp_path / "b.csv").write_text('text,category\n"Who, me?",x\n')
    assert read_questions([tmp_path / "a.jsonl", tmp_path / "b.csv"]) == ["How?", "Why?", "Who, me?"]
    (tmp_path / "c.csv").write_text("words\nx\n")
    with pytest.raises(BadInputError, match=r"c\.csv:2"):
        read_questions([tmp_path / "c.csv"])


def test_whole_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["conversations"])
    measured.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    for split in ("dev", "held-out"):
        desk = result["splits"][split]["desk"]["all"]
        assert desk["n"] >= 40
        assert desk["right"] >= 0.9
        assert desk["leaks"] == 0
