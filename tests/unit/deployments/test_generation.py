"""Which engine goes on where another one broke off, and what the customer has in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import repeat

import pytest

from deployments.answering.errors import (
    DeadlineExceededError,
    DependencyError,
    EngineDiedError,
    EngineRefusedError,
    RoomUnavailableError,
)
from deployments.answering.generation import Generation, Help
from deployments.answering.protocols import Tier, TierState
from deployments.answering.resilience import RetryBudget
from deployments.settings import RetrySettings, TierSettings
from models.protocols import ChatMessage, GenerationEnd, GenerationRequest, TextDelta

pytestmark = pytest.mark.unit
WORDS = ["One ", "answer ", "in ", "five ", "words."]
WHOLE = "".join(WORDS)
Try = tuple[int, Exception | None]  # after so many words it fails, or comes to its end


class Engine:
    """Says the words that are left after the continuation; each call fails as its try says."""

    def __init__(self, name: str, tries: Sequence[Try], *, supported_only: bool = False) -> None:
        self.settings = TierSettings.model_validate(
            {"name": name, "model_id": name, "model_source": "m", "supported_only": supported_only}
        )
        self.state: TierState = "ready"
        self.asked: list[GenerationRequest] = []
        self._tries = list(tries)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextDelta | GenerationEnd]:
        self.asked.append(request)
        said = len(request.continuation.split())
        words, error = self._tries.pop(0)
        for word in WORDS[said : said + words]:
            yield TextDelta(word)
        if error is not None:
            raise error
        yield GenerationEnd("stop", 10, len(WORDS) - said)


def generation(*engines: Engine, left_s: Iterator[float] | None = None, floor: int = 3) -> tuple[Generation, list[str]]:
    """left_s: what is left of the turn's time, look by look; None: enough."""
    notes: list[str] = []
    retries = RetryBudget(RetrySettings(floor=floor, max_share=0))
    tiers: list[Tier] = list(engines)
    help_ = Help(retries, (left_s or repeat(9.0)).__next__, lambda note, _: notes.append(note))
    request = GenerationRequest((ChatMessage("user", "q"),), max_output_tokens=20)
    return Generation(tiers, lambda _: request, help_), notes


async def said(asked: Generation) -> tuple[str, GenerationEnd | None]:
    text, end = "", None
    async for item in asked.items():
        if isinstance(item, TextDelta):
            text += item.text
        else:
            end = item
    return text, end


async def test_a_replica_that_dies_before_its_first_word_is_asked_once_more() -> None:
    engine = Engine("small", [(0, EngineDiedError()), (5, None)])
    asked, notes = generation(engine)
    assert await said(asked) == (WHOLE, GenerationEnd("stop", 10, 5))
    assert notes == ["small:retried"]


async def test_it_is_not_asked_a_third_time() -> None:
    engine = Engine("small", [(0, EngineDiedError()), (0, EngineDiedError())])
    asked, _ = generation(engine)
    with pytest.raises(EngineDiedError):
        await said(asked)
    assert len(engine.asked) == 2


async def test_where_retries_are_used_up_the_next_tier_answers_at_once() -> None:
    small, large = Engine("small", [(0, EngineDiedError())]), Engine("large", [(5, None)])
    asked, notes = generation(small, large, floor=0)
    assert (await said(asked))[0] == WHOLE
    assert (len(small.asked), notes, asked.author.settings.name) == (1, ["small:engine_died"], "large")


@pytest.mark.parametrize("error", [DeadlineExceededError("silent"), RoomUnavailableError("none"), EngineRefusedError()])
async def test_who_is_silent_or_away_or_refuses_is_not_asked_again(error: DependencyError) -> None:
    small, large = Engine("small", [(0, error)]), Engine("large", [(5, None)])
    asked, notes = generation(small, large)
    assert (await said(asked))[0] == WHOLE
    assert (len(small.asked), notes) == (1, [f"small:{error.code}"])


@pytest.mark.parametrize("words", [1, 2, 3, 4, 5])
async def test_an_answer_that_broke_off_is_gone_on_with_and_is_whole(words: int) -> None:
    engine = Engine("small", [(words, EngineDiedError()), (5, None)])
    asked, notes = generation(engine)
    text, end = await said(asked)
    assert text == WHOLE
    assert end is not None
    assert end.output_tokens == 5
    assert engine.asked[1].continuation == "".join(WORDS[:words])
    assert engine.asked[1].max_output_tokens == 20 - words
    assert notes == ["small:continued"]


async def test_a_tier_that_hangs_in_the_middle_is_gone_on_with_by_another_one() -> None:
    small, large = Engine("small", [(2, DeadlineExceededError("silent"))]), Engine("large", [(5, None)])
    asked, _ = generation(small, large)
    assert (await said(asked))[0] == WHOLE
    assert (len(small.asked), asked.author.settings.name, asked.tier.settings.name) == (1, "small", "large")


async def test_nobody_who_is_held_to_sources_less_strictly_goes_on() -> None:
    small, large = Engine("small", [(2, DeadlineExceededError("silent"))], supported_only=True), Engine("large", [])
    asked, _ = generation(small, large)
    with pytest.raises(DeadlineExceededError):
        await said(asked)


async def test_that_nobody_could_go_on_is_not_why_it_broke_off() -> None:
    engine = Engine("small", [(2, EngineDiedError()), (0, RoomUnavailableError("no replica"))])
    asked, _ = generation(engine)
    with pytest.raises(EngineDiedError):
        await said(asked)


async def test_one_answer_is_not_gone_on_with_for_ever() -> None:
    engine = Engine("small", [(1, EngineDiedError()) for _ in range(9)])
    asked, _ = generation(engine)
    with pytest.raises(EngineDiedError):
        await said(asked)
    assert len(engine.asked) == 3


async def test_what_was_said_when_time_is_up_is_the_answer() -> None:
    engine = Engine("small", [(2, EngineDiedError())])
    asked, notes = generation(engine, left_s=iter([9.0, 9.0, 9.0, 0.0, 0.0]))
    assert await said(asked) == ("One answer ", GenerationEnd("length", 0, 2))
    assert notes == ["deadline:cut"]
