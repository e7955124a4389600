"""How many replicas a day takes, and what it costs: `python -m perf.capacity --conversations-per-day 100000`.

Plays a day second by second: customers come as a Poisson stream with the shape of an office day; each question goes the
way of one path, by their shares; generated answers share the replicas of their tier, which Serve's autoscaling starts
and ends by the numbers of `--config`. So it tells not only how many replicas there are, but who waited for one.

Costs stand beside those of an API that is asked everything, and of one that is asked only what we have to generate.
Prices and rates are those of perf/data/prices.yaml, with where they come from. Shares of paths are an assumption until
`--turns FILE` gives your own (`raydesk turns --limit 10000 --json > FILE`). Draws the day (`--plot FILE.svg`), prints a
table; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from deployments.llm_scaling import wanted_replicas
from deployments.settings import TierReplicaSettings
from perf.day_plot import Curve, day_plot
from perf.metrics import percentile
from perf.provenance import ROOT, provenance

DAY_S = 86_400
# Shares of a day's questions by hour, of a shop that answers customers of one time zone.
OFFICE_DAY = (
    *(0.8, 0.5, 0.3, 0.2, 0.2, 0.4, 1.0, 2.4, 5.0, 7.5, 8.6, 8.2),
    *(6.8, 6.6, 7.2, 7.4, 6.9, 6.0, 5.6, 5.4, 5.2, 4.2, 2.4, 1.2),
)
# Of a help desk with a good cache; give your own turn log instead.
SHARES = {
    "exact_cache": 0.20,
    "semantic_cache": 0.10,
    "rule": 0.20,
    "faq": 0.20,
    "small": 0.12,
    "large": 0.10,
    "handoff": 0.05,
    "abstain": 0.03,
}
UNRESOLVED = frozenset({"handoff", "abstain"})
GENERATED = ("small", "large", "cloud")
AT_ONCE = frozenset({"exact_cache"})  # no encoder pass
BUSY = 0.6  # of what a room can do at most, on average over its busiest minute
LOOK_BACK_S = 30  # over which Serve averages


@dataclass(frozen=True, slots=True)
class Traffic:
    conversations: int  # a day
    turns: float  # of one conversation
    input_tokens: int  # of a generated turn: instructions, evidence, history, question
    output_tokens: int
    shape: tuple[float, ...]  # 24 weights

    def turns_per_s(self) -> NDArray[np.float64]:
        """(86,400,): the expected rate in each second, smooth between the hours."""
        hours = np.arange(25) * 3600.0
        weights = np.array([*self.shape, self.shape[0]])
        curve = np.interp(np.arange(DAY_S), hours, weights)
        total: NDArray[np.float64] = curve * (self.conversations * self.turns / curve.sum())
        return total


@dataclass(frozen=True, slots=True)
class ModelRates:
    turns_per_s: float
    tokens_per_s: float
    start_s: float


@dataclass(frozen=True, slots=True)
class TierDay:
    """What a tier did."""

    turns: int
    replicas: tuple[int, ...]  # at the end of each minute
    replica_hours: float
    peak_ongoing: int
    wait_p99_s: float  # for a place in a replica
    late_share: float  # that waited for longer than a second
    slowest_tokens_per_s: float  # of a stream, in the busiest second


def play_tier(
    arrivals: Sequence[int],
    replicas: TierReplicaSettings,
    rates: ModelRates,
    output_tokens: int,
    max_tokens: int | None = None,
) -> TierDay:
    """One tier's day. arrivals: turns that begin in each second. max_tokens: an answer may have; none: as it has."""
    scaling = Scaling(replicas, rates.start_s)
    active: list[float] = []  # seconds of a lone stream that each turn has left
    queue: deque[int] = deque()  # the second in which each that waits came
    waits: list[int] = []
    per_minute: list[int] = []
    peak, slowest, replica_s = 0, rates.tokens_per_s, 0
    alone_s = output_tokens / rates.tokens_per_s
    for second, came in enumerate(arrivals):
        queue.extend([second] * came)
        places = scaling.running * replicas.max_ongoing_requests - len(active)
        for _ in range(min(places, len(queue))):
            waits.append(second - queue.popleft())
            active.append(alone_s)
        if active:
            most = scaling.running * rates.turns_per_s * alone_s  # streams that run at full speed
            speed = min(1.0, most / len(active))
            slowest = min(slowest, speed * rates.tokens_per_s)
            active = [left - speed for left in active if left > speed]
        ongoing = len(active) + len(queue)
        peak = max(peak, ongoing)
        replica_s += scaling.running
        not_written = max(0, (max_tokens or output_tokens) - output_tokens)  # what an answer may have and has not
        tokens = sum(active) * rates.tokens_per_s + not_written * len(active)
        scaling.look(ongoing, tokens + len(queue) * (max_tokens or output_tokens))
        if second % 60 == 59:
            per_minute.append(scaling.running)
    return TierDay(
        turns=len(waits),
        replicas=tuple(per_minute),
        replica_hours=replica_s / 3600,
        peak_ongoing=peak,
        wait_p99_s=percentile(waits, 0.99) if waits else 0.0,
        late_share=sum(wait > 1 for wait in waits) / len(waits) if waits else 0.0,
        slowest_tokens_per_s=slowest,
    )


