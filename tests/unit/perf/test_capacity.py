from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from deployments.settings import TierReplicaSettings
from perf.capacity import (
    OFFICE_DAY,
    SHARES,
    ModelRates,
    Scaling,
    Traffic,
    api_usd,
    generated_shares,
    main,
    play_tier,
    resolved_share,
    rooms,
    shares_of,
)

pytestmark = pytest.mark.unit
RATES = ModelRates(turns_per_s=2.0, tokens_per_s=50.0, start_s=5.0)
PRICES = {
    "ingress": {"answers_per_s": 100},
    "encoder": {"passes_per_s": 10},
    "retriever": {"searches_per_s": 10},
}


def tier(**settings: float) -> TierReplicaSettings:
    given = {"upscale_delay_s": 2, "downscale_delay_s": 10, "target_ongoing_requests": 4, "max_ongoing_requests": 8}
    return TierReplicaSettings(**given | settings)


def test_a_day_holds_all_turns_and_its_noon_is_busier_than_its_night() -> None:
    rate = Traffic(1000, 4, 100, 10, OFFICE_DAY).turns_per_s()
    assert rate.sum() == pytest.approx(4000)
    assert rate[10 * 3600] > 20 * rate[3 * 3600]


def test_turns_within_what_a_replica_does_wait_for_nothing() -> None:
    day = play_tier([1] * 600, tier(), RATES, output_tokens=100)
    assert (day.turns, day.wait_p99_s, day.replicas[-1]) == (600, 0, 1)
    assert day.slowest_tokens_per_s == pytest.approx(50)


def test_more_turns_than_that_slow_streams_down_or_start_replicas() -> None:
    alone = play_tier([4] * 600, tier(), RATES, output_tokens=100)
    assert alone.slowest_tokens_per_s < 50
    assert alone.late_share > 0.5
    scaled = play_tier([4] * 600, tier(max_replicas=8), RATES, output_tokens=100)
    assert scaled.replicas[-1] >= 2
    assert scaled.late_share < alone.late_share / 2
    assert scaled.replica_hours > alone.replica_hours


def test_a_replica_counts_once_it_is_up_and_goes_once_it_has_long_been_too_many() -> None:
    scaling = Scaling(tier(max_replicas=4), start_s=5)
    for _ in range(7):
        scaling.look(16)
    assert scaling.running == 1  # asked for after 3 s, up after 8
    for _ in range(3):
        scaling.look(16)
    assert scaling.running == 4
    for _ in range(60):
        scaling.look(0)
    assert scaling.running == 1


def test_by_tokens_long_answers_start_a_replica_before_their_streams_are_many() -> None:
    by_tokens = tier(max_replicas=8, target_ongoing_requests=100, target_tokens_in_flight=800)
    long = play_tier([1] * 300, by_tokens, RATES, output_tokens=100, max_tokens=1000)
    short = play_tier([1] * 300, by_tokens, RATES, output_tokens=100, max_tokens=120)
    assert long.replicas[-1] > short.replicas[-1] == 1


def test_rooms_are_two_at_least_and_more_for_more_questions() -> None:
    assert set(rooms(0.1, SHARES, PRICES).values()) == {2}
    busy = rooms(100.0, SHARES, PRICES)
    assert busy["intent_classifier"] > busy["ingress"]
    assert busy["intent_classifier"] > busy["retriever"]  # a rule needs no search


def test_what_a_missing_tier_would_write_is_written_by_the_one_that_is_there() -> None:
    assert generated_shares({"faq": 0.5, "small": 0.3, "large": 0.2}, ["large"]) == {"large": 0.5}
    shares = {"small": 0.3, "large": 0.2}
    assert generated_shares(shares | {"faq": 0.5}, ["small", "large"]) == shares


def test_costs_by_hand() -> None:
    traffic = Traffic(1000, 4, 1000, 100, OFFICE_DAY)
    assert api_usd(4000, traffic, {"input": 2.0, "output": 10.0}) == pytest.approx(8 + 4)
    assert resolved_share({"handoff": 0.1, "faq": 0.9}, 2) == pytest.approx(0.81)


def test_shares_are_read_from_a_turn_log_and_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    log = tmp_path / "turns.jsonl"
    log.write_text("".join(json.dumps({"path": path}) + "\n" for path in ("faq", "faq", "small", "rule", "")))
    assert shares_of(log) == {"faq": 0.5, "small": 0.25, "rule": 0.25}
    log.write_text('{"path": "faq"}\nnonsense\n')
    with pytest.raises(ValueError, match="line 2"):
        shares_of(log)


def test_the_program_plays_production_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "day.svg"
    assert main(["--conversations-per-day", "2000", "--plot", str(plot)]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(document["tiers"]) == {"small", "large"}
    assert document["costs"]["apis"]["GPT-4o"]["times_ours"] > 0
    drawn = ElementTree.fromstring(plot.read_text())  # noqa: S314  (our own)
    assert len([part for part in drawn if part.tag.endswith("polyline")]) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--turns", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
