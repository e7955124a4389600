"""What changed between two versions of the knowledge, whichever way they are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingestion.chunk import content_digest
from ingestion.difference import VersionChange
from ingestion.errors import UnknownVersionError
from ingestion.store import KnowledgeStore
from tests.unit.ingestion.test_store import CHUNKS, EMBEDDER, changes, pair, passage, whole

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path: Path) -> KnowledgeStore:
    store = KnowledgeStore(tmp_path)
    store.publish("demo", "help", whole(CHUNKS))
    return store


def change(store: KnowledgeStore, old: str, new: str) -> VersionChange:
    return store.change("demo", "help", old, new)


def ids(found: VersionChange) -> tuple[list[str], list[str]]:
    return sorted(key for key, _ in found.gone), sorted(chunk.id for chunk in found.added)


def test_a_delta_tells_what_came_went_and_changed_and_the_way_back_the_opposite(store: KnowledgeStore) -> None:
    parking = pair("qa-parking", "Is there parking?", "Behind the store.")
    faster = replace(CHUNKS[1], text="Shipping takes one day.")
    new = store.publish("demo", "help", changes([parking, faster, passage("care", "Wash it.")], {"staff"}))
    found = change(store, "v000001", new)
    assert ids(found) == (["shipping", "staff"], ["care", "qa-parking", "shipping"])
    assert ("shipping", content_digest(CHUNKS[1])) in found.gone
    rows = {chunk.id: row for row, chunk in enumerate(found.added)}
    np.testing.assert_allclose(
        found.question_vectors[rows["qa-parking"]], EMBEDDER.embed_queries([parking.question])[0]
    )
    assert not found.question_vectors[rows["care"]].any()
    np.testing.assert_allclose(found.vectors[rows["care"]], EMBEDDER.embed_passages(["Wash it."])[0])
    assert ids(change(store, new, "v000001")) == (["care", "qa-parking", "shipping"], ["shipping", "staff"])


def test_versions_in_between_need_not_be_walked_through(store: KnowledgeStore) -> None:
    store.publish("demo", "help", changes([passage("a", "First.")]))
    last = store.publish("demo", "help", changes([passage("b", "Second.")], {"a"}))
    assert ids(change(store, "v000001", last)) == ([], ["b"])


def test_a_new_base_with_the_same_content_and_a_chunk_that_moved_are_no_change(store: KnowledgeStore) -> None:
    moved = store.publish("demo", "help", changes([replace(CHUNKS[1], position=7, source="b.md")]))
    assert ids(change(store, "v000001", moved)) == ([], [])
    assert ids(change(store, "v000001", store.compact("demo", "help"))) == ([], [])


def test_a_version_that_is_another_one_of_the_same_name_is_unknown(store: KnowledgeStore) -> None:
    new = store.publish("demo", "help", changes([passage("a", "First.")]))
    checksum = store.manifest("demo", "help", "v000001").checksum
    assert ids(change(store, f"v000001-{checksum[:8]}", new)) == ([], ["a"])
    with pytest.raises(UnknownVersionError):
        change(store, "v000001-00000000", new)
