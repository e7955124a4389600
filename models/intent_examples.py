"""A company's own example questions: read from YAML or CSV, and checked before anything is learned from them."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import yaml

from models.protocols import OUT_OF_SCOPE, Vectors

FEW_EXAMPLES = 5  # below, an intent is trained with a warning: nothing can be said about how well it is told apart
_COLUMNS = ("text", "category")

# Two texts are near-copies when so much of their characters agree (difflib's ratio); only pairs that the encoder finds
# this close are compared, since each comparison takes 0.1 ms.
_NEAR_RATIO = 0.9
_NEAR_COSINE = 0.97
_MAX_COMPARED = 5000


class IntentDataError(ValueError):
    """Examples or a saved head that cannot be used; the message names the place."""


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    label: str
    line: int  # in its file, from 1; 0 where there is no file


def examples_of(by_label: Mapping[str, Iterable[str]]) -> list[Example]:
    return [Example(text, label, 0) for label, texts in by_label.items() for text in texts]


def read_examples(file: Path, oos_label: str = OUT_OF_SCOPE) -> list[Example]:
    """From `intents: [{name, description, examples}]` (YAML), or a table with the columns text and category (CSV).

    oos_label: the file's own name for questions that no intent covers. Raises `IntentDataError` that names the line.
    """
    try:
        content = file.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise IntentDataError(f"there is no file {file}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise IntentDataError(f"{file} cannot be read as UTF-8 text: {error}") from error
    rows = _read_csv(content, file) if file.suffix.lower() == ".csv" else _read_yaml(content, file)
    return [Example(row.text, OUT_OF_SCOPE if row.label == oos_label else row.label, row.line) for row in rows]


def _read_csv(content: str, file: Path) -> list[Example]:
    reader = csv.DictReader(content.splitlines(keepends=True), strict=True)
    examples = []
    try:
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise IntentDataError(f"{file}, line 1: there is no column {' and no column '.join(map(repr, missing))}")
        for row in reader:
            place = f"{file}, line {reader.line_num}"
            if None in row or None in row.values():
                raise IntentDataError(f"{place}: not as many columns as the header has; texts with commas need quotes")
            examples.append(_example(row["text"], row["category"], reader.line_num, place))
    except csv.Error as error:
        raise IntentDataError(f"{file}, after line {reader.line_num}: {error}") from error
    return examples


def _read_yaml(content: str, file: Path) -> list[Example]:
    try:
        document = yaml.compose(content, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise IntentDataError(f"{file} is not valid YAML: {error}") from error
    intents = _members(document).get("intents")
    if not isinstance(intents, yaml.SequenceNode):
        raise IntentDataError(f"{file} needs a list under 'intents'")
    examples, lines = [], dict[str, int]()
    for intent in intents.value:
        name, texts = _read_intent(intent, file)
        if name in lines:
            raise IntentDataError(f"{file}, line {_line(intent)}: line {lines[name]} has an intent {name!r}, too")
        lines[name] = _line(intent)
        examples += texts
    return examples


def _read_intent(intent: yaml.Node, file: Path) -> tuple[str, list[Example]]:
    members = _members(intent)
    name = _text(members.get("name"))
    if not name:
        raise IntentDataError(f"{file}, line {_line(intent)}: an intent needs a 'name'")
    texts = members.get("examples")
    if not isinstance(texts, yaml.SequenceNode) or not texts.value:
        raise IntentDataError(f"{file}, line {_line(intent)} ({name}): an intent needs a list of 'examples'")
    return name, [
        _example(_text(node), name, _line(node), f"{file}, line {_line(node)} ({name})") for node in texts.value
    ]


def _members(node: yaml.Node | None) -> dict[str, yaml.Node]:
    return {str(key.value): value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _text(node: yaml.Node | None) -> str:
    """Empty where the node is no text: `yes` and `12` are something else in YAML."""
    is_text = isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str"
    return str(node.value) if node is not None and is_text else ""


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _example(text: str, label: str, line: int, place: str) -> Example:
    if not text.strip():
        raise IntentDataError(f"{place}: an example must be a text that is not empty; in YAML put it in quotes")
    if not label.strip():
        raise IntentDataError(f"{place}: the category is empty")
    return Example(text.strip(), label.strip(), line)


def checked(examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """The examples to learn from, each text once, and warnings about the others.

    A text with two labels teaches nothing and is left out. Raises `IntentDataError` for what cannot be trained.
    """
    labels_of: dict[str, dict[str, Example]] = {}  # by normal form of the text
    for example in examples:
        labels_of.setdefault(normal_form(example.text), {}).setdefault(example.label, example)
    kept: list[Example] = []
    warnings = []
    for by_label in labels_of.values():
        if len(by_label) == 1:
            kept += by_label.values()
        else:
            places = " and ".join(f"{each.label!r}{_at(each)}" for each in by_label.values())
            text = next(iter(by_label.values())).text
            warnings.append(f"{text!r} is an example of {places}: it is left out until it has one label")
    counts = Counter(example.label for example in kept)
    gone = {example.label for example in examples} - counts.keys()
    if len(counts.keys() - {OUT_OF_SCOPE}) < 2:
        raise IntentDataError(f"training needs at least two intents besides {OUT_OF_SCOPE!r}")
    for label in sorted(gone | counts.keys()):
        if counts[label] < 2:
            raise IntentDataError(
                f"intent {label!r} has {counts[label]} different examples; it needs at least 2 to be trained, "
                f"{FEW_EXAMPLES} or more to be trusted"
            )
        if counts[label] < FEW_EXAMPLES:
            warnings.append(
                f"intent {label!r} has only {counts[label]} different examples: it is trained, but how well it is "
                f"recognised is a guess; write {FEW_EXAMPLES} or more"
            )
    return kept, warnings


def near_contradictions(examples: Sequence[Example], embeddings: Vectors) -> list[str]:
    """Warnings about nearly the same text under two labels. embeddings: (n, dim), of the same examples."""
    labels = np.array([example.label for example in examples])
    pairs = []
    for start in range(0, len(examples), 1000):  # 1,000 x n similarities at a time
        similar = embeddings[start : start + 1000] @ embeddings.T
        similar[labels[start : start + 1000, None] == labels[None, :]] = 0.0
        rows, columns = np.nonzero(similar > _NEAR_COSINE)
        near = [(float(similar[i, j]), start + int(i), int(j)) for i, j in zip(rows, columns, strict=True)]
        pairs += [pair for pair in near if pair[1] < pair[2]]
    warnings = []
    for _, i, j in sorted(pairs, reverse=True)[:_MAX_COMPARED]:
        one, other = examples[i], examples[j]
        if SequenceMatcher(None, normal_form(one.text), normal_form(other.text)).ratio() >= _NEAR_RATIO:
            warnings.append(
                f"{one.text!r} is an example of {one.label!r}{_at(one)}, and nearly the same {other.text!r} of "
                f"{other.label!r}{_at(other)}: is one of them wrong?"
            )
    return warnings


def _at(example: Example) -> str:
    return f" (line {example.line})" if example.line else ""


def normal_form(text: str) -> str:
    """Width, case, spaces and final punctuation do not tell two examples apart."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" .!?。")
