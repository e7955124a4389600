"""Every reranker: the shipped fake, and a cross-encoder of random weights, which has the real one's code."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.embedder import ModelLoadError
from models.fakes import WordReranker
from models.protocols import Reranker
from models.reranker import RerankerConfig

pytestmark = pytest.mark.conformance

PASSAGES = [
    "Returns are free within 30 days.",
    "七天内可以退货",
    "",
    "delivery " * 1000,
    "Returns are free within 30 days.",
]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "returns",
    "are",
    "free",
    "within",
    "30",
    "days",
    "delivery",
    "退",
]


def far_away() -> float:
    return time.monotonic() + 3600


def tiny_model(folder: Path, labels: int) -> Path:
    """A BERT of two layers and random weights, as it would lie in a folder of the hub."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=labels,
        initializer_range=0.5,  # wide, or all texts would have about the same score
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["words", "one output", "two outputs"])
def reranker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    if request.param == "words":
        return WordReranker()
    folder = tiny_model(tmp_path_factory.mktemp("reranker") / "tiny", 1 if request.param == "one output" else 2)
    return RerankerConfig(str(folder), max_tokens=64).load()


def test_every_passage_has_a_score_in_its_place(reranker: Reranker) -> None:
    scores = reranker.scores("are returns free", PASSAGES, far_away())
    assert scores is not None
    assert len(scores) == len(PASSAGES)
    assert scores[0] == pytest.approx(scores[4], abs=1e-5)
    assert scores[0] != pytest.approx(scores[3], abs=1e-5)


def test_a_passage_has_the_same_score_in_any_company(reranker: Reranker) -> None:
    together = reranker.scores("are returns free", [*PASSAGES, *(f"days {n}" for n in range(20))], far_away())
    alone = reranker.scores("are returns free", PASSAGES[:1], far_away())
    assert together is not None
    assert alone is not None
    assert together[0] == pytest.approx(alone[0], abs=1e-4)


def test_no_passages_have_no_scores(reranker: Reranker) -> None:
    assert reranker.scores("are returns free", [], far_away()) == []


def test_out_of_time_is_no_half_result(reranker: Reranker) -> None:
    assert reranker.scores("are returns free", PASSAGES, time.monotonic() - 1) is None


def test_threads_may_share_one(reranker: Reranker) -> None:
    expected = reranker.scores("are returns free", PASSAGES, far_away())
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: reranker.scores("are returns free", PASSAGES, far_away()), range(12)))
    assert expected is not None
    assert all(each == pytest.approx(expected, abs=1e-4) for each in found)


def test_a_slow_reranker_does_not_begin_what_it_cannot_finish() -> None:
    slow = WordReranker(s_per_passage=10.0)
    begun_s = time.monotonic()
    assert slow.scores("are returns free", PASSAGES, begun_s + 1.0) is None
    assert time.monotonic() - begun_s < 1.0


def test_a_cross_encoder_learns_how_fast_it_is(tmp_path: Path) -> None:
    cross_encoder = RerankerConfig(str(tiny_model(tmp_path / "tiny", 1)), max_tokens=64).load()
    many = [f"returns {n}" for n in range(64)]
    assert cross_encoder.scores("are returns free", many, far_away()) is not None
    cross_encoder._s_per_token = 1.0  # as if this machine were very slow
    assert cross_encoder.scores("are returns free", many, time.monotonic() + 5.0) is None


def test_a_classifier_of_many_classes_is_no_reranker(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="3 outputs"):
        RerankerConfig(str(tiny_model(tmp_path / "tiny", 3))).load()


def test_a_folder_without_a_model_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="not a model"):
        RerankerConfig(str(tmp_path)).load()
