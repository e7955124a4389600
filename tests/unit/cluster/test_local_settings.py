from __future__ import annotations

from pathlib import Path

import pytest

from deployments.settings import load_settings
from models.bundled import ENCODER_FOLDER, SMALL_LLM_FOLDER

pytestmark = pytest.mark.unit
LOCAL = Path(__file__).parents[3] / "cluster" / "local.yaml"


def test_the_embedded_profile_is_valid_and_on_loopback() -> None:
    settings = load_settings(LOCAL)
    assert settings.is_loopback
    assert settings.auth.keys == ()


def test_it_uses_the_bundled_models() -> None:
    settings = load_settings(LOCAL)
    assert Path(settings.encoder.model).name == ENCODER_FOLDER
    assert [Path(tier.model_source).name for tier in settings.tiers] == [SMALL_LLM_FOLDER]


def test_prompt_and_answer_fit_into_the_model() -> None:
    for tier in load_settings(LOCAL).tiers:
        assert tier.context_tokens <= tier.engine_kwargs["max_model_len"]
        assert tier.replicas.max_ongoing_requests <= tier.engine_kwargs["max_num_seqs"]


def test_the_launcher_fills_in_the_cache() -> None:
    settings = load_settings(LOCAL, {"cache": {"url": "unix:///tmp/x/valkey.sock"}})
    assert settings.cache.url == "unix:///tmp/x/valkey.sock"
    assert settings.tiers == load_settings(LOCAL).tiers
