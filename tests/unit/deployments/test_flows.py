"""Flows, walked through the whole pipeline, turn by turn, in both languages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deployments.answering.errors import DependencyError, RoomUnavailableError
from deployments.answering.phrases import ASK_AGAIN, BACK_TO, HANDED_OVER, LEFT
from deployments.answering.session import Session, SessionKey
from deployments.answering.types import Delta, Done, Meta, Principal, TurnRecord
from deployments.fakes import InMemorySessions
from tests.unit.deployments.conftest import RULES, Shop

pytestmark = pytest.mark.unit

FLOWS = (
    RULES
    + """
  - name: parcel
    intent: missing_parcel
    steps:
      - ask: order
      - ask: day
      - when: {slots: {day: {within_days: 30}}}
        handoff: {reason: "{order} missing since {day}"}
        reply:
          en: {text: "Order {order} of {day} is looked for.", links: [{label: it, url: "https://x.example/?o={order}"}]}
          zh: {text: "订单{order}，{day}，正在查找。"}
      - reply: {en: {text: "{day} is too long ago."}, zh: {text: "{day}太久了。"}}
  - name: status
    intent: track_order
    steps:
      - ask: order
      - tool: {name: order_status, arguments: {number: "{order}"}}
      - when: {slots: {order_status.state: {one_of: [lost]}}}
        handoff: {reason: "{order} is lost"}
      - reply: {en: {text: "Order {order} is {order_status.state}."}}
  - name: care
    intent: care
    steps:
      - ask: machine
      - retrieve: true
        query: {en: "{machine} descale", zh: "{machine}除垢"}
slots:
  order:
    type: order_number
    pattern: ORD-\\d{4}
    examples: ORD-1234
    ask: {en: "Which order?", zh: "哪个订单？"}
    hint: {en: "Like ORD-1234.", zh: "例如ORD-1234。"}
    keep: true
  day:
    type: date
    latest_days: 0
    ask: {en: "Which day?", zh: "哪一天？"}
  machine:
    type: choice
    choices:
      - {value: brew, labels: {en: Brew One machine, zh: 小白}}
      - {value: brio, labels: {en: Brio, zh: 小黑}}
    ask: {en: "Which machine?", zh: "哪款机器？"}
"""
)
EXAMPLES = {
    "missing_parcel": ["my parcel is missing", "parcel has not arrived", "我的包裹丢了 没收到"],
    "track_order": ["where is my order"],
    "care": ["how do I clean it properly"],
}
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp()


class Orders:
    """The company's order system."""

    names = frozenset({"order_status"})

    def __init__(self) -> None:
        self.state = "packed"
        self.calls: list[tuple[str, Mapping[str, str]]] = []

    async def call(self, principal: Principal, tool: str, arguments: Mapping[str, str]) -> Mapping[str, str]:
        self.calls.append((principal.tenant, arguments))
        if self.state == "away":
            raise RoomUnavailableError()
        return {"state": self.state}


class Customer:
    """Says one thing after the other under one conversation id, as clients do that send their last message alone."""

    def __init__(self, shop: Shop, conversation: str = "c1") -> None:
        self._shop = shop
        self._conversation = conversation
        self.done = Done("rule", "stop", True)

    async def says(self, text: str, **changes: Any) -> str:
        """What it is answered."""
        events, self.record = await self._shop.ask(text, conversation_id=self._conversation, **changes)
        assert isinstance(events[0], Meta)
        assert isinstance(events[-1], Done)
        self.done = events[-1]
        return "".join(event.text for event in events if isinstance(event, Delta))


@pytest.fixture
def orders() -> Orders:
    return Orders()


@pytest.fixture
def sessions() -> InMemorySessions:
    return InMemorySessions()


@pytest.fixture
def flows(tmp_path: Path, orders: Orders, sessions: InMemorySessions) -> Shop:
    return Shop(
        tmp_path, rules=FLOWS, examples=EXAMPLES, sessions=sessions, tools=orders, now_s=lambda: NOW, cache=None
    )


@pytest.fixture
def customer(flows: Shop) -> Customer:
    return Customer(flows)


LOOKED_FOR = "Order ORD-1234 of 24 November 2026 is looked for."


