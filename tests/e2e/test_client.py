"""The Python client against the running application."""

from __future__ import annotations

import pytest

from deployments.answering.types import Delta, Done, Meta
from deployments.client import ApiError, AsyncRaydesk, Raydesk
from tests.e2e.conftest import Desk

pytestmark = pytest.mark.e2e

QUESTION = "How much does express delivery cost?"


def test_a_conversation_from_the_first_question_to_being_forgotten(desk: Desk) -> None:
    with Raydesk(desk.url) as client:
        answer = client.ask(QUESTION)
        assert "12.90" in answer.text
        assert answer.citations
        client.rate(answer.turn_id, "up")
        assert answer.conversation_id in [one.conversation_id for one in client.conversations(limit=100)]
        assert [one.content for one in client.conversation(answer.conversation_id)] == [QUESTION, answer.text]
        client.forget(answer.conversation_id)
        with pytest.raises(ApiError, match="not_found"):
            client.conversation(answer.conversation_id)


async def test_an_async_stream_of_a_question_asked_twice_under_one_key(desk: Desk) -> None:
    async with AsyncRaydesk(desk.url) as client:
        first = [event async for event in client.stream(QUESTION, idempotency_key="asked-twice")]
        again = [event async for event in client.stream(QUESTION, idempotency_key="asked-twice")]
    assert again == first
    assert isinstance(first[0], Meta)
    assert isinstance(first[-1], Done)
    assert any(isinstance(event, Delta) for event in first)
