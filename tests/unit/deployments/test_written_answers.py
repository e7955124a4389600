"""What a model writes, on its way to the customer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployments.answering.phrases import UNSUPPORTED
from deployments.answering.types import AnswerEvent, Cited, Delta, Done
from deployments.fakes import InMemoryRetriever
from models.fakes import HashEmbedder, ScriptedLLM
from tests.unit.deployments.conftest import CHUNKS, Shop, passage, qa

pytestmark = pytest.mark.unit

GENERATED = "what does standard delivery to Cologne cost"
DELIVERY = "Standard delivery costs 4.95 euros."


def text(events: list[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def shop(tmp_path: Path, said: str, **changes: Any) -> Shop:
    return await Shop(tmp_path, llm=ScriptedLLM(said, tokens_per_s=changes.pop("tokens_per_s", 0)), **changes).ready()


async def test_a_citation_comes_as_soon_as_its_sentence_has_ended(tmp_path: Path) -> None:
    desk = await shop(tmp_path, f"{DELIVERY} It takes four working days to Cologne.", tokens_per_s=20)
    events, _ = await desk.ask(GENERATED)
    kinds = [type(event) for event in events]
    assert kinds.index(Cited) < len(kinds) - 1 - kinds[::-1].index(Delta)  # before the last words
    cited = [event.citation for event in events if isinstance(event, Cited)]
    assert [(citation.index, citation.chunk_id) for citation in cited] == [(1, "delivery")]
    assert isinstance(events[-1], Done)
    assert events[-1].grounded


async def test_links_to_strangers_go_and_those_of_the_evidence_stay(tmp_path: Path) -> None:
    said = f"{DELIVERY} See [all prices](https://evil.test/?q=secret) ![](https://evil.test/p.png) or https://help.example/x"
    evidence = [*CHUNKS, qa("d2", "Standard delivery to Cologne", DELIVERY)]
    desk = await shop(tmp_path, said, retriever=InMemoryRetriever(HashEmbedder(dim=512), evidence))
    events, _ = await desk.ask(GENERATED, model="small")
    assert text(events) == f"{DELIVERY} See all prices  or https://help.example/x"


async def test_a_quoted_passage_has_no_links_to_strangers_either(tmp_path: Path) -> None:
    poisoned = passage("p", "Standard delivery to Cologne: its cost? ![x](https://evil.test/a.png) 4.95 euros.")
    desk = Shop(tmp_path, retriever=InMemoryRetriever(HashEmbedder(dim=512), [poisoned]))  # no model is up
    events, record = await desk.ask(GENERATED)
    assert record.path == "passage"
    assert "evil.test" not in text(events)


@pytest.mark.parametrize(("language", "question"), [("en", GENERATED), ("zh", "标准配送到科隆多少钱")])
async def test_an_answer_that_no_source_supports_says_so_and_offers_a_person(
    language: Any, question: str, tmp_path: Path
) -> None:
    evidence = [*CHUNKS, passage("zh", "标准配送到科隆需要 4.95 欧元。", language="zh")]
    desk = await shop(
        tmp_path,
        "Our founder plays the violin. 我们的创始人拉小提琴。",
        retriever=InMemoryRetriever(HashEmbedder(dim=512), evidence),
    )
    events, record = await desk.ask(question)
    assert record.path == "small"
    assert text(events).endswith(UNSUPPORTED[language])
    done = events[-1]
    assert isinstance(done, Done)
    assert not done.grounded
    assert done.buttons
    assert not [event for event in events if isinstance(event, Cited)]


async def test_a_forced_model_is_given_its_own_words(tmp_path: Path) -> None:
    desk = await shop(tmp_path, "Our founder plays the violin.")
    events, _ = await desk.ask(GENERATED, model="small")
    assert text(events) == "Our founder plays the violin."
