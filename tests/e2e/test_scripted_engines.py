"""A desk of two ingress replicas and two tiers, of two replicas each, of engines that say what their script says.

In a file of its own, as it takes memory that the real engines of other tests need.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.conftest import HTTP_TIMEOUT_S, Desk, scripted_desk_of, scripted_tier

pytestmark = pytest.mark.e2e

QUESTION = "How much does express delivery cost?"
ASK: list[Any] = [{"role": "user", "content": QUESTION}]
PARAMETERS = {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
TOOL: Any = {"type": "function", "function": {"name": "find_parcel", "parameters": PARAMETERS}}


@pytest.fixture(scope="module")
def scripted_desk(tmp_path_factory: pytest.TempPathFactory, desk: Desk) -> Iterator[Desk]:
    """Two ingress replicas, and two scripted tiers of two replicas each; shares the first desk's knowledge.

    `small` says 60 tokens in one and a half seconds, `large` the same at once. Whoever kills a replica leaves a desk
    whose tiers are ready.
    """
    tiers = (scripted_tier("small"), scripted_tier("large", first_token_ms=0, tokens_per_s=0))
    with scripted_desk_of(tmp_path_factory.mktemp("scripted"), desk, *tiers) as running:
        yield running


def test_customers_get_their_answers_though_engines_die(scripted_desk: Desk) -> None:
    scripted_desk.passes(Path(__file__).with_name("dying_engines_suite.py"))
    scripted_desk.wait_for_tiers()


def test_a_function_of_the_callers_own_is_called_and_its_result_is_told(scripted_desk: Desk, desk: Desk) -> None:
    """Though the question's answer is a curated one. A tier that cannot says so."""
    with openai.OpenAI(base_url=f"{scripted_desk.url}/v1", api_key="sk-any", timeout=HTTP_TIMEOUT_S) as client:
        choice = client.chat.completions.create(model="raydesk", messages=ASK, tools=[TOOL]).choices[0]
        assert choice.finish_reason == "tool_calls"
        with client.chat.completions.stream(model="raydesk-large", messages=ASK, tools=[TOOL]) as stream:
            streamed = stream.get_final_completion().choices[0]
        assert streamed.finish_reason == "tool_calls"
        for message in (choice.message, streamed.message):
            (call,) = message.tool_calls or ()
            assert (call.function.name, json.loads(call.function.arguments)) == ("find_parcel", {"question": QUESTION})
        result: Any = {"role": "tool", "tool_call_id": call.id, "content": "The parcel is in Cologne."}
        told = client.chat.completions.create(
            model="raydesk-large", messages=[*ASK, streamed.message, result], tools=[TOOL]
        ).choices[0]
        assert told.finish_reason != "tool_calls"
        assert "in Cologne" in (told.message.content or "")
    with (
        openai.OpenAI(base_url=f"{desk.url}/v1", api_key="sk-any", timeout=HTTP_TIMEOUT_S) as client,
        pytest.raises(openai.BadRequestError) as refused,
    ):
        client.chat.completions.create(model="raydesk", messages=ASK, tools=[TOOL])
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "tools")
