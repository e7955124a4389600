"""The whole suite at a small size: `make bench`, or some of it: `python -m perf.bench sessions capacity`.

One program after the other, each in a process of its own; one that fails, or takes too long, is told and the others go
on. Programs that ask a desk ask the one at --url, or one that is started for them and ended. Writes
perf/results/<date>-<commit>.json with commit, machine, every program's own last line and the ratios in it, and then the
table of perf/README.md; `--table` writes that alone, from the latest results. The last line is one JSON document. Small
sizes tell that everything still runs and about where it stands; perf/LOG.md has what was measured at full size.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from perf.loopback import loopback_url
from perf.provenance import ROOT, provenance

RESULTS = ROOT / "perf" / "results"
README = ROOT / "perf" / "README.md"
_BEGIN, _END = "<!-- made by python -m perf.bench -->", "<!-- end -->"
_DESK_LIMIT_S = 900.0  # until a desk is up; its models may have to be built first
_MOST_RATIOS = 6  # of one program, in the table
_JOIN_ITS_RAY = ("cache_speed", "stream")  # their peers run on the desk's own Ray: they read where that is
_TELLING = ("ratio", "times_", "_to_", "_over_", "_against_")  # parts of the names of ratios


@dataclass(frozen=True, slots=True)
class Program:
    name: str  # perf.<name>
    arguments: tuple[str, ...]  # of a small size
    peer: str  # what stands beside it in the same run
    asks_desk: bool = False
    limit_s: float = 900.0

    def command(self, url: str | None = None, state: str | None = None) -> list[str]:
        """url, state: of the desk that it asks."""
        desk = ["--url", url] if self.asks_desk and url is not None else []
        if self.name in _JOIN_ITS_RAY and state is not None:
            desk += ["--state", state]
        return ["python", "-m", f"perf.{self.name}", *self.arguments, *desk]


PROGRAMS = (
    Program("capacity", ("--conversations-per-day", "100000"), "list prices of GPT-4o, GPT-5, GPT-4.1, GPT-4o mini"),
    Program("sessions", ("--turns", "200"), "one GET and one SET of the same bytes"),
    Program("knowledge", ("--chunks", "2000", "--edits", "5", "--swaps", "5"), "a whole rebuild"),
    Program(
        "retrieval",
        ("--vectors", "40000", "--queries", "200", "--rounds", "2", "--seconds", "1", "--no-handle"),
        "FAISS Flat, hnswlib (or FAISS HNSW)",
    ),
    Program("intent_handle", ("--seconds", "3"), "all-MiniLM-L6-v2 with logistic regression"),
    Program("ingestion", ("--documents", "130"), "a plain loop with the same encoder"),
    Program("encoder", (), "character n-grams with logistic regression", limit_s=1800.0),
    Program("coalescing", ("--streams", "20", "--intervals-ms", "0", "30"), "every token by itself"),
    Program("quality.cache", (), "labelled pairs, made to trap"),
    Program("quality.conversations", (), "labelled conversations"),
    Program("quality.faq", (), "a decision by cosine alone"),
    Program("quality.evidence", (), "labelled questions"),
    Program("quality.retrieval", (), "dense and lexical search alone"),
    Program("quality.routing", (), "always small, always large, at random, kNN"),
    Program("load", ("--seconds", "2", "--concurrency", "16", "--peer"), "a bare uvicorn", asks_desk=True),
    Program(
        "cache_speed",
        ("--seconds", "1", "--rounds", "2"),
        "a no-op application on the same Serve, LiteLLM's proxy",
        asks_desk=True,
    ),
    Program(
        "stream",
        ("--streams", "1", "8", "--rounds", "1", "--max-tokens", "24"),
        "ray.serve.llm's own application",
        asks_desk=True,
    ),
    Program(
        "connections",
        ("--connections", "50", "--hold-s", "15", "--peak-s", "3", "--overload-s", "6"),
        "the desk's own peak",
        asks_desk=True,
    ),
    Program("answers", ("--limit", "60"), "the held-out truth", asks_desk=True),
    Program("startup", ("--runs", "1"), "none: seconds from the command to answers"),
)


def _row(program: Program) -> dict[str, Any]:
    return {
        "program": program.name,
        "peer": program.peer,
        "command": " ".join(program.command()),
        "commit": provenance()["commit"],
    }


def run(program: Program, url: str | None = None, state: str | None = None) -> dict[str, Any]:
    """What came of it: `result` and `ratios`, or `error`."""
    command = program.command(url, state)
    row = _row(program)
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, *command[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=program.limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return row | {"error": f"it was not done within {program.limit_s:g} s"}
    row["seconds"] = round(time.perf_counter() - began, 1)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["it said nothing"]
        return row | {"error": f"exit status {done.returncode}: {last[0][:300]}"}
    try:
        result = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return row | {"error": "its last line is not a JSON document"}
    return row | {"ratios": ratios_of(result), "result": result}


def ratios_of(result: Any, name: str = "", within: bool = False) -> dict[str, float]:
    """All numbers under a name that says that they are ratios, by their path."""
    if isinstance(result, dict):
        found: dict[str, float] = {}
        for key, value in result.items():
            path = f"{name}.{key}" if name else str(key)
            found |= ratios_of(value, path, within or any(part in str(key) for part in _TELLING))
        return found
    is_number = isinstance(result, int | float) and not isinstance(result, bool)
    return {name: float(result)} if within and is_number else {}


def table(results: dict[str, Any]) -> str:
    """Markdown."""
    processor = f", {results['processor']}" if "processor" in results else ""
    machine = f"{results['machine']}{processor}, {results['cpus']} CPUs, load {results['load_before']} before"
    lines = [
        f"{results['date']}, {machine}.",
        "",
        "| program | beside | ratios | took | commit | command |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["programs"]:
        shown = list(row.get("ratios", {}).items())
        told = "<br>".join(f"{name} {value:.3g}" for name, value in shown[:_MOST_RATIOS]) or "see its result"
        if len(shown) > _MOST_RATIOS:
            told += f"<br>and {len(shown) - _MOST_RATIOS} more"
        outcome = f"**failed**: {row['error']}".replace("|", "/") if "error" in row else told
        took = f"{row['seconds']:g} s" if "seconds" in row else "–"
        cells = (row["program"], row["peer"], outcome, took, row["commit"], f"`{row['command']}`")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_table(text: str, made: str) -> str:
    before, _, rest = text.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        raise ValueError(f"{README.name} has no place for the table: {_BEGIN} … {_END}")
    return f"{before}{_BEGIN}\n{made}\n{_END}{after}"


def with_others(rows: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of now, and of before those whose programs have not run now; in the order of `PROGRAMS`."""
    by_name = {row["program"]: row for row in (*before, *rows)}
    return [by_name[program.name] for program in PROGRAMS if program.name in by_name]


