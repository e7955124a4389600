"""Who may reach a model that is not ours, and what it is told of a customer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.answering.errors import UnknownModelError
from deployments.answering.types import Done, Principal
from deployments.llm import Tier
from deployments.settings import TierSettings
from models.fakes import ScriptedLLM
from tests.unit.deployments.conftest import Shop

pytestmark = pytest.mark.unit

GENERATED = "what does standard delivery to Cologne cost"


def cloud(*tenants: str) -> TierSettings:
    openai = {"base_url": "https://api.example.com/v1", "tenants": tenants, "api_key_env": "RAYDESK_TEST_KEY"}
    return TierSettings.model_validate({"name": "cloud", "model_id": "big", "openai": openai})


async def shop_with(tmp_path: Path, settings: TierSettings) -> tuple[Shop, ScriptedLLM]:
    """Only the cloud's model is up."""
    shop = Shop(tmp_path)
    llm = ScriptedLLM("Standard delivery costs 4.95 euros.")

    async def look() -> None: ...

    tier = Tier(settings, llm, look)
    await tier._look_at_it()
    shop.pipeline.models.tiers["cloud"] = tier
    return shop, llm


async def test_a_tenant_with_permission_is_answered_by_it(tmp_path: Path) -> None:
    shop, llm = await shop_with(tmp_path, cloud("demo"))
    events, record = await shop.ask(GENERATED)
    assert isinstance(events[-1], Done)
    assert (record.path, len(llm.requests)) == ("cloud", 1)
    assert llm.requests[0].tenant == "demo"


async def test_one_without_never_is_not_even_by_name(tmp_path: Path) -> None:
    shop, llm = await shop_with(tmp_path, cloud("other"))
    _, record = await shop.ask(GENERATED)
    assert record.path == "passage"
    with pytest.raises(UnknownModelError):
        await shop.ask(GENERATED, model="cloud")
    assert llm.requests == []
    stranger = Principal("other", frozenset({"public"}), "k")
    assert "cloud" in shop.pipeline.models.tiers_for(stranger)
    assert "cloud" not in shop.pipeline.models.tiers_for(replace(stranger, tenant="*"))


async def test_looking_whether_it_is_up_generates_nothing(tmp_path: Path) -> None:
    _, llm = await shop_with(tmp_path, cloud("demo"))
    assert llm.requests == []


def test_the_key_is_in_the_environment_and_in_no_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    openai = cloud("demo").openai
    assert openai is not None
    monkeypatch.setenv("RAYDESK_TEST_KEY", "sk-secret")
    assert openai.api_key() == "sk-secret"
    assert "sk-secret" not in openai.model_dump_json() + repr(openai)
    monkeypatch.delenv("RAYDESK_TEST_KEY")
    with pytest.raises(ValueError, match="RAYDESK_TEST_KEY is not set"):
        openai.api_key()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cloud", "model_id": "m", "model_source": "m"}, "needs 'openai'"),
        ({"name": "small", "model_id": "m"}, "model_source"),
        ({"name": "cloud", "model_id": "m", "openai": {"base_url": "api.example.com"}}, "base_url"),
        ({"name": "cloud", "model_id": "m", "openai": {"base_url": "https://user:pw@example.com/v1"}}, "base_url"),
        ({"name": "cloud", "model_id": "m", "openai": {"base_url": "https://a.b/v1", "api_key": "sk"}}, "api_key"),
        (
            {"name": "cloud", "model_id": "m", "openai": {"base_url": "http://a.b", "api_key_env": "sk-1"}},
            "pattern",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TierSettings.model_validate(settings)


def test_nobody_may_use_it_unless_named() -> None:
    assert not cloud().may_use("demo")
    assert cloud("*").may_use("demo")
    assert TierSettings(name="small", model_id="m", model_source="m").may_use("anyone")
