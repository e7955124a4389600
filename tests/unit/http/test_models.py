"""Which models a caller is told of."""

import pytest

from tests.unit.http.scripted_turns import ClientMaker, settings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("tenants", "is_listed"), [([], False), (["shop"], False), (["demo"], True), (["*"], True)])
def test_a_model_that_the_tenant_may_not_reach_does_not_exist(
    tenants: list[str], is_listed: bool, make_client: ClientMaker
) -> None:
    elsewhere = {"base_url": "https://api.example.com/v1", "tenants": tenants}
    small = {"name": "small", "model_id": "smollm2-135m", "model_source": "x"}
    client = make_client(settings(tiers=(small, {"name": "large", "model_id": "org/big-7b", "openai": elsewhere})))
    listed = [card["id"] for card in client.get("/v1/models").json()["data"]]
    assert "smollm2-135m" in listed
    assert ("org/big-7b" in listed) is is_listed
    assert client.get("/v1/models/org/big-7b").status_code == (200 if is_listed else 404)
