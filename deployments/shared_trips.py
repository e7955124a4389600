"""Scripts that are asked for in one moment share a round trip to Redis: alone each costs several times as much."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from redis.exceptions import NoScriptError

Argument = str | bytes | int


@dataclass(frozen=True, slots=True)
class _Asked:
    source: str
    keys: Sequence[str]
    arguments: Sequence[Argument]
    answer: asyncio.Future[Any]


class SharedTrips:
    """One trip after the other, so that what is asked first is done first, though its caller may have left."""

    def __init__(self, client: Any, timeout_s: float) -> None:
        self._redis = client
        self._timeout_s = timeout_s  # of a trip
        self._asked: list[_Asked] = []
        self._traveller: asyncio.Task[None] | None = None

    def run(self, source: str, keys: Sequence[str], arguments: Sequence[Argument]) -> asyncio.Future[Any]:
        """Of what the script returns. Raises `redis.RedisError` and `OSError`, of which a `TimeoutError` is one.

        It is run, whether anybody waits for that or not.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(source, keys, arguments, loop.create_future())
        self._asked.append(asked)
        if self._traveller is None or self._traveller.done():
            self._traveller = loop.create_task(self._travel(), context=contextvars.Context())
        return asked.answer

    async def stop(self) -> None:
        """After the trips that were asked for."""
        if self._traveller is not None:
            await self._traveller

    async def _travel(self) -> None:
        while self._asked:
            trip, self._asked = self._asked, []
            try:
                async with asyncio.timeout(self._timeout_s):
                    answers = await self._answers(trip)
            except Exception as error:  # whatever it is, who asked must hear of it
                answers = [error] * len(trip)
            for asked, answer in zip(trip, answers, strict=True):
                if asked.answer.done():  # whoever asked has left
                    continue
                if isinstance(answer, Exception):
                    asked.answer.set_exception(answer)
                else:
                    asked.answer.set_result(answer)

    async def _answers(self, trip: Sequence[_Asked]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for asked in trip:
                pipe.evalsha(_sha1(asked.source), len(asked.keys), *asked.keys, *asked.arguments)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
            unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            for asked in (trip[place] for place in unknown):  # the store is new; from then on it knows them
                pipe.eval(asked.source, len(asked.keys), *asked.keys, *asked.arguments)
            for place, answer in zip(unknown, await pipe.execute(raise_on_error=False), strict=True):
                answers[place] = answer
        return answers


@cache
def _sha1(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
