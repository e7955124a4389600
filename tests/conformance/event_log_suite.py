"""What every log of events must do. A new one subclasses `EventLogSuite` and brings the fixture `logs`.

`logs`: two replicas' ends of one log, not started.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from uuid import uuid4

import pytest

from deployments.answering.protocols import Claim, EventLog, Page
from deployments.answering.types import AnswerEvent, Button, Citation, Cited, Delta, Done, Failed, Link, Meta

READER = "r" * 32
CITATION = Citation(1, "c1", "d1", "退货", "https://help.example/r", ("Orders", "Returns"), "You may…", 0.75, page=2)
EVENTS: list[AnswerEvent] = [
    Meta("t", "r", "c", "help", "zh", "small", "3 sources", ("large:starting",), "v1", 1.5, "near_exact"),
    Delta('Within "30" days. '),
    Delta("三十天\u2028\n"),
    Cited(CITATION),
    Done(
        "small", "stop", True, 11, 4, 12.5, 40.0, ("x",), (Button("More", "more?"),), (Link("R", "https://r"),), "why"
    ),
]
FAILED = Failed("engine_died", "The model stopped.", True, "r", 5)
SOON_S = 10.0

Logs = tuple[EventLog, EventLog]


@pytest.fixture
def turn_id() -> str:
    """Of one test alone."""
    return uuid4().hex


async def page_of(log: EventLog, turn_id: str, last: int, after: int = 0, owner: str = "") -> Page:
    """Once event `last` is there."""
    async with asyncio.timeout(SOON_S):
        while True:
            page = await log.read(turn_id, READER, after, owner)
            if page is not None and page.last >= last:
                return page
            await asyncio.sleep(0.01)


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not is_true():  # noqa: ASYNC110 - the other side is another process
            await asyncio.sleep(0.01)


class EventLogSuite:
    async def test_other_replica_reads_every_event_as_it_was(self, logs: Logs, turn_id: str) -> None:
        first, second = logs
        first.keep(turn_id, READER, 1, [*EVENTS[:-1], FAILED], is_repeatable=True)
        page = await page_of(second, turn_id, 5)
        assert page == Page(1, (*EVENTS[:-1], FAILED), 5, True, first.owner, True)

    @pytest.mark.parametrize("after", range(6))
    async def test_reader_gets_what_comes_after_what_it_has(self, logs: Logs, turn_id: str, after: int) -> None:
        first, second = logs
        first.keep(turn_id, READER, 1, EVENTS[:2], is_repeatable=False)
        await page_of(second, turn_id, 2)
        for number in (3, 4, 5):  # as a turn says them
            first.keep(turn_id, READER, number, [EVENTS[number - 1]], is_repeatable=False)
        page = await page_of(second, turn_id, 5, after)
        assert (page.first, list(page.events), page.is_over) == (after + 1, EVENTS[after:], True)

    async def test_turn_that_goes_on_is_not_over(self, logs: Logs, turn_id: str) -> None:
        first, second = logs
        first.keep(turn_id, READER, 1, EVENTS[:3], is_repeatable=False)
        page = await page_of(second, turn_id, 3, after=3)
        assert (page.events, page.last, page.is_over) == ((), 3, False)

    async def test_another_principals_turn_is_as_unknown_as_one_that_never_was(self, logs: Logs, turn_id: str) -> None:
        first, second = logs
        first.keep_whole(turn_id, READER, EVENTS)
        await page_of(second, turn_id, 5)
        assert await second.read(turn_id, "x" * 32, 0) is None
        assert await second.read(uuid4().hex, READER, 0) is None

    async def test_first_claim_stands_until_it_is_given_back(self, logs: Logs) -> None:
        first, second = logs
        name, body = uuid4().hex, hashlib.sha256(b"body").hexdigest()
        own, other = Claim("t1", first.owner, body), Claim("t2", second.owner, body)
        assert await first.claim(name, own) == own
        assert await second.claim(name, other) == own
        await second.unclaim(name, other)  # not its own
        assert await second.claim(name, other) == own
        await first.unclaim(name, own)
        assert await second.claim(name, other) == other

    async def test_of_fifty_claims_at_once_one_stands(self, logs: Logs) -> None:
        name = uuid4().hex
        claims = [Claim(f"t{number}", logs[number % 2].owner, "b") for number in range(50)]
        stand = await asyncio.gather(*(logs[number % 2].claim(name, claim) for number, claim in enumerate(claims)))
        assert len(set(stand)) == 1

    async def test_claim_of_who_is_gone_is_taken_over_once(self, logs: Logs) -> None:
        first, second = logs
        name = uuid4().hex
        gone, heir, late = Claim("t1", "gone", "b"), Claim("t2", first.owner, "b"), Claim("t3", second.owner, "b")
        await first.claim(name, gone)
        assert await first.claim(name, heir, instead_of=gone) == heir
        assert await second.claim(name, late, instead_of=gone) == heir

    async def test_who_reads_is_known_to_the_other_replica_for_a_while(self, logs: Logs, turn_id: str) -> None:
        first, second = logs
        assert await first.stays_s(turn_id) == 0
        await second.stay(turn_id)
        assert 0 < await first.stays_s(turn_id) <= 10

    async def test_wish_to_cancel_reaches_the_owner_alone(self, logs: Logs, turn_id: str) -> None:
        first, second = logs
        heard: dict[str, list[str]] = {"first": [], "second": []}
        await first.start(heard["first"].append)
        await second.start(heard["second"].append)
        await second.ask_to_cancel(turn_id, first.owner)
        await until(lambda: heard["first"] == [turn_id])
        assert heard["second"] == []

    async def test_replica_lives_from_its_start_on(self, logs: Logs, turn_id: str) -> None:
        first, second = logs
        first.keep(turn_id, READER, 1, EVENTS[:1], is_repeatable=False)
        assert not (await page_of(second, turn_id, 1, owner=first.owner)).is_owner_alive
        assert not await second.is_alive(first.owner)
        await first.start(lambda _: None)
        async with asyncio.timeout(SOON_S):
            while not await second.is_alive(first.owner):  # noqa: ASYNC110 - the other side is another process
                await asyncio.sleep(0.01)
        assert (await page_of(second, turn_id, 1, owner=first.owner)).is_owner_alive
