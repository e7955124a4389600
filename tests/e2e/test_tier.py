"""The real engine behind a Serve handle passes the suite that the shipped fake passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Desk

pytestmark = pytest.mark.e2e


def test_the_engine_keeps_the_contract_of_its_fake(writing_desk: Desk) -> None:
    writing_desk.passes(Path(__file__).with_name("engine_suite.py"))