@pytest.mark.parametrize(
    "turns",
    [
        # asked for everything
        [("my parcel is missing", "Which order?"), ("ORD-1234", "Which day?"), ("yesterday", LOOKED_FOR)],
        # the first words say some of it
        [("my parcel ord-1234 is missing", "Which day?"), ("yesterday", LOOKED_FOR)],
        # an answer says more than was asked
        [("my parcel is missing", "Which order?"), ("1234, it was due yesterday", LOOKED_FOR)],
        # a wrong one, another wrong one, and a right one
        [
            ("my parcel is missing", "Which order?"),
            ("12345", "Like ORD-1234."),
            ("something blue", "Like ORD-1234."),
            ("1234", "Which day?"),
            ("99 November", f"{ASK_AGAIN['en']}Which day?"),
            ("yesterday", LOOKED_FOR),
        ],
        # corrected while something else is asked, and after the end
        [
            ("my parcel ORD-9999 is missing", "Which day?"),
            ("no, I meant 1234", "Noted: ORD-1234. Which day?"),
            ("yesterday", LOOKED_FOR),
            ("sorry, it was last Friday", "Order ORD-1234 of 20 November 2026 is looked for."),
            ("wrong, the order should be 5678", "Order ORD-5678 of 20 November 2026 is looked for."),
        ],
        # a question that only looks like a correction
        [
            ("my parcel ORD-1234 is missing yesterday", LOOKED_FOR),
            ("actually, how long does a refund take, until Friday?", None),
        ],
        # left
        [("my parcel is missing", "Which order?"), ("never mind", LEFT["en"]), ("ORD-1234", None)],
        # a question in between
        [
            ("my parcel is missing", "Which order?"),
            ("How long does a refund take?", f"Five working days.{BACK_TO['en']}Which order?"),
            ("opening hours today", f"We are open from 8 to 20.{BACK_TO['en']}Which order?"),
            ("ORD-1234", "Which day?"),
        ],
        # a branch
        [("my parcel ORD-1234 is missing", "Which day?"), ("2 March 2026", "2 March 2026 is too long ago.")],
        # in Chinese, through all of it
        [
            ("我的包裹丢了", "哪个订单？"),
            ("ORD-99999", "例如ORD-1234。"),
            ("ORD-9999", "哪一天？"),
            ("不对，是1234", "已更正为ORD-1234。哪一天？"),
            ("退款多久到账", f"三个工作日。{BACK_TO['zh']}哪一天？"),
            ("昨天", "订单ORD-1234，2026年11月24日，正在查找。"),
            ("说错了，是上周五", "订单ORD-1234，2026年11月20日，正在查找。"),
        ],
        [("我的包裹丢了", "哪个订单？"), ("算了，不查了", LEFT["zh"])],
        [("我的包裹ORD-1234丢了，昨天就该到了", "订单ORD-1234，2026年11月24日，正在查找。")],
        # another flow takes its place, and knows what was kept
        [
            ("my parcel ORD-1234 is missing", "Which day?"),
            ("where is my order", "Which order?"),
            ("1234", "Order ORD-1234 is packed."),
        ],
        [
            ("my parcel ORD-1234 is missing", "Which day?"),
            ("yesterday", LOOKED_FOR),
            ("where is my order", "Order ORD-1234 is packed."),
        ],
        # a person is asked for in the middle: the flow is over
        [
            ("my parcel is missing", "Which order?"),
            ("talk human person agent", "I am calling a colleague."),
            ("ORD-1234", None),
        ],
    ],
    ids=lambda turns: " | ".join(said for said, _ in turns),
)
async def test_flow(customer: Customer, turns: list[tuple[str, str | None]]) -> None:
    for said, expected in turns:
        answer = await customer.says(said)
        if expected is None:
            assert "?" not in answer or customer.done.path == "abstain", answer
        else:
            assert answer == expected, (said, customer.record.route_reason)


async def test_values_go_where_the_rule_says_and_nowhere_else(customer: Customer) -> None:
    await customer.says("my parcel ORD-1234 is missing")
    await customer.says("yesterday")
    assert customer.done.path == "handoff"
    assert customer.done.handoff_reason == "ORD-1234 missing since 24 November 2026"
    assert customer.done.links[0].url == "https://x.example/?o=ORD-1234"


async def test_after_three_wrong_answers_a_person_takes_over(customer: Customer) -> None:
    await customer.says("my parcel is missing")
    for wrong in ("11111", "22222"):
        assert await customer.says(wrong) == "Like ORD-1234."
    assert await customer.says("33333") == HANDED_OVER["en"]
    assert (customer.done.path, customer.done.handoff_reason) == ("handoff", "no valid order after 3 tries")
    assert customer.record.path == "handoff"


