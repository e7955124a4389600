"""Two language models, and which of them writes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from deployments import ingress
from deployments.answering.routing import BUILT_IN, RoutingModel, Term
from deployments.answering.rules_file import RulesError, load_rules
from deployments.answering.types import Done, TurnRecord
from deployments.fakes import InMemoryTurnLog
from deployments.ingress import IngressApp, Rooms
from deployments.llm import Tier
from deployments.settings import RoutingSettings, TierSettings
from models.fakes import ScriptedLLM
from tests.unit.deployments.conftest import RULES, Shop

pytestmark = pytest.mark.unit
EASY = "what does standard delivery to Cologne cost"
HARD = "why does standard delivery to Cologne take four working days, and how much is delivery to Cologne if not"
BY_RULE = RULES + "  - {name: descaling, intent: descaling, retrieve: true, tier: large}\n"


async def two_tiers(tmp_path: Path, **changes: Any) -> Shop:
    shop = await Shop(tmp_path, **changes).ready()
    settings = TierSettings(name="large", model_id="l", model_source="l", first_token_timeout_s=0.3)
    large = Tier(settings, ScriptedLLM("Standard delivery to Cologne costs 4.95 euros."))
    await large._look_at_it()
    shop.pipeline.models.tiers["large"] = large
    return shop


async def wrote(shop: Shop, question: str, **changes: Any) -> TurnRecord:
    events, record = await shop.ask(question, **changes)
    assert isinstance(events[-1], Done)
    return record


async def test_what_is_simple_is_for_the_small_model_and_what_is_not_for_the_large(tmp_path: Path) -> None:
    shop = await two_tiers(tmp_path)
    easy, hard = await wrote(shop, EASY), await wrote(shop, HARD)
    assert (easy.path, hard.path) == ("small", "large")
    assert easy.route_score > BUILT_IN.threshold > hard.route_score > 0
    assert "parts -" in hard.route_reason
    assert hard.route_features["parts"] > easy.route_features["parts"] == 1.0
    assert set(hard.row()["route_features"]) == set(hard.route_features)


async def test_caller_who_names_a_model_gets_it(tmp_path: Path) -> None:
    shop = await two_tiers(tmp_path)
    assert (await wrote(shop, EASY, model="large")).path == "large"
    assert (await wrote(shop, HARD, model="small")).path == "small"


async def test_tier_that_is_not_up_leaves_the_answer_to_the_next(tmp_path: Path) -> None:
    shop = await two_tiers(tmp_path)
    settings = TierSettings(name="large", model_id="l", model_source="l")
    shop.pipeline.models.tiers["large"] = Tier(settings, ScriptedLLM("…"))
    record = await wrote(shop, HARD)
    assert record.path == "small"
    assert record.degraded == ["large:starting"]


async def test_one_model_is_not_chosen_and_its_features_are_kept_all_the_same(tmp_path: Path) -> None:
    shop = await Shop(tmp_path).ready()
    record = await wrote(shop, EASY)
    assert (record.path, record.route_score) == ("small", 0.0)
    assert record.route_features["covered"] > 0.5
    assert "the only model" in record.route_reason


async def test_rule_names_the_tier(tmp_path: Path) -> None:
    examples = {"descaling": ["descale brew machine cups citric acid"]}
    shop = await two_tiers(tmp_path, rules=BY_RULE, examples=examples)
    record = await wrote(shop, "descale the brew one machine cups citric acid")
    assert record.path == "large"
    assert "by a rule" in record.route_reason


def test_tier_of_a_rule_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(BY_RULE.replace("tier: large", "tier: huge"), "utf-8")
    with pytest.raises(RulesError, match=r"rules\[2\]\.tier: Input should be 'small', 'large' or 'cloud'"):
        load_rules(file, 0.9, 0.3)
    file.write_text(RULES.replace("intent: opening_hours", "intent: opening_hours\n    tier: large"), "utf-8")
    with pytest.raises(RulesError, match="it needs 'retrieve: true'"):
        load_rules(file, 0.9, 0.3)


def test_another_routing_model_is_another_policy(tmp_path: Path) -> None:
    pipeline = Shop(tmp_path).pipeline
    before = pipeline.policy_version
    pipeline.use_routing(RoutingModel(0.0, {}, 0.5, fingerprint="other"))
    assert pipeline.policy_version != before


async def test_newly_fitted_model_is_used_and_one_that_is_not_valid_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingress, "RULES_INTERVAL_S", 0.01)
    file = tmp_path / "routing.json"
    file.write_text(RoutingModel(-1.0, {"compares": Term(-1.0)}, 0.5).to_json(), "utf-8")
    shop = Shop(tmp_path)
    intents = shop.settings.intents.model_copy(update={"rules": str(tmp_path / "rules.yaml"), "head": str(tmp_path)})
    settings = shop.settings.model_copy(update={"intents": intents, "routing": RoutingSettings(model=str(file))})
    rooms = Rooms(shop.pipeline.classifier, shop.retriever, None, InMemoryTurnLog(), [])
    pipeline = (app := IngressApp(settings, rooms))._pipeline
    assert pipeline.models.router.model.bias == -1.0
    async with app.asgi.router.lifespan_context(app.asgi):
        file.write_text("{}", "utf-8")
        await asyncio.sleep(0.1)
        assert pipeline.models.router.model.bias == -1.0
        file.write_text(RoutingModel(2.0, {}, 0.5).to_json(), "utf-8")
        async with asyncio.timeout(10):
            while pipeline.models.router.model.bias != 2.0:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.005)