class Scaling:
    """Serve's autoscaling in short: a mean over half a minute, a delay either way, a start that takes its time."""

    def __init__(self, settings: TierReplicaSettings, start_s: float) -> None:
        self._settings = settings
        self._start_s = start_s
        self._most = settings.max_replicas or settings.min_replicas
        self.running = settings.min_replicas
        self._starting: deque[float] = deque()  # seconds until each is up
        self._seen: deque[float] = deque(maxlen=LOOK_BACK_S)
        self._above_s = self._below_s = 0

    def look(self, ongoing: int, tokens: float = 0.0) -> None:
        """Once a second. ongoing: turns; tokens: that they have still to write at most."""
        self._starting = deque(left - 1 for left in self._starting)
        while self._starting and self._starting[0] <= 0:
            self._starting.popleft()
            self.running += 1
        target = self._settings.target_tokens_in_flight
        self._seen.append(ongoing if target is None else tokens)
        mean = sum(self._seen) / len(self._seen)
        if target is None:
            wanted = math.ceil(mean / self._settings.target_ongoing_requests)
        else:
            wanted = math.ceil(wanted_replicas([mean], 1, 0, target, 0))
        wanted = min(max(wanted, self._settings.min_replicas), self._most)
        have = self.running + len(self._starting)
        self._above_s = self._above_s + 1 if wanted > have else 0
        self._below_s = self._below_s + 1 if wanted < have else 0
        if self._above_s > self._settings.upscale_delay_s:
            self._starting.extend([self._start_s] * (wanted - have))
            self._above_s = 0
        elif self._below_s > self._settings.downscale_delay_s:
            self.running = max(wanted - len(self._starting), self._settings.min_replicas)
            self._below_s = 0


def rooms(peak_turns_per_s: float, shares: Mapping[str, float], prices: Mapping[str, Any]) -> dict[str, int]:
    """Replicas of each room for the busiest minute; two at least, for one may die."""
    understood = peak_turns_per_s * sum(share for path, share in shares.items() if path not in AT_ONCE)
    searched = understood - peak_turns_per_s * shares.get("rule", 0.0)
    need = {
        "ingress": peak_turns_per_s / prices["ingress"]["answers_per_s"],
        "intent_classifier": understood / prices["encoder"]["passes_per_s"],
        "retriever": searched / prices["retriever"]["searches_per_s"],
    }
    return {room: max(2, math.ceil(load / BUSY)) for room, load in need.items()}


# --- costs ---


@dataclass(frozen=True, slots=True)
class Cost:
    usd_per_day: float
    usd_per_1000_conversations: float
    usd_per_resolved: float


def cost(usd_per_day: float, traffic: Traffic, resolved_share: float) -> Cost:
    thousand = usd_per_day / traffic.conversations * 1000
    return Cost(usd_per_day, thousand, thousand / 1000 / resolved_share)


def api_usd(turns: float, traffic: Traffic, api: Mapping[str, float]) -> float:
    return turns * (traffic.input_tokens * api["input"] + traffic.output_tokens * api["output"]) / 1e6


