"""Engines that die, hang and come back, under a desk of two ingress replicas and two tiers of two replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Desk

pytestmark = pytest.mark.e2e


def test_customers_get_their_answers_though_engines_die(scripted_desk: Desk) -> None:
    scripted_desk.passes(Path(__file__).with_name("dying_engines_suite.py"))
    scripted_desk.wait_for_tiers()
