from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.answering.errors import (
    EngineDiedError,
    RoomUnavailableError,
    UnknownCollectionError,
    UnknownModelError,
)
from deployments.answering.phrases import NOTHING_ASKED
from deployments.answering.query import normalize
from deployments.answering.types import (
    AnswerEvent,
    CacheHit,
    Cited,
    Delta,
    Done,
    Evidence,
    EvidenceRef,
    Meta,
    Principal,
    RetrievedChunk,
    TurnRecord,
)
from deployments.fakes import InMemoryCache, InMemoryRetriever
from deployments.intent_classifier import IntentClassifier
from ingestion.chunk import Chunk
from models.fakes import HashEmbedder, KeywordIntentHead, ScriptedLLM
from tests.unit.deployments.conftest import CHUNKS, Shop, passage, qa

pytestmark = pytest.mark.unit
GENERATED = "what does standard delivery to Cologne cost"


def text(events: list[AnswerEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def path(events: list[AnswerEvent]) -> str:
    first, last = events[0], events[-1]
    assert isinstance(first, Meta)
    assert isinstance(last, Done)
    assert first.path == last.path
    return first.path


def cited(events: list[AnswerEvent]) -> list[str]:
    return [event.citation.chunk_id for event in events if isinstance(event, Cited)]


async def test_confident_intent_is_answered_by_its_rule(shop: Shop) -> None:
    events, record = await shop.ask("opening hours today")
    assert path(events) == "rule"
    assert text(events) == "We are open from 8 to 20."
    assert isinstance(events[-1], Done)
    assert events[-1].buttons[0].label == "More"
    assert record.intent == "opening_hours"
    assert record.intent_confidence >= 0.9


async def test_rule_with_handoff_says_why(shop: Shop) -> None:
    events, _ = await shop.ask("talk human person agent")
    assert path(events) == "handoff"
    assert isinstance(events[-1], Done)
    assert events[-1].handoff_reason == "asked for a person"


async def test_rules_speak_only_for_their_collections(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    intents = shop.settings.intents.model_copy(update={"collections": ("other",)})
    shop.pipeline.settings = shop.settings.model_copy(update={"intents": intents})
    events, _ = await shop.ask("opening hours today")
    assert path(events) != "rule"


async def test_curated_answer_is_given_verbatim_and_cited(shop: Shop) -> None:
    events, record = await shop.ask("how long does a refund take")
    assert path(events) == "faq"
    assert text(events) == "Five working days."
    assert cited(events) == ["refund"]
    assert record.grounded


async def test_near_tie_is_asked_back_and_the_click_is_answered(tmp_path: Path) -> None:
    chunks = [
        qa("gold", "What is the monthly fee of the Gold Account?", "Five euros."),
        qa("plus", "What is the monthly fee of the Gold Plus Account?", "Nine euros."),
    ]
    near = {"gold": 0.921, "plus": 0.92}  # as an encoder finds them

    class Near(InMemoryRetriever):
        async def search(self, *asked: Any) -> Evidence:
            found = await super().search(*asked)
            return replace(found, pairs=tuple(replace(each, similarity=near[each.chunk.id]) for each in found.pairs))

    shop = Shop(tmp_path, retriever=Near(HashEmbedder(dim=512), chunks))
    events, record = await shop.ask("monthly fee")
    done = events[-1]
    assert path(events) == "clarify"
    assert isinstance(done, Done)
    assert [button.message for button in done.buttons] == [chunk.question for chunk in chunks]
    assert all(button.label in text(events) for button in done.buttons)
    assert record.citations == []
    clicked, _ = await shop.ask("monthly fee", text(events), done.buttons[1].message)
    assert path(clicked) == "faq"
    assert text(clicked) == "Nine euros."
    told, _ = await shop.ask("monthly fee", text(events), "the first one")
    assert text(told) == "Five euros."


async def test_chinese_question_is_answered_from_chinese_knowledge(shop: Shop) -> None:
    events, record = await shop.ask("退款多久到账？")
    assert text(events) == "三个工作日。"
    assert record.language == "zh"


async def test_second_asking_is_an_exact_hit_with_the_same_citations(shop: Shop) -> None:
    first, _ = await shop.ask("How long does a refund take?")
    second, _ = await shop.ask("  how long does a REFUND take ")
    assert path(second) == "exact_cache"
    assert text(second) == text(first)
    assert cited(second) == cited(first)


async def test_verified_paraphrase_is_a_semantic_hit(tmp_path: Path) -> None:
    shop = Shop(tmp_path, cache=InMemoryCache(similarity_threshold=0.5))
    await shop.ask("How long does a refund take?")
    events, record = await shop.ask("Hello there, how long does it take for a refund please?")
    assert path(events) == "semantic_cache"
    assert record.cache_similarity >= 0.7


async def test_an_answer_outlives_a_version_that_leaves_its_evidence_alone(shop: Shop) -> None:
    await shop.ask("How long does a refund take?")
    shop.retriever.publish("v2", [*CHUNKS, qa("parking", "Is there parking at the store?", "Yes, behind it.")])
    events, record = await shop.ask("How long does a refund take?")
    assert path(events) == "exact_cache"
    assert record.knowledge_version == "v2"


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([chunk for chunk in CHUNKS if chunk.id != "refund"], id="evidence-vanished"),
        pytest.param(
            [replace(chunk, answer="Ten days.") if chunk.id == "refund" else chunk for chunk in CHUNKS],
            id="evidence-changed",
        ),
        pytest.param(
            [*CHUNKS, qa("express", "how long does a refund take", "Two days.")], id="a-nearer-pair-was-added"
        ),
    ],
)
async def test_an_answer_goes_with_its_evidence_and_comes_back_with_it(shop: Shop, after: list[Chunk]) -> None:
    question = "How long does a refund take?"
    await shop.ask(question)
    shop.retriever.publish("v2", after)
    events, _ = await shop.ask(question)
    assert path(events) != "exact_cache"
    shop.retriever.publish("v1", CHUNKS)
    assert text((await shop.ask(question))[0]) == "Five working days."


async def test_a_written_answer_goes_when_a_passage_is_added_that_ranks_among_its_evidence(ready_shop: Shop) -> None:
    for asker in ("one", "two"):
        await ready_shop.ask(GENERATED, conversation_id=asker)
    ready_shop.retriever.publish("v2", [*CHUNKS, passage("garden", "Water the plants every morning.")])
    assert path((await ready_shop.ask(GENERATED))[0]) == "exact_cache"
    ready_shop.retriever.publish("v3", [*CHUNKS, passage("raise", "Standard delivery to Cologne costs 9.95 euros.")])
    assert path((await ready_shop.ask(GENERATED))[0]) == "small"


async def test_what_concerns_one_customer_is_not_kept(ready_shop: Shop) -> None:
    question = "what does standard delivery to Cologne cost for order number 445566"
    for asker in ("one", "two", "three"):
        events, _ = await ready_shop.ask(question, conversation_id=asker)
        assert path(events) == "small"


async def test_a_turn_that_used_something_private_is_neither_kept_nor_answered_from_the_cache(shop: Shop) -> None:
    for _ in range(2):
        request = shop.request("How long does a refund take?")
        record = TurnRecord("t", "r", "c", "demo", "k", "http", request.collection, 0.0, request.text)
        turn = shop.pipeline.turn(request, record, "v1")
        turn.keep_private("tool result")
        assert await turn.at_once() is None
        assert path([event async for event in turn.events()]) == "faq"
    assert path((await shop.ask("How long does a refund take?"))[0]) == "faq"


async def test_a_hit_that_the_knowledge_does_not_agree_with_is_a_miss_and_forgotten(shop: Shop) -> None:
    """What two encoders' vectors and the verifier may both take for the same is not what a search finds."""
    request = shop.request("How long does a refund take?")
    turn = shop.pipeline.turn(request, TurnRecord("t", "r", "c", "demo", "k", "http", "help", 0.0, ""), "v1")
    understanding = await shop.pipeline.classifier.understand(request.text)
    wrong = replace(
        bad_answer := (await stored(shop, "How long does a refund take?")).answer,
        text="Never.",
        evidence=replace(bad_answer.evidence, chunks=(EvidenceRef("delivery", "h"),)),
    )
    scope = turn._state.scope
    await shop.cache.put(scope, "refund take how long does a", understanding.embedding, wrong)
    await shop.cache.discard(await stored(shop, "How long does a refund take?"), "test")
    turn._has_looked = True  # for these words, and found nothing
    events = [event async for event in turn.events()]
    assert path(events) == "faq"


async def stored(shop: Shop, question: str) -> CacheHit:
    await shop.ask(question)
    hit = await shop.cache.lookup_exact(
        shop.pipeline.turn(
            shop.request(question), TurnRecord("t", "r", "c", "demo", "k", "http", "help", 0.0, ""), "v1"
        )._state.scope,
        normalize(question),
    )
    assert hit is not None
    return hit


async def test_other_audience_sees_neither_the_chunk_nor_the_cached_answer(shop: Shop) -> None:
    staff, _ = await shop.ask("What is the staff discount margin?", audiences=("public", "staff"))
    assert path(staff) == "faq"
    public, _ = await shop.ask("What is the staff discount margin?")
    assert "Twelve" not in text(public)
    assert path(public) != "exact_cache"


async def test_generated_answer_streams_and_cites_what_it_used(ready_shop: Shop) -> None:
    events, record = await ready_shop.ask("what does standard delivery to Cologne cost")
    assert path(events) == "small"
    assert len([event for event in events if isinstance(event, Delta)]) > 1
    assert cited(events) == ["delivery"]
    assert record.grounded
    assert record.output_tokens > 0
    again, _ = await ready_shop.ask("what does standard delivery to Cologne cost?", conversation_id="another")
    assert path(again) == "small"  # one visitor cannot plant an answer
    third, _ = await ready_shop.ask("what does standard delivery to Cologne cost?")
    assert path(third) == "exact_cache"


async def test_ungrounded_answer_is_marked_and_never_cached(tmp_path: Path) -> None:
    shop = await Shop(tmp_path, llm=ScriptedLLM("Pigeons carry all parcels on Sundays for 99 euros.")).ready()
    events, record = await shop.ask("what does standard delivery to Cologne cost")
    assert not record.grounded
    assert isinstance(events[-1], Done)
    assert not events[-1].grounded
    again, _ = await shop.ask("what does standard delivery to Cologne cost")
    assert path(again) == "small"


async def test_best_passage_is_quoted_while_the_model_starts(shop: Shop) -> None:
    events, _ = await shop.ask("what does standard delivery to Cologne cost")
    assert path(events) == "passage"
    assert "4.95 euros" in text(events)
    assert isinstance(events[0], Meta)
    assert events[0].degraded == ("small:starting",)


async def test_tier_that_must_have_support_never_says_what_no_source_says(tmp_path: Path) -> None:
    invented = ScriptedLLM("Pigeons carry all parcels on Sundays for 99 euros.")
    shop = await Shop(tmp_path, llm=invented, limits={"supported_only": True}).ready()
    events, record = await shop.ask("what does standard delivery to Cologne cost")
    assert path(events) == "passage"
    assert "Pigeons" not in text(events)
    assert "small:unsupported" in record.degraded
    assert cited(events) == ["delivery"]
    forced, _ = await shop.ask("what does standard delivery to Cologne cost", model="small")
    assert "Pigeons" in text(forced)  # who names a model gets its own words, marked
    assert isinstance(forced[-1], Done)
    assert not forced[-1].grounded


async def test_tier_that_must_have_support_says_the_sentences_that_have_it(tmp_path: Path) -> None:
    half = ScriptedLLM("Standard delivery costs 4.95 euros. Pigeons carry all parcels. It takes four working days.")
    shop = await Shop(tmp_path, llm=half, limits={"supported_only": True}).ready()
    events, record = await shop.ask("what does standard delivery to Cologne cost")
    assert path(events) == "small"
    assert text(events).strip() == "Standard delivery costs 4.95 euros."
    assert record.grounded


async def test_model_that_fails_before_its_first_word_is_replaced_by_the_passage(ready_shop: Shop) -> None:
    ready_shop.llm._fail_after = 0
    events, record = await ready_shop.ask(GENERATED)
    assert path(events) == "passage"
    assert record.degraded == ["small:retried", "small:engine_died"]


async def test_model_that_fails_while_it_speaks_goes_on_where_it_was(ready_shop: Shop) -> None:
    ready_shop.llm._fail_after = 2
    events, record = await ready_shop.ask(GENERATED)
    assert text(events) == "Standard delivery costs 4.95 euros."
    assert record.degraded == ["small:continued"]
    assert [request.continuation for request in ready_shop.llm.requests[-3:]] == [
        "",
        "Standard delivery ",
        "Standard delivery costs 4.95 ",
    ]


async def test_model_that_fails_again_and_again_ends_the_turn_with_its_error(ready_shop: Shop) -> None:
    ready_shop.llm._fail_after = 1
    with pytest.raises(EngineDiedError):
        await ready_shop.ask(GENERATED)


async def test_nothing_found_is_an_honest_abstention(shop: Shop) -> None:
    events, record = await shop.ask("zzz qqq xxx")
    assert path(events) == "abstain"
    assert not record.grounded


class FoundAt:
    """A retriever that finds one English passage, as similar as it is told."""

    def __init__(self, similarity: float) -> None:
        self._found = RetrievedChunk(passage("customs", "Parcels from abroad pass customs."), 1.0, similarity)

    async def version(self, principal: Principal, collection: str) -> str:
        return "v1"

    async def search(self, *asked: object) -> Evidence:
        return Evidence("v1", (self._found,), ())


@pytest.mark.parametrize(
    ("question", "similarity", "is_evidence"),
    [
        ("do I pay duty", 0.31, True),
        ("do I pay duty", 0.29, False),
        ("要交关税吗", 0.82, True),  # between languages the scale is another one
        ("要交关税吗", 0.80, False),
    ],
)
async def test_what_is_evidence_depends_on_the_languages_of_question_and_passage(
    tmp_path: Path, question: str, similarity: float, is_evidence: bool
) -> None:
    shop = Shop(tmp_path, retriever=FoundAt(similarity))
    events, _ = await shop.ask(question)
    assert path(events) == ("passage" if is_evidence else "abstain")


async def test_out_of_scope_is_an_abstention_whatever_was_found(shop: Shop) -> None:
    events, _ = await shop.ask("weather joke football")
    assert path(events) == "abstain"


async def test_broken_cache_costs_nothing_but_a_mark(tmp_path: Path) -> None:
    class Broken(InMemoryCache):
        async def lookup_exact(self, scope: object, normalized: str) -> None:
            raise RoomUnavailableError()

    shop = Shop(tmp_path, cache=Broken())
    events, record = await shop.ask("How long does a refund take?")
    assert path(events) == "faq"
    assert record.degraded == ["cache:down"]


async def test_dead_encoder_leaves_lexical_search(tmp_path: Path) -> None:
    class Dead:
        async def understand(self, text: str, tenant: str = "") -> None:
            raise RuntimeError("no encoder")

    shop = Shop(tmp_path, classifier=Dead())
    events, record = await shop.ask("How long does a refund take?")
    assert path(events) == "faq"
    assert "intent_classifier:down" in record.degraded


async def test_unknown_collection_and_model_are_the_callers_errors(shop: Shop) -> None:
    with pytest.raises(UnknownCollectionError):
        await shop.pipeline.check(shop.request("hi", collection="nope"))
    with pytest.raises(UnknownModelError):
        await shop.pipeline.check(shop.request("hi", model="huge"))


async def test_forced_model_is_asked_even_where_a_rule_would_answer(ready_shop: Shop) -> None:
    events, _ = await ready_shop.ask("what does standard delivery to Cologne cost", model="small")
    assert path(events) == "small"


async def test_follow_up_is_never_answered_from_the_cache(shop: Shop) -> None:
    await shop.ask("How long does a refund take?")
    events, record = await shop.ask("How do I get a refund?", "Send it back.", "and how long does it take?")
    assert path(events) not in ("exact_cache", "semantic_cache")
    assert record.path


async def test_words_of_a_curated_question_are_that_question_though_they_might_go_on_from_the_turn_before(
    tmp_path: Path,
) -> None:
    question, answer = "What does the guarantee include?", "Faults of material."
    shop = Shop(
        tmp_path, retriever=InMemoryRetriever(HashEmbedder(dim=512), [qa("guarantee", question, answer), *CHUNKS])
    )
    assert path((await shop.ask(question))[0]) == "faq"
    events, _ = await shop.ask("Do you have the Brew One?", "Yes.", question)
    assert path(events) == "exact_cache"
    assert text(events) == answer


async def test_what_a_model_wrote_to_the_same_words_is_no_answer_where_they_may_go_on(tmp_path: Path) -> None:
    guarantee = passage("guarantee", "The guarantee does include faults of material.")
    retriever = InMemoryRetriever(HashEmbedder(dim=512), [guarantee, *CHUNKS])
    llm = ScriptedLLM("The guarantee does include faults of material.")
    shop = await Shop(tmp_path, retriever=retriever, llm=llm).ready()
    question = "What does the guarantee include?"
    asked = [path((await shop.ask(question, conversation_id=asker))[0]) for asker in ("one", "two", "three")]
    assert asked[-1] == "exact_cache"
    events, _ = await shop.ask("Do you have the Brew One?", "Yes.", question)
    assert path(events) not in ("exact_cache", "semantic_cache")


@pytest.mark.parametrize(("said", "language"), [("ok, thanks a lot", "en"), ("you stupid bot", "en"), ("早上好", "zh")])
async def test_turn_that_asks_nothing_is_answered_without_a_search(shop: Shop, said: str, language: str) -> None:
    events, record = await shop.ask(said)
    assert path(events) == "rule"
    assert text(events) in [phrases[record.language] for phrases in NOTHING_ASKED.values()]
    assert record.language == language
    assert "search" not in record.step_ms
    assert record.evidence_ids == []


async def test_question_beside_a_greeting_is_answered(shop: Shop) -> None:
    events, _ = await shop.ask("hi, how long does a refund take")
    assert path(events) == "faq"


async def test_flow_of_the_company_comes_before_a_fixed_phrase(shop: Shop) -> None:
    embedder = HashEmbedder(dim=512)
    head = KeywordIntentHead(embedder, {"opening_hours": ["good morning"], "out_of_scope": ["weather"]}, sharpness=20)
    shop.pipeline.classifier = IntentClassifier(
        shop.settings.encoder, shop.settings.intents, embedder=embedder, head=head
    )
    events, _ = await shop.ask("good morning")
    assert text(events) == "We are open from 8 to 20."


async def test_forced_model_is_asked_even_small_talk(ready_shop: Shop) -> None:
    events, _ = await ready_shop.ask("hello", model="small")
    assert path(events) != "rule"


async def test_unsure_follow_up_that_finds_nothing_is_searched_as_it_was_written(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []
    search = shop.retriever.search

    async def noted(principal: Principal, collection: str, text: str, *rest: Any) -> Evidence:
        searched.append(text)
        found = await search(principal, collection, text, *rest)
        return found if len(searched) > 1 else replace(found, chunks=(), pairs=())

    monkeypatch.setattr(shop.retriever, "search", noted)
    last = "would it be four working days with standard delivery to Cologne"
    events, _ = await shop.ask("Do you sell the submarine?", "No.", last)
    assert searched == [last.replace("it", "the submarine", 1), last]
    assert path(events) == "passage"