def generated_shares(shares: Mapping[str, float], tiers: Sequence[str]) -> dict[str, float]:
    """By tier; what a tier that is not there would write, the last one does."""
    written = {name: shares.get(name, 0.0) for name in tiers}
    written[tiers[-1]] += sum(shares.get(path, 0.0) for path in GENERATED if path not in written)
    return written


def resolved_share(shares: Mapping[str, float], turns: float) -> float:
    """Of conversations: in none of its turns was a person needed, or nothing known. Taken as independent."""
    return float((1 - sum(shares.get(path, 0.0) for path in UNRESOLVED)) ** turns)


# --- inputs ---


def shares_of(file: Path) -> dict[str, float]:
    """Path to its share, of a turn log's lines. Raises `ValueError` with the line's number."""
    counts: Counter[str] = Counter()
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            counts[row["path"]] += 1
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}, line {number}: not a line of 'raydesk turns --json'") from error
    counts.pop("", None)  # failed before a path was chosen
    if not counts:
        raise ValueError(f"{file} holds no answered turn")
    return {path: count / counts.total() for path, count in counts.items()}


def replicas_of(config: Path) -> dict[str, TierReplicaSettings]:
    """Tier to its scaling, of a file for `serve deploy`."""
    return {tier["name"]: TierReplicaSettings(**tier.get("replicas", {})) for tier in _tiers(config)}


def longest_answers(config: Path) -> dict[str, int | None]:
    """Tier to the most tokens of an answer; none where the file does not say."""
    return {tier["name"]: tier.get("max_output_tokens") for tier in _tiers(config)}


