"""Fixtures for more than one room of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything loads OpenMP: threads that spin while they wait take the core from those they wait for, and a machine
# that is busy with the application beside the tests needs ten times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from models.bundled import ensure_encoder

_MODELS = Path(__file__).parents[1] / ".raydesk" / "models"


@pytest.fixture(scope="session")
def bundled_encoder() -> Path:
    """The bundled encoder's folder; built by the first run (20 s and a download), found by all others."""
    return ensure_encoder(_MODELS, print)
