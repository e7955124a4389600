from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from deployments.answering.query import build_query
from deployments.answering.rewriting import adds_only_history, prompt_of, rewritten
from deployments.answering.types import ChatRequest, Principal, Query
from models.fakes import ScriptedLLM
from models.protocols import ChatMessage
from tests.unit.deployments.conftest import Shop

pytestmark = pytest.mark.unit

TURNS = ("你们的K7空气炸锅多少钱？", "399元", "保质期多久")
BY_MODEL = "K7空气炸锅保质期多久"


def messages(*turns: str) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(turns))


def query(*turns: str) -> Query:
    principal = Principal("demo", frozenset({"public"}), "loopback")
    return build_query(ChatRequest(principal, messages(*turns), "help", "r", "t", "c"))


class Scripted:
    def __init__(self, text: str) -> None:
        self.text, self.asked = text, 0

    async def rewrite(self, messages: Sequence[ChatMessage]) -> str:
        self.asked += 1
        return self.text


async def test_model_has_its_say_where_the_rules_are_not_sure() -> None:
    given = query(*TURNS)
    assert not given.is_sure
    found = await rewritten(given, messages(*TURNS), Scripted("空气炸锅保质期多久"))
    assert (found.search_text, found.is_standalone, found.is_sure) == ("空气炸锅保质期多久", False, False)
    assert found.text == TURNS[-1]


@pytest.mark.parametrize("invented", ["", "X9保质期多久", "空气炸锅保修多久", "How long does the K7 keep?"])
async def test_rules_stand_where_the_model_invents_or_leaves_out(invented: str) -> None:
    given = query(*TURNS)
    assert await rewritten(given, messages(*TURNS), Scripted(invented)) == given


async def test_model_is_not_asked_where_the_rules_are_sure() -> None:
    model = Scripted("x")
    await rewritten(query("Where is my order?"), messages("Where is my order?"), model)
    assert model.asked == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How much is shipping to Germany?", True),
        ("How much is express shipping to Germany?", False),
        ("How much is shipping to France?", False),
    ],
)
def test_what_is_added_was_said_before(text: str, expected: bool) -> None:
    said = messages("How much is shipping to France?", "6 euros.", "and to Germany?")
    assert adds_only_history(text, said) is expected


def test_prompt_ends_with_the_conversation() -> None:
    assert prompt_of(messages("A?", "B.", "C?"))[-1].content == "Customer: A?\nDesk: B.\nCustomer: C?"


async def asked(tmp_path: Path, tier: str | None) -> tuple[str, list[str], dict[str, float]]:
    shop = Shop(tmp_path, llm=ScriptedLLM(BY_MODEL))
    shop.pipeline.settings = shop.settings.model_copy(
        update={"rewriting": shop.settings.rewriting.model_copy(update={"tier": tier})}
    )
    await shop.ready()
    searched: list[str] = []
    search = shop.retriever.search

    async def noted(*given: object) -> object:
        searched.append(str(given[2]))
        return await search(*given)

    shop.retriever.search = noted
    _, record = await shop.ask("你们的空气炸锅K7多少钱？", "399元", "保质期多久")
    return searched[0], record.degraded, record.step_ms


async def test_off_unless_a_tier_is_named(tmp_path: Path) -> None:
    assert "rewrite" not in (await asked(tmp_path, None))[2]


async def test_named_tier_is_asked_within_the_turn(tmp_path: Path) -> None:
    searched, _, steps = await asked(tmp_path, "small")
    assert "rewrite" in steps
    assert searched.endswith("保质期多久")
