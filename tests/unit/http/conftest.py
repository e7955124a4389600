"""The HTTP side over scripted turns, driven in process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from deployments.http.app import build_http_app
from deployments.settings import AppSettings
from tests.unit.http.scripted_turns import ClientMaker, ScriptedTurns, counting_ids, embed, settings


@pytest.fixture
def turns() -> ScriptedTurns:
    return ScriptedTurns()


@pytest.fixture
def make_client(turns: ScriptedTurns) -> Iterator[ClientMaker]:
    clients: list[TestClient] = []

    def make(app_settings: AppSettings | None = None, base_url: str = "http://127.0.0.1:8000") -> TestClient:
        app = build_http_app(
            app_settings or settings(),
            turns,
            metrics=lambda: b"turns_total 1\n",
            embed=embed,
            new_id=counting_ids(),
            now_s=lambda: 1e9,
        )
        clients.append(TestClient(app, base_url=base_url).__enter__())
        return clients[-1]

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: ClientMaker) -> TestClient:
    return make_client()