def _tiers(config: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(config.read_text("utf-8"))
    found: list[dict[str, Any]] = next(
        app["args"]["tiers"] for app in document["applications"] if "tiers" in app.get("args", {})
    )
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m perf.capacity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--conversations-per-day", type=int, default=100_000, help="(default: %(default)s)")
    made.add_argument("--turns-per-conversation", type=float, default=4.0, help="(default: %(default)s)")
    made.add_argument("--input-tokens", type=int, default=1200, help="of a generated turn (default: %(default)s)")
    made.add_argument("--output-tokens", type=int, default=150, help="of a generated turn (default: %(default)s)")
    made.add_argument("--flat", action="store_true", help="as many customers at night as at noon")
    made.add_argument("--turns", type=Path, metavar="FILE", help="path shares of your own turn log")
    made.add_argument("--config", type=Path, default=ROOT / "serve_config.yaml", help="whose scaling is played")
    made.add_argument("--prices", type=Path, default=ROOT / "perf/data/prices.yaml")
    made.add_argument("--plot", type=Path, metavar="FILE.svg", help="the day as a picture")
    made.add_argument("--seed", type=int, default=0)
    return made


# --- what is said ---


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    traffic = Traffic(
        conversations=options.conversations_per_day,
        turns=options.turns_per_conversation,
        input_tokens=options.input_tokens,
        output_tokens=options.output_tokens,
        shape=(1.0,) * 24 if options.flat else OFFICE_DAY,
    )
    try:
        shares = shares_of(options.turns) if options.turns else SHARES
        scaling, longest = replicas_of(options.config), longest_answers(options.config)
        prices: dict[str, Any] = yaml.safe_load(options.prices.read_text("utf-8"))
        rates = ModelRates(**prices["model"])
    except (OSError, ValueError, KeyError, StopIteration, yaml.YAMLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    head = provenance()
    random = np.random.default_rng(options.seed)
    expected = traffic.turns_per_s()
    written = generated_shares(shares, list(scaling))
    days = {
        name: play_tier(
            random.poisson(expected * written[name]).tolist(), replicas, rates, traffic.output_tokens, longest[name]
        )
        for name, replicas in scaling.items()
    }
    need = rooms(float(expected.max()), shares, prices)
    document = head | {
        "benchmark": "capacity",
        "traffic": asdict(traffic),
        "peak_turns_per_s": round(float(expected.max()), 2),
        "shares": shares,
        "shares_are": "measured" if options.turns else "assumed",
        "rooms": need,
        "tiers": {name: asdict(day) | {"replicas": _span(day.replicas)} for name, day in days.items()},
        "costs": costs(traffic, shares, days, need, scaling, prices),
    }
    if options.plot:
        curves = [Curve("turns/s", expected[59::60].tolist())]
        curves += [Curve(f"{name} replicas", [float(count) for count in day.replicas]) for name, day in days.items()]
        options.plot.write_text(day_plot("A day", curves), "utf-8")
    print(table(document))
    print(json.dumps(document, ensure_ascii=False))
    return 0


def costs(
    traffic: Traffic,
    shares: Mapping[str, float],
    days: Mapping[str, TierDay],
    need: Mapping[str, int],
    scaling: Mapping[str, TierReplicaSettings],
    prices: Mapping[str, Any],
) -> dict[str, Any]:
    """Ours, and each API asked everything, and asked only what is generated (with our rooms in front)."""
    resolved = resolved_share(shares, traffic.turns)
    cores = {"ingress": 1, "intent_classifier": 2, "retriever": 2}  # of a replica, as serve_config.yaml has them
    core_hours = 24.0 * sum(cores[room] * count for room, count in need.items())
    gpu_hours = sum(day.replica_hours * scaling[name].num_gpus for name, day in days.items())
    rooms_usd = core_hours * prices["cpu"]["usd_per_core_hour"]
    gpu_usd = gpu_hours * prices["gpu"]["usd_per_hour"]
    ours = cost(rooms_usd + gpu_usd, traffic, resolved)
    turns = traffic.conversations * traffic.turns
    generated = sum(day.turns for day in days.values())
    result: dict[str, Any] = {
        "resolved_share": round(resolved, 3),
        "gpu_hours_per_day": round(gpu_hours, 1),
        "core_hours_per_day": round(core_hours, 1),
        "raydesk": asdict(ours),
        "apis": {},
    }
    for api in prices["apis"]:
        everything = cost(api_usd(turns, traffic, api), traffic, resolved)
        rest = cost(rooms_usd + api_usd(generated, traffic, api), traffic, resolved)
        result["apis"][api["name"]] = {
            "asked_everything": asdict(everything),
            "asked_what_is_generated": asdict(rest),
            "times_ours": round(everything.usd_per_day / ours.usd_per_day, 1),
        }
    return result


def table(document: Mapping[str, Any]) -> str:
    traffic, money = document["traffic"], document["costs"]
    lines = [
        f"{traffic['conversations']:,} conversations of {traffic['turns']:g} turns a day, "
        f"{document['peak_turns_per_s']:g} turns/s at the busiest; path shares {document['shares_are']}",
        "",
        f"{'tier':12}{'turns':>10}{'replicas':>12}{'GPU h':>8}{'at once':>9}{'wait p99':>10}{'late':>8}{'slowest':>12}",
    ]
    for name, day in document["tiers"].items():
        lines.append(
            f"{name:12}{day['turns']:>10,}{day['replicas']:>12}{day['replica_hours']:>8.1f}{day['peak_ongoing']:>9}"
            f"{day['wait_p99_s']:>8.0f} s{day['late_share']:>8.2%}{day['slowest_tokens_per_s']:>8.0f} t/s"
        )
    lines += ["", "rooms       " + ", ".join(f"{room} {count}" for room, count in document["rooms"].items()), ""]
    lines.append(f"{'':34}{'$ a day':>10}{'$ / 1,000':>11}{'$ / resolved':>14}{'times ours':>12}")
    lines.append(_priced("Raydesk", money["raydesk"], 1.0))
    for name, api in money["apis"].items():
        lines.append(_priced(f"{name}, asked everything", api["asked_everything"], api["times_ours"]))
        rest = api["asked_what_is_generated"]
        lines.append(
            _priced(f"{name}, for what is generated", rest, rest["usd_per_day"] / money["raydesk"]["usd_per_day"])
        )
    return "\n".join(lines)


def _priced(name: str, what: Mapping[str, float], times: float) -> str:
    return (
        f"{name:34}{what['usd_per_day']:>10,.0f}{what['usd_per_1000_conversations']:>11.2f}"
        f"{what['usd_per_resolved']:>14.4f}{times:>12.1f}"
    )


def _span(counts: Sequence[int]) -> str:
    return f"{min(counts)}-{max(counts)}" if min(counts) < max(counts) else str(counts[0])


if __name__ == "__main__":
    sys.exit(main())
