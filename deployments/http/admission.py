"""Who is let in when more ask than can be answered in time: early, before a body is parsed, and cheaply.

Two things tell. How late questions are heard: by this process's event loop, of which each turn needs several rounds,
and before it, since the loop accepts one connection a round, so that with many of them its rounds stay short and
customers wait outside. While that is later than `target_lag_s`, no more are let in than are answered. And how many
turns wait for a part of ours (the encoder's thread, a search): not more than get done within `target_wait_s`. A
language model is no such part: it is slow by nature, and has a queue and a breaker of its own. Either way those that
begin a conversation are refused rather than those of running ones. Where few are at work, ask, or wait, nobody is
refused.

To refuse a question takes this process a third of what it takes to answer one. So it tells the door in front of it
what shares to refuse (`cluster/haproxy_door.cfg`), and refuses itself only what these have grown by since.
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
# At work, and waiting for a part of ours: with fewer it is the machine that is slow, and refusing would help nobody.
_FEW, _FEW_WAITING = 32, 16
_MEMORY_S, _LEAST_SEEN_S = 1.0, 0.2  # of how fast turns get on: about so much of the past; not told by less of it
_RATES_MEMORY_S, _LATENESS_MEMORY_S = 0.5, 0.15  # of how many ask, and of how late they are heard
# Of what waits too much, the part that a second of refusing is to clear away. How late questions are heard is known a
# tenth or two of a second late: with much more than this the share that is refused would swing.
_GAIN_PER_S = 2.0
_LEAST_AIM = 0.5  # of what is answered: what waits is soon cleared away, and fewer would leave nothing to do then
_MOST_LAG = 2.0  # of the target: no more counts of one pause of the process, which is to refuse nobody
_ROUNDS = 4  # of the loop, that a turn needs
_MOST_WAIT_S = 1.0  # that counts of one question
_LATE_FOR_ALL, _TOO_LATE = 3.0, 4.0  # of the target: some of all are refused, whatever the share; everyone is
# Of all answers, those that running conversations have before any new one where questions are heard late; up to half of
# the target they have all. As a turn of theirs costs the loop twice as much, a half is two thirds of the work: with
# more, an overload would shut new customers out, for fewer answers in all.
_FIRST_FOR_RUNNING = 0.5
_MOST_RETRY_S = 60
CAME_HEADER = "x-raydesk-came"  # from the door: its host, and when it took the question, Unix ms
# To the door, with each response: percent of new conversations to refuse, and of running ones.
SHED_HEADER = b"x-raydesk-shed"
# From the door, while it refuses some: "new" or "running", and the percent of such questions that it refuses.
CHOSEN_HEADER = "x-raydesk-chosen"
_MOST_SHED = 0.95  # of all that come some must pass, whose answers tell the door when it is over
_WORTH_A_LINE = 0.5  # of the log; a smaller share comes and goes with every burst
_TELL_S = 3.0  # for so long the door is told that it is over
_HOST = socket.gethostname()
# What only a conversation that has begun sends along. Looked for in the body's bytes: a refusal must not cost a parse.
_SIGNS_OF_A_CONVERSATION = (b'"conversation_id"', b'"assistant"')


class Shedding:
    """What shares of the questions to refuse, by how late they are heard. Pure.

    Where questions are heard late, as many are heard as can be answered. So it aims at that many, less what clears away
    what waits too much: how much waits follows at once from how many are let in, and the shares do not swing.
    """

    def __init__(self, target_lag_s: float) -> None:
        self._target_s = target_lag_s
        self.late_s = 0.0  # lately
        self._waits_s, self._asked = 0.0, 0  # of the questions since the last look, together; how many they are
        # Of the last half of a second, the further back the less: questions that were heard and let in; all that came,
        # of new conversations and of running ones.
        self._heard = self._new = self._running = 0.0
        self.share = self.running_share = 0.0  # to be refused, 0-1: of new conversations' questions, of running ones'

    def note(self, waited_s: float) -> None:
        """A question. waited_s: since the door took it."""
        self._asked += 1
        self._waits_s += min(waited_s, _MOST_WAIT_S)

    def note_kind(self, is_running: bool, of: float, is_let_in: bool) -> None:
        """The same one. is_running: of a conversation that has begun. of: of so many, the door refused the others."""
        self._heard += is_let_in
        if is_running:
            self._running += of
        else:
            self._new += of

    def observe(self, lag_s: float, elapsed_s: float) -> None:
        """lag_s: how late this process's loop was. elapsed_s: since the last look; long pauses count as short ones."""
        passed_s = min(elapsed_s, 2 * TICK_S)
        waited_s = self._waits_s / self._asked if self._asked else 0.0
        late_s = waited_s + min(_ROUNDS * lag_s, _MOST_LAG * self._target_s)
        kept = math.exp(-passed_s / _LATENESS_MEMORY_S)
        self.late_s = kept * self.late_s + (1 - kept) * late_s
        self._waits_s, self._asked = 0.0, 0
        excess_s = self.late_s - self._target_s
        gain_per_s = _GAIN_PER_S if excess_s > 0 else 1 / self._target_s  # twice as many, where none waits
        aim = self._heard * max(_LEAST_AIM, 1 - gain_per_s * excess_s)
        first = min(1.0, max(_FIRST_FOR_RUNNING, 2 * (1 - self.late_s / self._target_s)))
        of_running = min(self._running, max(first * aim, aim - self._new))
        self.running_share = _refused(of_running, self._running)
        self.share = _refused(aim - of_running, self._new)
        kept = math.exp(-passed_s / _RATES_MEMORY_S)
        self._heard, self._new, self._running = kept * self._heard, kept * self._new, kept * self._running

    @property
    def there(self) -> float:
        """How many wait to be heard, by Little's law."""
        return (self._new + self._running) / _RATES_MEMORY_S * self.late_s

    def refusal_probability(self, is_running: bool) -> float:
        """is_running: of a conversation that has begun."""
        late = self.late_s / self._target_s
        of_all = min(1.0, max(0.0, (late - _LATE_FOR_ALL) / (_TOO_LATE - _LATE_FOR_ALL)))
        return max(of_all, self.running_share if is_running else self.share)

    def is_too_late(self, waited_s: float) -> bool:
        """Whether who has waited for so long is better told to ask again."""
        return waited_s > _TOO_LATE * self._target_s


