"""A new replica is given customers when its rooms have loaded, and in any case some time later."""

from __future__ import annotations

import asyncio

import pytest

from deployments import ingress
from deployments.fakes import InMemoryTurnLog
from deployments.ingress import IngressApp, Rooms
from tests.unit.deployments.conftest import Shop

pytestmark = pytest.mark.unit


def app_of(shop: Shop, loaded: asyncio.Event) -> IngressApp:
    async def load() -> None:
        await loaded.wait()

    start = {"retriever": load}
    return IngressApp(
        shop.settings, Rooms(shop.pipeline.classifier, shop.retriever, None, InMemoryTurnLog(), [], start=start)
    )


async def test_a_replica_has_settled_when_its_rooms_have_loaded(shop: Shop) -> None:
    loaded = asyncio.Event()
    app = app_of(shop, loaded)
    async with app.asgi.router.lifespan_context(app.asgi):
        settled = asyncio.create_task(app.settled())
        await asyncio.sleep(0.01)
        assert not settled.done()
        loaded.set()
        await settled
        assert app.status().rooms == {"retriever": "ready"}


async def test_a_room_that_cannot_load_keeps_nobody_out_for_ever(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingress, "SETTLE_S", 0.01)
    app = app_of(shop, asyncio.Event())
    async with app.asgi.router.lifespan_context(app.asgi):
        await app.settled()
        assert app.status().rooms == {"retriever": "starting"}
        monkeypatch.setattr(ingress, "SETTLE_S", 1000)
        await app.settled()  # it is not waited for again