async def test_question_is_dropped_when_the_customer_goes_on_with_other_things(customer: Customer) -> None:
    await customer.says("my parcel is missing")
    answers = [await customer.says("How long does a refund take?") for _ in range(4)]
    assert [answer.endswith("Which order?") for answer in answers] == [True, True, True, False]
    assert await customer.says("1234") != "Which day?"


async def test_thanks_in_between_is_no_wrong_answer(customer: Customer) -> None:
    await customer.says("my parcel is missing")
    for _ in range(3):
        assert (await customer.says("ok, thanks")).endswith(f"{BACK_TO['en']}Which order?")
    assert await customer.says("1234") == "Which day?"


async def test_choice_offers_its_buttons_and_a_flow_can_end_in_the_knowledge(flows: Shop, customer: Customer) -> None:
    assert await customer.says("how do I clean it properly") == "Which machine?"
    assert [button.label for button in customer.done.buttons] == ["Brew One machine", "Brio"]
    answer = await customer.says("the first one")
    assert "Descale the Brew One machine every 200 cups" in answer
    assert customer.done.path == "passage"


async def test_tool_is_called_once_for_a_value_with_the_caller_s_principal(customer: Customer, orders: Orders) -> None:
    assert await customer.says("where is my order ORD-1234") == "Order ORD-1234 is packed."
    orders.state = "lost"
    assert await customer.says("no, I meant 5678") == HANDED_OVER["en"]
    assert customer.done.handoff_reason == "ORD-5678 is lost"
    assert orders.calls == [("demo", {"number": "ORD-1234"}), ("demo", {"number": "ORD-5678"})]


async def test_where_a_tool_is_away_a_person_goes_on(customer: Customer, orders: Orders) -> None:
    orders.state = "away"
    assert await customer.says("where is my order ORD-1234") == HANDED_OVER["en"]
    assert (customer.done.path, customer.done.degraded) == ("handoff", ("tools:down",))


async def test_what_a_value_holds_is_never_read_as_a_text_of_ours(tmp_path: Path) -> None:
    rules = """
slots: {what: {type: text, ask: {en: "What is wrong?"}}}
rules:
  - name: broken
    intent: missing_parcel
    steps: [{ask: what}, {reply: {en: {text: "Noted: {what}", links: [{label: l, url: "https://x.example/{what}"}]}}}]
"""
    shop = Shop(tmp_path, rules=rules, examples=EXAMPLES, sessions=InMemorySessions(), cache=None)
    customer = Customer(shop)
    await customer.says("my parcel is missing")
    assert await customer.says("{what} {secret}/../?x=1") == "Noted: {what} {secret}/../?x=1"
    assert customer.done.links[0].url == "https://x.example/%7Bwhat%7D%20%7Bsecret%7D%2F..%2F%3Fx%3D1"


# --- conversations ---


async def test_only_message_of_a_known_conversation_is_read_with_the_turns_before(flows: Shop) -> None:
    searched: list[str] = []
    search = flows.retriever.search

    async def noted(principal: Principal, collection: str, text: str, *rest: Any) -> Any:
        searched.append(text)
        return await search(principal, collection, text, *rest)

    flows.retriever.search = noted
    customer = Customer(flows)
    await customer.says("How long does a refund take?")
    await customer.says("and to Cologne?")
    assert "refund" in searched[-1]
    searched.clear()
    await Customer(flows, "another").says("and to Cologne?")
    assert "refund" not in searched[-1]


async def test_history_that_is_sent_is_the_history(flows: Shop) -> None:
    customer = Customer(flows)
    await customer.says("How long does a refund take?")
    request = flows.request("Do you ship to Cologne?", "Yes.", "and to Berlin?", conversation_id="c1")
    events, _ = await flows.ask(*[message.content for message in request.messages], conversation_id="c1")
    assert isinstance(events[-1], Done)


async def test_client_that_sends_all_and_names_no_conversation_is_in_its_flow_all_the_same(flows: Shop) -> None:
    said: list[str] = []
    for number, (text, expected) in enumerate(
        [("my parcel is missing", "Which order?"), ("ORD-1234", "Which day?"), ("yesterday", LOOKED_FOR)]
    ):
        events, record = await flows.ask(*said, text, conversation_id=f"new-{number}", is_new_conversation=True)
        assert record.answer == expected
        said += [text, f" {record.answer}\n"]  # clients trim, or do not
        assert isinstance(events[0], Meta)