def _refused(aim: float, of: float) -> float:
    """The share of `of` questions to refuse so that `aim` are left."""
    return min(_MOST_SHED, max(0.0, 1 - aim / of)) if of else 0.0


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
        if self._waiting >= _FEW_WAITING:  # with fewer it shows how many come, not how many can be done
            kept = math.exp(-elapsed_s / _MEMORY_S)
            self._got_on = kept * self._got_on + gone - self._gone
            self._busy_s = kept * self._busy_s + elapsed_s
        self._waiting, self._gone = waiting, gone

    @property
    def limit(self) -> float:
        """Turns that get done in time. Of new conversations half as many may wait, of running ones twice as many."""
        if self._busy_s < _LEAST_SEEN_S:
            return math.inf
        return max(2 * _FEW_WAITING, self._target_s * self._got_on / self._busy_s)

    def refusal_probability(self, is_running: bool) -> float:
        """is_running: of a conversation that has begun. All of them get on, unless they alone are too many."""
        full = self._waiting / self.limit
        return min(1.0, max(0.0, 2 * full - 3 if is_running else 4 * full - 2))


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
        self._told_s = -math.inf  # loop time at which the door was last told to refuse somebody
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

    def note(self, came: str | None) -> float:
        """A question, before it is looked at; how long it has waited, seconds. came: of the door (`CAME_HEADER`)."""
        host, _, came_ms = (came or "").partition(" ")
        is_told = host == _HOST and came_ms.isdecimal() and len(came_ms) < 20  # other machines' clocks may differ
        waited_s = max(0.0, self._now_s() - int(came_ms) / 1000) if is_told else 0.0
        self._shedding.note(waited_s)
        return waited_s

    def tells(self) -> list[tuple[bytes, bytes]]:
        """The header that tells the door whom to refuse; none while that is nobody."""
        now_s, new = asyncio.get_running_loop().time(), _percent(self._share(is_running=False))
        if new:
            self._told_s = now_s
        if now_s > self._told_s + _TELL_S:
            return []
        return [(SHED_HEADER, b"%d %d" % (new, _percent(self._share(is_running=True))))]

    def check(
        self, principal: Principal, is_running: bool, waited_s: float = 0.0, chosen_of: float | None = None
    ) -> None:
        """Raises `RateLimitedError` where this key asks too fast, and `OverloadedError` where too many ask.

        is_running: of a conversation that has begun. chosen_of: the door has chosen it, of so many.
        """
        bucket = self._buckets.get(principal.key_id)
        if bucket is not None and not bucket.take(asyncio.get_running_loop().time()):
            raise _with_pause(RateLimitedError(), bucket.wait_s())
        # The door refuses by what it was told some time ago: what is left of the share is to be refused here.
        share = max(0.0, 1 - (1 - self._share(is_running)) * (chosen_of or 1.0))
        is_refused = self._random_share() < share or (self._is_busy and self._shedding.is_too_late(waited_s))
        self._shedding.note_kind(is_running, chosen_of or 1.0, not is_refused)
        if is_refused:
            # Spread out, or all who were refused would be back in the same second.
            raise _with_pause(OverloadedError(), 1 + 4 * share + 4 * self._random_share())

    async def watch(self) -> None:
        """Looks at the loop and at who waits, for as long as the application runs."""
        loop = asyncio.get_running_loop()
        looked_s, was_shedding = loop.time(), False
        while True:
            await asyncio.sleep(TICK_S)
            now_s = loop.time()
            elapsed_s = now_s - looked_s
            self._shedding.observe(max(0.0, elapsed_s - TICK_S), elapsed_s)
            if self._shedding.there >= _FEW:
                self._had_many_s = now_s
            self._queue.observe(*self._waiting(), elapsed_s)
            looked_s = now_s
            share = self._share(is_running=False)
            if (share > 0 if was_shedding else share >= _WORTH_A_LINE) != was_shedding:
                was_shedding = not was_shedding
                log.warning("shedding" if was_shedding else "shedding_ended", at_work=self.at_work.count)

    def _share(self, is_running: bool) -> float:
        share = max(self._shedding.refusal_probability(is_running), self._queue.refusal_probability(is_running))
        return share if share and self._is_busy else 0.0

    @property
    def _is_busy(self) -> bool:
        """Whether many are at work, or ask so fast that nobody is seen at work."""
        return self.at_work.count >= _FEW or asyncio.get_running_loop().time() <= self._had_many_s + _MEMORY_S


def read_chosen(chosen: str) -> tuple[bool, float]:
    """Whether it is of a running conversation, and of how many the door chose it. chosen: as in `CHOSEN_HEADER`."""
    kind, _, percent = chosen.partition(" ")
    refused = int(percent) / 100 if percent.isdecimal() and len(percent) < 4 else 0.0
    return kind == "running", 1 / (1 - min(_MOST_SHED, refused))


def _percent(share: float) -> int:
    return round(100 * min(_MOST_SHED, share))


def is_of_a_running_conversation(body: bytes) -> bool:
    return any(sign in body for sign in _SIGNS_OF_A_CONVERSATION)


def _with_pause(error: RateLimitedError | OverloadedError, pause_s: float) -> RateLimitedError | OverloadedError:
    error.retry_after_s = min(_MOST_RETRY_S, max(1, math.ceil(pause_s)))
    return error