def latest() -> dict[str, Any]:
    files = sorted(RESULTS.glob("*-*.json"), key=lambda file: json.loads(file.read_text("utf-8"))["began"])
    if not files:
        raise FileNotFoundError("there are no results yet: run `make bench`")
    results: dict[str, Any] = json.loads(files[-1].read_text("utf-8"))
    return results


@contextmanager
def desk(programs: Sequence[Program], url: str | None) -> Iterator[tuple[str | None, str | None]]:
    """Address and state folder of the desk for those that ask one."""
    if url is not None or not any(program.asks_desk for program in programs):
        yield url, None
        return
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        own = {
            **os.environ,
            "RAYDESK_STATE": f"{folder}/state",
            "RAYDESK_KNOWLEDGE__ROOT": f"{folder}/knowledge",
            "RAYDESK_TURN_LOG__DSN": f"chdb:///{folder}/turnlog",
        }
        raydesk = [sys.executable, "-m", "cluster.cli"]
        port = _free_port()
        print("starting a desk …", flush=True)
        try:
            command = [*raydesk, "serve", "--sample", "--detach", "--port", str(port)]
            subprocess.run(command, cwd=ROOT, env=own, check=True, stdout=subprocess.DEVNULL, timeout=_DESK_LIMIT_S)
            yield f"http://127.0.0.1:{port}", own["RAYDESK_STATE"]
        finally:
            subprocess.run([*raydesk, "stop"], cwd=ROOT, env=own, check=False, stdout=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure(programs: Sequence[Program], url: str | None) -> dict[str, Any]:
    now = datetime.now(UTC)
    results: dict[str, Any] = {
        "benchmark": "bench",
        "date": f"{now:%Y-%m-%d}",
        "began": now.isoformat(),
        **provenance(),
    }
    rows: list[dict[str, Any]] = []
    groups = [[program for program in programs if program.asks_desk is asks] for asks in (False, True)]
    for group in groups:
        try:
            with desk(group, url) as (address, state):
                for program in group:
                    rows.append(_told(program, address, state))
        except Exception as error:  # without a desk its programs cannot run; what the others found is kept
            done = {row["program"] for row in rows}
            failed = [program for program in group if program.name not in done]
            rows += [_row(program) | {"error": str(error)[:300]} for program in failed]
    return results | {"programs": rows}


def _told(program: Program, url: str | None, state: str | None) -> dict[str, Any]:
    print(f"{program.name} …", flush=True)
    row = run(program, url, state)
    print(
        f"  {row.get('error') or ', '.join(f'{name} {value:.3g}' for name, value in row['ratios'].items()) or 'done'}"
    )
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    known = {program.name: program for program in PROGRAMS}
    parser = argparse.ArgumentParser(prog="python -m perf.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="PROGRAM", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--url", type=loopback_url, help="a desk that runs; else one is started")
    parser.add_argument("--table", action="store_true", help="only write the table of the latest results")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - known.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if options.table:
        results = latest()
    else:
        chosen = [program for program in PROGRAMS if not options.names or program.name in options.names]
        before = latest() if len(chosen) < len(PROGRAMS) and any(RESULTS.glob("*.json")) else {"programs": []}
        here = provenance()["processor"]
        if (there := before.get("processor", here)) != here:
            parser.error(f"the other rows are of {there}, and this is {here}: run the whole suite")
        results = measure(chosen, options.url)
        results["programs"] = with_others(results["programs"], before["programs"])
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"{results['date']}-{results['commit']}.json"
        file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
        print(file.relative_to(ROOT))
    README.write_text(with_table(README.read_text("utf-8"), table(results)), "utf-8")
    failed = [row["program"] for row in results["programs"] if "error" in row]
    print(table(results))
    print(f"failed: {', '.join(failed)}" if failed else "all ran")
    short = [
        {key: row[key] for key in ("program", "seconds", "ratios", "error") if key in row}
        for row in results["programs"]
    ]
    print(json.dumps(results | {"programs": short}, ensure_ascii=False))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
