"""A rules file that changes while it is used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deployments import ingress
from deployments.fakes import InMemoryTurnLog
from deployments.ingress import IngressApp, Rooms
from tests.unit.deployments.conftest import RULES, Shop

pytestmark = pytest.mark.unit


async def test_changed_file_is_used_and_one_that_is_not_valid_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingress, "RULES_INTERVAL_S", 0.01)
    file = tmp_path / "rules.yaml"
    shop = Shop(tmp_path)
    intents = shop.settings.intents.model_copy(update={"rules": str(file), "head": str(tmp_path)})
    settings = shop.settings.model_copy(update={"intents": intents})
    rooms = Rooms(shop.pipeline.classifier, shop.retriever, None, InMemoryTurnLog(), [])
    pipeline = (app := IngressApp(settings, rooms))._pipeline
    first, policy = pipeline.rules, pipeline.policy_version

    async def until(name: str) -> None:
        async with asyncio.timeout(10):
            while pipeline.rules.named(name) is None:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.005)

    async with app.asgi.router.lifespan_context(app.asgi):
        await asyncio.sleep(0.05)
        file.write_text(RULES + "  - {name: broken}\n", encoding="utf-8")
        await asyncio.sleep(0.1)
        assert pipeline.rules is first
        file.unlink()
        await asyncio.sleep(0.1)
        assert pipeline.rules is first
        file.write_text(RULES.replace("name: hours", "name: times"), encoding="utf-8")
        await until("times")
        assert pipeline.policy_version != policy  # answers of the other rules are not given again
