from __future__ import annotations

from pathlib import Path

import pytest

from models.intent_examples import Example, IntentDataError, read_examples
from models.protocols import OUT_OF_SCOPE

pytestmark = pytest.mark.unit


def written(tmp_path: Path, name: str, content: str) -> Path:
    file = tmp_path / name
    file.write_text(content, "utf-8")
    return file


def test_yaml_is_read_with_its_lines(tmp_path: Path) -> None:
    content = "intents:\n- name: refund\n  description: money back\n  examples:\n  - 怎么退款\n  - refund me\n"
    examples = read_examples(written(tmp_path, "intents.yaml", content))
    assert examples == [Example("怎么退款", "refund", 5), Example("refund me", "refund", 6)]


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "with BOM"])
def test_csv_is_read_with_its_lines(tmp_path: Path, mark: str) -> None:
    content = mark + 'text,category\n"refund, please",refund\n怎么退款,refund\n1+1=?,none\n'
    examples = read_examples(written(tmp_path, "train.csv", content), oos_label="none")
    assert examples == [
        Example("refund, please", "refund", 2),
        Example("怎么退款", "refund", 3),
        Example("1+1=?", OUT_OF_SCOPE, 4),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "intents: [", "not valid YAML"),
        ("a.yaml", "rules: []", "needs a list under 'intents'"),
        ("a.yaml", "intents:\n- examples: [a]", "line 2: an intent needs a 'name'"),
        ("a.yaml", "intents:\n- name: hours", r"line 2 \(hours\): an intent needs a list of 'examples'"),
        ("a.yaml", "intents:\n- name: hours\n  examples:\n  - open?\n  - yes", r"line 5 \(hours\): .* in quotes"),
        (
            "a.yaml",
            "intents:\n- {name: a, examples: [x]}\n- {name: a, examples: [y]}",
            "line 3: line 2 has an intent 'a'",
        ),
        ("a.csv", "question,label\nhi,greeting\n", "line 1: there is no column 'text'"),
        ("a.csv", "text,category\nhi,greeting\nrefund, please,refund\n", "line 3: not as many columns"),
        ("a.csv", "text,category\nhi,greeting\nhello\n", "line 3: not as many columns"),
        ("a.csv", "text,category\nhi,greeting\n,refund\n", "line 3: an example must be a text"),
        ("a.csv", "text,category\nhi,\n", "line 2: the category is empty"),
        ("a.csv", 'text,category\n"hi,greeting\n', "after line 1: "),
        ("a.csv", "", "line 1: there is no column"),
    ],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(IntentDataError, match=message):
        read_examples(written(tmp_path, name, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IntentDataError, match=r"no file .*intents\.yaml"):
        read_examples(tmp_path / "intents.yaml")


def test_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text,category\n退款,refund\n".encode("gbk"))
    with pytest.raises(IntentDataError, match="UTF-8"):
        read_examples(tmp_path / "a.csv")
