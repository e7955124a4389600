"""The Python client over real sockets, on a network that is cut and mended; what only the whole HTTP side can do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pytest

from deployments.answering.protocols import ConversationSummary
from deployments.answering.session import Session
from deployments.answering.types import ChatRequest, Citation, Delta, Done, Meta
from deployments.client import ApiError, AsyncRaydesk, Raydesk
from models.protocols import ChatMessage
from tests.integration.scripted_desk import ScriptedDesk, Step, scripted_desk
from tests.integration.test_widget import WHOLE, beginning, ending, slow, source

pytestmark = pytest.mark.integration


def quick(request: ChatRequest) -> Sequence[Step]:
    return [beginning(request), Delta("It costs 12.90 EUR."), source(1), ending()]


@pytest.fixture(scope="module")
def running() -> Iterator[ScriptedDesk]:
    with scripted_desk() as desk:
        yield desk


@pytest.fixture
def desk(running: ScriptedDesk) -> Iterator[ScriptedDesk]:
    running.pipeline.script = quick
    running.pipeline.requests.clear()
    yield running
    running.mend()


def test_an_answer_goes_on_where_the_network_broke(desk: ScriptedDesk) -> None:
    desk.pipeline.script = slow
    text = ""
    with Raydesk(desk.url) as client:
        for number, event in enumerate(client.stream("How much?")):
            if isinstance(event, Delta):
                text += event.text
            if number == 5:
                desk.cut()
                desk.mend()
    assert text.strip() == WHOLE
    assert isinstance(event, Done)
    assert len(desk.questions) == 1


async def test_an_async_answer_does_so_too(desk: ScriptedDesk) -> None:
    desk.pipeline.script = slow
    seen = []
    async with AsyncRaydesk(desk.url) as client:
        async for event in client.stream("How much?"):
            seen.append(event)
            if len(seen) == 5:
                desk.cut()
                desk.mend()
    assert "".join(event.text for event in seen if isinstance(event, Delta)).strip() == WHOLE
    assert sum(isinstance(event, Citation) for event in seen) == 1
    assert len(desk.questions) == 1


def test_one_key_is_one_turn(desk: ScriptedDesk) -> None:
    with Raydesk(desk.url) as client:
        first, again = (client.ask("How much?", idempotency_key="a-key") for _ in range(2))
        assert again == first
        with pytest.raises(ApiError, match="idempotency_conflict"):
            client.ask("How long?", idempotency_key="a-key")
    assert desk.questions == ["How much?"]


def test_what_is_no_longer_wanted_can_be_ended(desk: ScriptedDesk) -> None:
    desk.pipeline.script = slow
    with Raydesk(desk.url) as client:
        events = client.stream("How much?")
        turn_id = next(event.turn_id for event in events if isinstance(event, Meta))
        client.cancel(turn_id)
        with pytest.raises(ApiError, match="turn_cancelled"):
            list(events)


def test_answers_are_rated_and_conversations_read_and_forgotten(desk: ScriptedDesk) -> None:
    said = [ChatMessage("user", "How much?"), ChatMessage("assistant", "It costs 12.90 EUR.")]
    summary = ConversationSummary("c1", datetime(2026, 1, 2, tzinfo=UTC), "How much?", 2)
    desk.history.summaries = [summary]
    desk.history.sessions["c1"] = Session(messages=tuple(said))
    with Raydesk(desk.url) as client:
        answer = client.ask("How much?")
        client.rate(answer.turn_id, "down", "An old price.")
        assert desk.history.ratings[-1] == (answer.turn_id, "down", "An old price.")
        assert client.conversations(limit=5) == [summary]
        assert client.conversation("c1") == said
        client.forget("c1")
        with pytest.raises(ApiError, match="not_found"):
            client.conversation("c1")
