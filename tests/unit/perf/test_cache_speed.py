import json
import subprocess
import sys

import pytest

from deployments.answering.cache_policy import same_question
from deployments.answering.query import normalize
from perf.cache_speed import Window, path_of, ratios, reworded
from perf.load import QUESTIONS
from perf.metrics import ClientCost, LoadSummary
from perf.replica_cpu import cpu_s

pytestmark = pytest.mark.unit


def test_rewordings_are_new_to_the_exact_key_and_the_same_question_to_the_verifier() -> None:
    reworks = list(reworded(QUESTIONS))
    keys = {normalize(question) for question in reworks}
    assert len(reworks) > 600
    assert len(keys) > 0.7 * len(reworks)
    assert keys.isdisjoint(map(normalize, QUESTIONS[:1]))
    first = [question for question in reworks if QUESTIONS[1] in question]
    assert sum(same_question(question, QUESTIONS[1], 1.0) for question in first) > 0.9 * len(first)


def test_path_is_the_desks_own_or_whether_litellm_had_it() -> None:
    answer = json.dumps({"choices": [{"message": {"raydesk": {"path": "exact_cache"}}}]}).encode()
    assert path_of({}, answer) == "exact_cache"
    assert path_of({"x-litellm-version": "1", "x-litellm-cache-key": "k"}, answer) == "litellm_cache"
    assert path_of({"x-litellm-version": "1"}, answer) == "litellm_upstream"
    assert path_of({}, b"[]") == ""


def test_ratio_is_made_within_a_round() -> None:
    def rounds(*rates: float) -> list[Window]:
        return [Window(LoadSummary(1, 1, rate, None, None, {}, {}), ClientCost(0.1, None)) for rate in rates]

    found = ratios({"desk, exact": rounds(100, 50), "no-op": rounds(200, 200)})
    assert found == {"exact_to_noop": [0.5, 0.25]}


def test_cpu_time_is_of_the_process_that_is_asked_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "sum(range(5_000_000)); input()"], stdin=subprocess.PIPE) as child:
        while not cpu_s(child.pid):  # until it has begun to count
            assert child.poll() is None
        child.communicate(b"\n")
    assert cpu_s(child.pid) == 0
