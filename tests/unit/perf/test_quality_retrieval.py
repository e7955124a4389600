"""Measures against worked examples; input that cannot be used; and the whole run, with the fake encoder."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from models.fakes import HashEmbedder
from models.protocols import Embedder
from perf.quality.ranking import Measures, documents_of, mean, measure
from perf.quality.retrieval import BadInputError, Query, half_of, rank, read_documents, read_queries, score
from perf.quality.vectors import KeptVectors

pytestmark = pytest.mark.unit


# --- measures ---


@pytest.mark.parametrize(
    ("ranking", "relevant", "expected"),
    [
        # the first of two relevant ones is first, the other is not found: DCG 1, ideal 1 + 1/log2(3)
        ("a b c", "a x", Measures(0.5, 0.5, 0.5, 1.0, 1 / (1 + 1 / math.log2(3)))),
        # third: MRR 1/3, DCG 1/log2(4) = 0.5, ideal 1
        ("b c a", "a", Measures(0.0, 1.0, 1.0, 1 / 3, 0.5)),
        # both in order: everything is as good as can be, but one place holds one document
        ("a b c", "a b", Measures(0.5, 1.0, 1.0, 1.0, 1.0)),
        # tenth, and eleventh, which is too deep
        ("b c d e f g h i j a", "a", Measures(0.0, 0.0, 1.0, 1 / 10, 1 / math.log2(11))),
        ("b c d e f g h i j k a", "a", Measures(0.0, 0.0, 0.0, 0.0, 0.0)),
        ("b c", "a", Measures(0.0, 0.0, 0.0, 0.0, 0.0)),
        ("", "a", Measures(0.0, 0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_measures(ranking: str, relevant: str, expected: Measures) -> None:
    assert measure(ranking.split(), frozenset(relevant.split())) == expected


def test_more_than_ten_relevant_documents_can_still_be_ranked_perfectly() -> None:
    everything = [str(number) for number in range(12)]
    found = measure(everything, frozenset(everything))
    assert found.ndcg_at_10 == pytest.approx(1.0)
    assert found.recall_at_10 == pytest.approx(10 / 12)


def test_means_are_over_questions_and_named_as_usual() -> None:
    both = mean([Measures(1.0, 1.0, 1.0, 1.0, 1.0), Measures(0.0, 0.5, 1.0, 0.25, 0.5)])
    assert both.to_json() == {"recall@1": 0.5, "recall@5": 0.75, "recall@10": 1.0, "mrr": 0.625, "ndcg@10": 0.75}


def test_a_document_stands_where_its_best_chunk_does() -> None:
    assert documents_of(["b", "a", "b", "c", "a"]) == ["b", "a", "c"]


# --- input ---


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines), "utf-8")
    return path


DOCUMENTS: tuple[dict[str, str], ...] = (
    {"id": "returns", "title": "Returns", "content": "## When\n\nSend it back within 30 days."},
    {"id": "delivery", "title": "Delivery", "content": "Express delivery takes one day."},
    {"id": "zh", "title": "退货", "content": "收到商品后七天内可以申请退货。"},
)


def test_documents_are_read_as_ingestion_reads_them(tmp_path: Path) -> None:
    found = read_documents(write(tmp_path / "any.name", *DOCUMENTS))
    assert [(document.id, document.title) for document in found] == [
        ("returns", "Returns"),
        ("delivery", "Delivery"),
        ("zh", "退货"),
    ]
    assert found[0].blocks[0].kind == "heading"


def test_a_folder_of_articles_will_do(tmp_path: Path) -> None:
    (tmp_path / "articles" / "a").mkdir(parents=True)
    (tmp_path / "articles" / "a" / "one.md").write_text("# One\n\nText.", "utf-8")
    assert [document.id for document in read_documents(tmp_path / "articles")] == ["articles/a/one.md"]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["{broken"], r"documents\.jsonl:1.*JSON"),
        ([DOCUMENTS[0], {"id": "empty", "title": "Empty", "content": "  "}], r"documents\.jsonl:2"),
        ([DOCUMENTS[0], DOCUMENTS[0]], r"two documents have the id 'returns'"),
        ([], r"is empty|no documents"),
    ],
)
def test_documents_that_cannot_be_used(tmp_path: Path, lines: list[object], reason: str) -> None:
    with pytest.raises(BadInputError, match=reason):
        read_documents(write(tmp_path / "documents.jsonl", *lines))


def test_documents_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"none\.jsonl"):
        read_documents(tmp_path / "none.jsonl")


def test_queries_are_read_with_ids_of_any_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "queries.jsonl", {"query": "how", "relevant": [7, "b"], "note": "of ours"}, "")
    assert read_queries(path, frozenset({"7", "b"})) == [Query("how", frozenset({"7", "b"}))]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", r"queries\.jsonl:2.*JSON"),
        ([], r"queries\.jsonl:2"),
        ({"query": "how"}, r"queries\.jsonl:2.*relevant"),
        ({"query": "how", "relevant": []}, r"queries\.jsonl:2.*at least one"),
        ({"query": " ", "relevant": ["a"]}, r"queries\.jsonl:2"),
        ({"query": "how", "relevant": "a"}, r"queries\.jsonl:2"),
        ({"query": "how", "relevant": ["a", "nowhere"]}, r"queries\.jsonl:2.*nowhere"),
    ],
)
def test_queries_that_cannot_be_used(tmp_path: Path, line: object, reason: str) -> None:
    path = write(tmp_path / "queries.jsonl", {"query": "fine", "relevant": ["a"]}, line)
    with pytest.raises(BadInputError, match=reason):
        read_queries(path, frozenset({"a"}))


def test_a_file_without_queries(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no queries"):
        read_queries(write(tmp_path / "queries.jsonl"), frozenset({"a"}))
    with pytest.raises(BadInputError, match=r"missing\.jsonl"):
        read_queries(tmp_path / "missing.jsonl", frozenset({"a"}))


def test_the_halves_are_all_and_have_nothing_in_common() -> None:
    queries = [Query(str(number), frozenset("a")) for number in range(5)]
    dev, held_out = half_of(queries, "dev"), half_of(queries, "held-out")
    assert half_of(queries, "all") == queries
    assert sorted(query.text for query in dev + held_out) == ["0", "1", "2", "3", "4"]


# --- the whole run ---


class Recipe:
    """The hash embedder, which counts how often it is loaded and what it is given."""

    def __init__(self) -> None:
        self.loads = 0

    def identity(self) -> str:
        return HashEmbedder(512).identity

    def load(self) -> Embedder:
        self.loads += 1
        return HashEmbedder(512)


def test_every_search_ranks_documents_and_all_are_scored(tmp_path: Path) -> None:
    documents = read_documents(write(tmp_path / "documents.jsonl", *DOCUMENTS))
    queries = [
        Query("send it back within 30 days", frozenset({"returns"})),
        Query("express delivery", frozenset({"delivery"})),
        Query("七天内退货", frozenset({"zh"})),
    ]
    rankings = rank(documents, queries, KeptVectors(tmp_path / "vectors", Recipe()))
    assert [each["hybrid"][0] for each in rankings] == ["returns", "delivery", "zh"]
    assert [each["lexical"][0] for each in rankings] == ["returns", "delivery", "zh"]
    assert sorted(rankings[0]["dense"]) == ["delivery", "returns"]  # in the question's language
    scores = score(queries, rankings)
    assert list(scores) == ["dense", "lexical", "hybrid"]
    assert scores["hybrid"] == Measures(1.0, 1.0, 1.0, 1.0, 1.0)


def test_a_question_in_a_language_that_the_documents_do_not_speak_looks_into_all(tmp_path: Path) -> None:
    documents = read_documents(write(tmp_path / "documents.jsonl", *DOCUMENTS[:2]))
    (ranking,) = rank(
        documents, [Query("Express 快递", frozenset({"delivery"}))], KeptVectors(tmp_path / "vectors", Recipe())
    )
    assert ranking["lexical"] == ["delivery"]
    assert sorted(ranking["dense"]) == sorted(ranking["hybrid"]) == ["delivery", "returns"]


def test_vectors_are_kept_and_the_encoder_is_not_loaded_again(tmp_path: Path) -> None:
    first, second = Recipe(), Recipe()
    made = KeptVectors(tmp_path, first).passages(["one", "two"])
    kept = KeptVectors(tmp_path, second)
    assert (kept.passages(["two", "one"]) == made[::-1]).all()
    assert (first.loads, second.loads) == (1, 0)
    kept.queries(["one"])  # as a question it is another text to most encoders
    assert second.loads == 1
    assert kept.passages(["one", "three"]).shape == (2, 512)