@pytest.mark.parametrize("other", [{"tenant": "rival"}, {"key_id": "another"}])
async def test_conversation_of_another_principal_is_another_one(
    flows: Shop, customer: Customer, other: dict[str, str]
) -> None:
    await customer.says("my parcel is missing")
    principal = Principal(**({"tenant": "demo", "audiences": frozenset({"public"}), "key_id": "loopback"} | other))
    flows.retriever._place = (principal.tenant, "help")
    assert await customer.says("ORD-1234", principal=principal) != "Which day?"
    flows.retriever._place = ("demo", "help")
    assert await customer.says("ORD-1234") == "Which day?"


async def test_any_replica_serves_the_next_turn(tmp_path: Path, sessions: InMemorySessions, orders: Orders) -> None:
    options = {"rules": FLOWS, "examples": EXAMPLES, "sessions": sessions, "tools": orders, "now_s": lambda: NOW}
    first, second = Shop(tmp_path, **options), Shop(tmp_path, **options)
    assert await Customer(first).says("my parcel is missing") == "Which order?"
    assert await Customer(second).says("ORD-1234") == "Which day?"
    assert await Customer(first).says("yesterday") == LOOKED_FOR


async def test_two_messages_at_once_are_one_after_the_other(customer: Customer, flows: Shop) -> None:
    await customer.says("my parcel is missing")
    answers = await asyncio.gather(Customer(flows).says("ORD-1234"), Customer(flows).says("yesterday"))
    assert answers == ["Which day?", LOOKED_FOR]


class AwaySessions(InMemorySessions):
    """Its store is gone, from a call on."""

    def __init__(self, gone: str) -> None:
        super().__init__()
        self.gone = gone

    async def enter(self, key: SessionKey) -> Any:
        if self.gone == "begin":
            raise RoomUnavailableError()
        return await super().enter(key)

    async def end(self, held: Any, session: Session | None) -> None:
        await super().end(held, None)
        raise RoomUnavailableError()


@pytest.mark.parametrize("gone", ["begin", "end"])
async def test_without_its_store_the_turn_is_answered_from_its_request(tmp_path: Path, gone: str) -> None:
    shop = Shop(tmp_path, rules=FLOWS, examples=EXAMPLES, sessions=AwaySessions(gone), tools=Orders(), cache=None)
    customer = Customer(shop)
    assert await customer.says("How long does a refund take?") == "Five working days."
    assert customer.done.degraded == ("sessions:down",)
    assert customer.record.degraded == ["sessions:down"]


async def test_turn_that_waits_too_long_goes_on_without_the_session(tmp_path: Path) -> None:
    sessions = InMemorySessions()
    shop = Shop(tmp_path, sessions=sessions, cache=None)
    shop.settings = shop.settings.model_copy(
        update={"sessions": shop.settings.sessions.model_copy(update={"wait_s": 0.01})}
    )
    shop.pipeline.settings = shop.settings
    held = await sessions.begin(SessionKey.of(shop.request("x").principal, "c1"), 1)
    customer = Customer(shop)
    assert await customer.says("How long does a refund take?") == "Five working days."
    assert customer.done.degraded == ("sessions:busy",)
    await sessions.end(held, None)


async def test_turn_that_is_cut_lets_the_next_one_go_on_and_leaves_no_trace(flows: Shop, customer: Customer) -> None:
    await customer.says("my parcel is missing")
    request = flows.request("ORD-1234", conversation_id="c1")
    record = TurnRecord("t", "r", "c1", "demo", "k", "http", "help", 0.0, request.text)
    answer: AsyncIterator[Any] = flows.pipeline.answer(request, record)
    assert isinstance(await anext(answer), Meta)
    await answer.aclose()  # type: ignore[attr-defined]
    assert await customer.says("ORD-1234") == "Which day?"


async def test_rules_that_changed_meanwhile_leave_no_customer_in_a_dead_flow(
    tmp_path: Path, flows: Shop, customer: Customer
) -> None:
    await customer.says("my parcel is missing")
    flows.pipeline.use_rules(Shop(tmp_path).pipeline.rules)
    assert await customer.says("How long does a refund take?") == "Five working days."


async def test_where_the_classifier_is_away_a_flow_goes_on(flows: Shop, customer: Customer) -> None:
    await customer.says("my parcel is missing")

    class Away:
        async def understand(self, text: str, tenant: str = "") -> Any:
            raise DependencyError()

    flows.pipeline.classifier = Away()
    assert await customer.says("something blue") == "Like ORD-1234."
    assert await customer.says("ORD-1234") == "Which day?"


async def test_forced_model_and_other_collections_have_no_flows(flows: Shop, customer: Customer) -> None:
    await customer.says("my parcel is missing")
    assert "Which day?" not in await customer.says("ORD-1234", model="small")
