import pickle

import pytest

from deployments.answering.errors import EngineBusyError

pytestmark = pytest.mark.unit


def test_the_pause_that_an_engine_asked_for_crosses_processes() -> None:
    crossed = pickle.loads(pickle.dumps(EngineBusyError("429", retry_after_s=30)))  # noqa: S301 - our own bytes
    assert (crossed.retry_after_s, crossed.message) == (30, "429")
    assert EngineBusyError().message.startswith("The model is at its limit")
