"""What of the embedder needs no weights."""

from __future__ import annotations

import random
from pathlib import Path
from typing import get_args

import pytest

from deployments.settings import EncoderSettings
from models.embedder import PRECISIONS, EncoderConfig, _batches

pytestmark = pytest.mark.unit


def test_a_pass_holds_texts_of_like_length_and_no_more_tokens_than_it_may() -> None:
    lengths = [random.Random(n).randint(1, 256) for n in range(500)]
    batches = list(_batches(lengths, 1024))
    assert sorted(row for batch in batches for row in batch) == list(range(500))
    padded = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
    assert max(padded) <= 1024
    assert sum(padded) < 1.05 * sum(lengths)


def test_a_text_longer_than_a_pass_has_one_of_its_own() -> None:
    assert list(_batches([3000, 10], 1024)) == [[1], [0]]
    assert list(_batches([], 1024)) == []


def test_a_folder_is_found_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert EncoderConfig("model").located().model == str((tmp_path / "model").resolve())
    assert EncoderConfig("intfloat/multilingual-e5-small").located().model == "intfloat/multilingual-e5-small"


def test_settings_offer_every_precision() -> None:
    assert get_args(EncoderSettings.model_fields["precision"].annotation) == PRECISIONS
