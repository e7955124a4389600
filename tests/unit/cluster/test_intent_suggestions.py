from __future__ import annotations

from typing import Any

import pytest
import yaml

from cluster.intent_suggestions import as_yaml, candidates, uncovered
from models.fakes import HashEmbedder
from models.protocols import OUT_OF_SCOPE

pytestmark = pytest.mark.unit


def turn(question: str, intent: str = OUT_OF_SCOPE, confidence: float = 0.9) -> dict[str, Any]:
    return {"question": question, "intent": intent, "intent_confidence": confidence}


def test_only_what_no_intent_covers_counts() -> None:
    turns = [
        turn("Do you gift-wrap?"),
        turn("do you  gift-wrap"),
        turn("where is it", "track_order", 0.97),
        turn("and that?", "track_order", 0.31),
        turn("answered from the cache", "", 0.0),
    ]
    assert uncovered(turns) == {"Do you gift-wrap?": 2, "and that?": 1}


def test_like_questions_become_one_candidate_ready_to_paste() -> None:
    texts = [f"gift wrap the {noun} as a present" for noun in ("lamp", "kettle", "toaster", "fan")]
    texts += [f"送货到{place}要多久" for place in ("香港", "澳门", "台湾")]
    texts += ["tell me a joke"]
    found = candidates(texts, [1, 1, 1, 1, 5, 1, 1, 9], HashEmbedder(512).embed_queries(texts), least=3)
    assert [(each.count, len(each.examples)) for each in found] == [(7, 3), (4, 4)]
    entries = yaml.safe_load(as_yaml(found))["intents"]
    assert entries[0]["name"] == "candidate_1"
    assert set(entries[0]["examples"]) == set(texts[4:7])


def test_nothing_uncovered_gives_no_candidates() -> None:
    assert candidates([], [], HashEmbedder(64).embed_queries([]), least=3) == []
