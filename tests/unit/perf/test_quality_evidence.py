"""Telling evidence from chance: the measures, and a run with the fake encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perf.quality.evidence import Found, area_under_curve, look, read_unanswerable, score
from perf.quality.retrieval import BadInputError, read_documents
from perf.quality.vectors import KeptVectors
from tests.unit.perf.test_quality_retrieval import DOCUMENTS, Recipe, write

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        ([0.9, 0.8], [0.1, 0.2], 1.0),
        ([0.1], [0.9], 0.0),
        ([0.5, 0.9], [0.5], 0.75),  # a half and a whole, of two
    ],
)
def test_the_area_is_the_share_of_pairs_in_the_right_order(
    positives: list[float], negatives: list[float], expected: float
) -> None:
    assert area_under_curve(positives, negatives) == expected


def test_kept_and_refused_are_shares_of_their_kind() -> None:
    found = [
        Found("en-en", True, True, 0.9, 0.5, 1.0),
        Found("en-en", True, False, 0.7, 0.5, 0.0),
        Found("en-en", False, False, 0.8, 0.1, 0.5),
    ]
    result = score("en-en", found)
    assert (result.answerable, result.unanswerable, result.kept, result.refused) == (2, 1, 0.5, 1.0)
    assert (result.auc_similarity, result.auc_share, result.auc_coverage) == (0.5, 1.0, 0.5)


def test_what_nothing_answers_is_told_from_what_something_does(tmp_path: Path) -> None:
    documents = read_documents(write(tmp_path / "documents.jsonl", *DOCUMENTS))
    answerable, other = look(
        documents, ["express delivery takes"], ["quantum chromodynamics"], KeptVectors(tmp_path, Recipe())
    )
    assert (answerable.languages, answerable.has_evidence, answerable.coverage) == ("en-en", True, 1.0)
    assert (other.is_answerable, other.has_evidence, other.share) == (False, False, 0.0)


def test_questions_that_nothing_answers_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "none.jsonl", {"query": "weather?", "language": "en"}, "")
    assert read_unanswerable(path) == ["weather?"]
    with pytest.raises(BadInputError, match="none"):
        read_unanswerable(write(tmp_path / "none.jsonl", json.dumps({"question": "weather?"})))
