"""The files for `serve deploy`, as far as can be told without a cluster; tests/e2e/test_serve_config.py deploys one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from deployments.settings import AppSettings

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]
FILES = ("serve_config.yaml", "cluster/one_gpu.yaml")
KEYS = '[{"id": "shop", "sha256": "' + 64 * "0" + '", "tenant": "acme"}]'


def applications(file: str) -> dict[str, dict[str, Any]]:
    document = yaml.safe_load((ROOT / file).read_text("utf-8"))
    return {application["name"]: application for application in document["applications"]}


def settings(file: str) -> AppSettings:
    return AppSettings(**applications(file)["raydesk"]["args"])


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDESK_AUTH__KEYS", KEYS)


@pytest.mark.parametrize("file", FILES)
def test_each_tier_has_an_application_that_only_the_desk_reaches_and_no_other_setting_restarts(file: str) -> None:
    """Serve replaces all replicas of an application whose args are not the same."""
    apps = applications(file)
    desk = apps.pop("raydesk")
    assert desk["route_prefix"] == "/"
    assert set(apps) == {f"raydesk-{tier.name}" for tier in settings(file).tiers}
    for name, app in apps.items():
        assert app["route_prefix"] is None
        (tier,) = (tier for tier in desk["args"]["tiers"] if name == f"raydesk-{tier['name']}")
        assert app["args"] == {"settings": {"tiers": [tier]}, "tier": tier["name"]}


@pytest.mark.parametrize("file", FILES)
def test_what_a_model_is_given_fits_into_it_and_no_stream_is_cut_by_scaling_down(file: str) -> None:
    chosen = settings(file)
    for tier in chosen.tiers:
        assert tier.context_tokens <= tier.engine_kwargs["max_model_len"]
        assert tier.replicas.max_ongoing_requests <= tier.engine_kwargs["max_num_seqs"]
        assert tier.replicas.graceful_shutdown_timeout_s > chosen.deadlines.turn_s
    assert chosen.http.replicas.graceful_shutdown_timeout_s > chosen.deadlines.turn_s
    assert chosen.http.replicas.max_ongoing_requests > chosen.http.max_concurrent_turns or file != FILES[0]


def test_llama_scales_from_one_replica_to_twenty() -> None:
    large = next(tier for tier in settings("serve_config.yaml").tiers if tier.name == "large")
    assert "Llama-3-8B-Instruct" in large.model_source
    assert (large.replicas.min_replicas, large.replicas.max_replicas) == (1, 20)
    assert large.replicas.num_gpus == 1


def test_without_a_key_nothing_starts_that_others_can_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYDESK_AUTH__KEYS")
    with pytest.raises(ValidationError, match="raydesk keys create"):
        settings("serve_config.yaml")


def test_a_misspelt_key_is_refused_by_its_name() -> None:
    arguments = applications("serve_config.yaml")["raydesk"]["args"]
    with pytest.raises(ValidationError, match="max_concurent_turns"):
        AppSettings(**arguments | {"http": arguments["http"] | {"max_concurent_turns": 1}})
