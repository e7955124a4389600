"""Every embedder: the shipped fake and the bundled encoder."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import models.bert
from models.embedder import BertEmbedder, EncoderConfig, ModelLoadError
from models.fakes import HashEmbedder
from models.protocols import Embedder

pytestmark = pytest.mark.conformance

TEXTS = ["Where is my parcel?", "怎么申请退款?", "", "refund " * 2000, "naïve 🙂 emoji", "Where is my parcel?"]


@pytest.fixture(scope="module", params=["hash", "bert-fp32", "bert-bf16"])
def embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "hash":
        return HashEmbedder()
    if request.param == "bert-bf16" and not {"avx512_bf16", "amx_bf16"} & set(
        Path("/proc/cpuinfo").read_text().split()
    ):
        pytest.skip("this processor emulates bf16, which takes minutes")
    if request.param == "bert-fp32":
        bert: Embedder = request.getfixturevalue("bert")
        return bert
    folder: Path = request.getfixturevalue("bundled_encoder")
    return EncoderConfig(str(folder), precision="bf16").load()


def test_vectors_are_float32_units(embedder: Embedder) -> None:
    for vectors in (embedder.embed_queries(TEXTS), embedder.embed_passages(TEXTS)):
        assert vectors.shape == (len(TEXTS), embedder.dim)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    for vectors in (embedder.embed_queries([]), embedder.embed_passages([])):
        assert vectors.shape == (0, embedder.dim)
        assert vectors.dtype == np.float32


def test_a_text_means_the_same_in_any_company(embedder: Embedder) -> None:
    together = embedder.embed_queries([*TEXTS, *(f"question {n}" for n in range(70))])
    for index in (0, 1, 4):
        alone = embedder.embed_queries([TEXTS[index]])[0]
        assert alone @ together[index] > 0.999


def test_equal_texts_are_nearest(embedder: Embedder) -> None:
    vectors = embedder.embed_passages(TEXTS)
    assert vectors[0] @ vectors[5] > 0.999
    assert vectors[0] @ vectors[1] < 0.99


def test_threads_may_share_one(embedder: Embedder) -> None:
    texts = [f"question number {n} about my order" for n in range(16)]
    expected = embedder.embed_queries(texts)
    with ThreadPoolExecutor(4) as pool:
        found = np.concatenate(list(pool.map(lambda text: embedder.embed_queries([text]), texts)))
    assert (found * expected).sum(axis=1).min() > 0.999


def test_identity_is_stable_and_tells_embedders_apart(embedder: Embedder) -> None:
    assert embedder.identity
    assert embedder.identity == embedder.identity
    assert embedder.identity != HashEmbedder(embedder.dim + 1).identity


@pytest.fixture
def bundled_copy(bundled_encoder: Path, tmp_path: Path) -> Path:
    """Of the same name, with one other byte in its weights."""
    copy = tmp_path / bundled_encoder.name
    shutil.copytree(bundled_encoder, copy)
    with (copy / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        last = weights.read(1)[0]
        weights.seek(-1, 2)
        weights.write(bytes([last ^ 1]))
    return copy


def test_bert_identity_is_known_without_loading_and_covers_weights_and_recipe(
    bundled_encoder: Path, bundled_copy: Path, bert: BertEmbedder
) -> None:
    config = EncoderConfig(str(bundled_encoder))
    others = [
        replace(config, query_prefix=""),
        replace(config, passage_prefix=""),
        replace(config, pooling="cls"),
        replace(config, max_tokens=128),
        replace(config, precision="bf16"),
        EncoderConfig(str(bundled_copy)),
    ]
    assert len({each.identity() for each in (config, *others)}) == 7
    assert replace(config, threads=2).identity() == config.identity() == bert.identity


def test_bert_in_the_fast_precision_passes_for_the_stored_one(bundled_encoder: Path, bert: BertEmbedder) -> None:
    fast = EncoderConfig(str(bundled_encoder), precision="auto").load()
    texts = ["How do I return a parcel?", "普通快递几天能到？", "refund"]
    assert fast.identity == bert.identity
    assert np.sum(fast.embed_queries(texts) * bert.embed_queries(texts), axis=1).min() > 0.9999


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_bert_of_our_own_gives_what_transformers_gives(
    bundled_encoder: Path, pooling: Literal["mean", "cls"], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EncoderConfig(str(bundled_encoder), pooling=pooling)
    ours = config.load().embed_passages(TEXTS)
    monkeypatch.setattr(models.bert, "is_bert", lambda folder, architecture: False)
    theirs = config.load().embed_passages(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_bert_knows_meaning_across_languages(bert: BertEmbedder) -> None:
    passages = bert.embed_passages(["退款会在五个工作日内到账", "我们的门店周末不营业", "如何重置登录密码"])
    (query,) = bert.embed_queries(["How long does a refund take?"])
    assert int(np.argmax(passages @ query)) == 0


def test_bert_errors_say_what_to_do(bundled_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="512 positions"):
        EncoderConfig(str(bundled_encoder), max_tokens=513).load()
    with pytest.raises(ModelLoadError, match="neither a folder nor a model id"):
        EncoderConfig(str(tmp_path / "no" / "such" / "folder")).load()
    with pytest.raises(ModelLoadError, match=r"no config\.json"):
        EncoderConfig(str(tmp_path)).load()
