"""Who is let in when more ask than can be answered in time: early, before a body is parsed, and cheaply.

Two things tell. How late questions are heard: by this process's event loop, of which each turn needs several rounds,
and before it, since the loop accepts one connection a round, so that with many of them its rounds stay short and
customers wait outside. While that is later than `target_lag_s`, a growing share of the questions is refused. And how
many turns wait for a part of ours (the encoder's thread, a search): not more than get done within `target_wait_s`. A
language model is no such part: it is slow by nature, and has a queue and a breaker of its own. Either way those that
begin a conversation are refused first, those of running conversations only once all of the others are. Where few are
at work, ask, or wait, nobody is refused.

To refuse a question takes this process a third of what it takes to answer one. So it tells the door in front of it
what share of new conversations to refuse (`cluster/haproxy_door.cfg`), and what the door has chosen it does not choose
anew.
"""

from __future__ import annotations

import asyncio
import math
import random
import socket
import time
from collections.abc import Callable

import structlog

from deployments.answering.errors import OverloadedError, RateLimitedError
from deployments.answering.types import Principal
from deployments.http.rate import TokenBucket
from deployments.settings import AppSettings

log = structlog.get_logger(__name__)

TICK_S = 0.05  # pause between looks at the loop
# Share by which refusals grow in a second in which questions are heard twice as late as they may be, and shrink in one
# in which they are heard at once.
_GAIN_PER_S = 1.0
_MOST_LATE = 3.0  # of the target: later counts no more, so that one long pause of the process sheds next to nobody
# So much one pause of the process makes of it, garbage or a neighbour on the machine: that refuses nobody yet.
_ONE_PAUSE = _GAIN_PER_S * (_MOST_LATE - 1) * 2 * TICK_S
_FEW = 16  # at work, and waiting: with fewer it is the machine that is slow, and refusing would help nobody
_MEMORY_S, _LEAST_SEEN_S = 1.0, 0.2  # of how fast turns get on: about so much of the past; not told by less of it
_MOST_RETRY_S = 60
CAME_HEADER = "x-raydesk-came"  # from the door: its host, and when it took the question, Unix ms
SHED_HEADER = b"x-raydesk-shed"  # to the door, with each response: percent of new conversations to refuse
CHOSEN_HEADER = "x-raydesk-chosen"  # from the door: this one is to be answered
_MOST_SHED = 95  # percent: of all that come some must pass, whose answers tell the door when it is over
_HOST = socket.gethostname()
# What only a conversation that has begun sends along. Looked for in the body's bytes: a refusal must not cost a parse.
_SIGNS_OF_A_CONVERSATION = (b'"conversation_id"', b'"assistant"')


class Shedding:
    """What share of the questions to refuse. Pure: told how late they are heard."""

    def __init__(self, target_lag_s: float) -> None:
        self._target_s = target_lag_s
        self._late = 0.0  # at the last look, in multiples of the target
        self._grown = 0.0  # 0-1

    def observe(self, lag_s: float, elapsed_s: float) -> None:
        """lag_s: how late that was. elapsed_s: since the last look; a long pause counts as a short one."""
        late, before = min(lag_s / self._target_s, _MOST_LATE), self._late
        self._late = late
        passed_s = min(elapsed_s, 2 * TICK_S)
        if late < 1:
            self._grown = max(0.0, self._grown - _GAIN_PER_S * (1 - late) * passed_s)
        elif late >= before:  # or what waits is getting less already: to refuse more would leave nothing to do
            self._grown = min(1.0, self._grown + _GAIN_PER_S * (late - 1) * passed_s)

    @property
    def share(self) -> float:
        """0-1; up to a half it falls on new conversations alone."""
        return max(0.0, self._grown - _ONE_PAUSE) / (1 - _ONE_PAUSE)

    def refusal_probability(self, is_running: bool) -> float:
        """is_running: of a conversation that has begun."""
        return max(0.0, 2 * self.share - 1) if is_running else min(1.0, 2 * self.share)


class Asked:
    """The questions since the last look. Pure."""

    def __init__(self) -> None:
        self._count = 0
        self._longest_wait_s = 0.0

    def note(self, waited_s: float) -> None:
        """waited_s: since the door took it."""
        self._count += 1
        self._longest_wait_s = max(self._longest_wait_s, waited_s)

    def taken(self) -> tuple[int, float]:
        """How many, and how long one of them had waited, seconds. Begins anew."""
        found = self._count, self._longest_wait_s
        self._count, self._longest_wait_s = 0, 0.0
        return found


