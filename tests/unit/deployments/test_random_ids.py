"""Ids of requests, turns and conversations."""

from __future__ import annotations

import re

import pytest

from deployments.random_ids import RandomIds

pytestmark = pytest.mark.unit


def test_none_comes_twice_and_each_is_as_long_as_asked_for() -> None:
    ids = [make() for make in (RandomIds(16), RandomIds(16)) for _ in range(1000)]
    assert len(set(ids)) == 2000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
