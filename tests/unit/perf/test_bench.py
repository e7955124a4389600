"""The suite goes on past what fails, says so, and its table is that of the latest results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from perf import bench
from perf.bench import PROGRAMS, README, RESULTS, Program, latest, ratios_of, run, table, with_others, with_table

pytestmark = pytest.mark.unit


def test_every_program_exists() -> None:
    for program in PROGRAMS:
        assert importlib.util.find_spec(f"perf.{program.name}") is not None


def test_one_that_fails_is_told_with_its_reason() -> None:
    row = run(Program("no_such_program", (), "none"), None)
    assert "exit status 1" in row["error"]
    assert "No module named perf.no_such_program" in row["error"]


def test_the_others_go_on_after_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"a": {"error": "broken"}, "b": {"ratios": {"x_ratio": 2.0}, "result": {}, "seconds": 1.0}}
    monkeypatch.setattr(
        bench,
        "run",
        lambda program, *_: {"program": program.name, "peer": "p", "command": "c", "commit": "d", **rows[program.name]},
    )
    results = bench.measure([Program("a", (), "p"), Program("b", (), "p")], None)
    assert [row["program"] for row in results["programs"]] == ["a", "b"]
    assert "**failed**: broken" in table(results)
    assert "x_ratio 2" in table(results)


def test_where_some_are_run_the_others_keep_the_rows_of_before() -> None:
    first, second = PROGRAMS[0].name, PROGRAMS[1].name
    before = [{"program": first, "commit": "a"}, {"program": second, "commit": "a"}, {"program": "gone", "commit": "a"}]
    rows = with_others([{"program": second, "commit": "b"}], before)
    assert rows == [{"program": first, "commit": "a"}, {"program": second, "commit": "b"}]


def test_ratios_are_found_wherever_a_name_says_so() -> None:
    result = {
        "rows": [1, 2],
        "ratios": {"qps": 1.5, "why": "x"},
        "api": {"times_ours": 20.3},
        "hold_to_bare": 2,
        "seconds": 4,
    }
    assert ratios_of(result) == {"ratios.qps": 1.5, "api.times_ours": 20.3, "hold_to_bare": 2.0}


def test_a_table_takes_the_place_of_the_one_before() -> None:
    text = with_table(README.read_text("utf-8"), "the new one")
    assert with_table(text, "the new one") == text
    assert text.count("the new one") == 1
    with pytest.raises(ValueError, match="no place"):
        with_table("nothing", "x")


@pytest.mark.skipif(not RESULTS.is_dir(), reason="nothing was measured yet")
def test_the_readme_shows_the_latest_results() -> None:
    assert with_table(README.read_text("utf-8"), table(latest())) == README.read_text("utf-8")
    for file in RESULTS.glob("*.json"):
        results = json.loads(file.read_text("utf-8"))
        assert {"commit", "machine", "load_before", "programs"} <= results.keys()
        assert "/" + "home/" not in file.read_text("utf-8")
        assert Path(file).stat().st_size < 200_000