class Queue:
    """How many turns may wait for parts of ours, and what share of the questions to refuse. Pure.

    By Little's law: who comes waits as long as it takes to get those done that wait already. That tells at once what
    their waits will tell only once they are over.
    """

    def __init__(self, target_wait_s: float) -> None:
        self._target_s = target_wait_s
        self._waiting = 0
        self._gone = 0
        self._got_on = self._busy_s = 0.0  # turns, and in what time; the further back, the less they count

    def observe(self, waiting: int, come: int, elapsed_s: float) -> None:
        """waiting: turns that do now. come: all that ever came. elapsed_s: since the last look."""
        gone = come - waiting
        if self._waiting >= _FEW:  # with fewer it shows how many come, not how many can be done
            kept = math.exp(-elapsed_s / _MEMORY_S)
            self._got_on = kept * self._got_on + gone - self._gone
            self._busy_s = kept * self._busy_s + elapsed_s
        self._waiting, self._gone = waiting, gone

    @property
    def limit(self) -> float:
        """Turns that may wait; of new conversations half as many."""
        if self._busy_s < _LEAST_SEEN_S:
            return math.inf
        return max(2 * _FEW, self._target_s * self._got_on / self._busy_s)

    def refusal_probability(self, is_running: bool) -> float:
        """is_running: of a conversation that has begun."""
        full = self._waiting / self.limit
        return min(1.0, max(0.0, full - 1 if is_running else 2 * full - 1))


class AtWork:
    """Around each question that was let in."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class Admission:
    def __init__(
        self,
        settings: AppSettings,
        random_share: Callable[[], float] | None = None,
        waiting: Callable[[], tuple[int, int]] = lambda: (0, 0),
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """random_share: gives 0-1, evenly distributed. waiting: as `TurnRunner.waiting`. now_s: Unix time."""
        self._waiting = waiting
        self._now_s = now_s
        self._asked = Asked()
        self._had_many_s = -math.inf  # loop time: where all is answered at once, nobody is seen at work
        self._queue = Queue(settings.http.target_wait_s)
        self._shedding = Shedding(settings.http.target_lag_s)
        self.at_work = AtWork()
        self._random_share = random_share or random.Random().random  # noqa: S311 - it only spreads refusals
        self._buckets = {
            key.id: TokenBucket(key.requests_per_minute / 60, max(1.0, key.requests_per_minute / 6))
            for key in settings.auth.keys
            if key.requests_per_minute is not None
        }

    @property
    def chooses(self) -> bool:
        """Whether it matters what a question is of: new conversations are refused, and running ones not all."""
        return self._share(is_running=False) > 0 and self._share(is_running=True) < 1

    def note(self, came: str | None) -> None:
        """A question, before it is looked at. came: as the door has it (`CAME_HEADER`)."""
        host, _, came_ms = (came or "").partition(" ")
        is_told = host == _HOST and came_ms.isdecimal() and len(came_ms) < 20  # other machines' clocks may differ
        self._asked.note(self._now_s() - int(came_ms) / 1000 if is_told else 0.0)

    def tells(self) -> list[tuple[bytes, bytes]]:
        """The header that tells the door whom to refuse; none while that is nobody."""
        share = self._share(is_running=False)
        return [(SHED_HEADER, b"%d" % min(_MOST_SHED, round(100 * share)))] if share else []

    def check(self, principal: Principal, is_running: bool) -> None:
        """Raises `RateLimitedError` where this key asks too fast, and `OverloadedError` where too many ask.

        is_running: of a conversation that has begun; also what the door has chosen.
        """
        bucket = self._buckets.get(principal.key_id)
        if bucket is not None and not bucket.take(asyncio.get_running_loop().time()):
            raise _with_pause(RateLimitedError(), bucket.wait_s())
        share = self._share(is_running)
        if share and self._random_share() < share:
            # Spread out, or all who were refused would be back in the same second.
            raise _with_pause(OverloadedError(), 1 + 4 * share + 4 * self._random_share())

    async def watch(self) -> None:
        """Looks at the loop and at who waits, for as long as the application runs."""
        loop = asyncio.get_running_loop()
        looked_s, was_shedding = loop.time(), False
        while True:
            await asyncio.sleep(TICK_S)
            now_s = loop.time()
            asked, longest_wait_s = self._asked.taken()
            elapsed_s = now_s - looked_s
            late_s = max(elapsed_s - TICK_S, longest_wait_s)
            if asked / elapsed_s * late_s >= _FEW:  # by Little's law so many were there
                self._had_many_s = now_s
            self._shedding.observe(late_s, elapsed_s)
            self._queue.observe(*self._waiting(), elapsed_s)
            looked_s = now_s
            if (self._share(is_running=False) == 1) != was_shedding:  # a little comes and goes with every burst
                was_shedding = not was_shedding
                log.warning("shedding" if was_shedding else "shedding_ended", at_work=self.at_work.count)

    def _share(self, is_running: bool) -> float:
        share = max(self._shedding.refusal_probability(is_running), self._queue.refusal_probability(is_running))
        if not share or self.at_work.count >= _FEW:
            return share
        return share if asyncio.get_running_loop().time() <= self._had_many_s + _MEMORY_S else 0.0


def is_of_a_running_conversation(body: bytes) -> bool:
    return any(sign in body for sign in _SIGNS_OF_A_CONVERSATION)


def _with_pause(error: RateLimitedError | OverloadedError, pause_s: float) -> RateLimitedError | OverloadedError:
    error.retry_after_s = min(_MOST_RETRY_S, max(1, math.ceil(pause_s)))
    return error
