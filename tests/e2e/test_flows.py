"""A flow as customers live through it: over server-sent events, one message a request, in both languages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import openai
import pytest

from tests.e2e.conftest import HTTP_TIMEOUT_S, Desk
from tests.e2e.test_questions import events, text

pytestmark = pytest.mark.e2e

ORDER_EN, DAY_EN = "Which order is it about?", "On which day should it have arrived"
ORDER_ZH, DAY_ZH = "请问是哪个订单？", "物流显示是哪一天签收的"


def yesterday() -> datetime:
    return datetime.now(ZoneInfo("Europe/Amsterdam")) - timedelta(days=1)  # the sample company's time zone


class Customer:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.conversation_id = uuid4().hex
        self.done: dict[str, Any] = {}

    def says(self, message: str) -> str:
        stream = events(self._desk, message, conversation_id=self.conversation_id)
        assert stream[0][0] == "meta"
        assert stream[-1][0] == "done", stream
        self.done = stream[-1][1]
        assert not [what for what in self.done["degraded"] if what.startswith("sessions")]
        return text(stream)


def test_order_number_is_asked_for_corrected_and_a_question_in_between_is_answered(desk: Desk) -> None:
    customer = Customer(desk)
    assert customer.says("My parcel never arrived, I think it's lost").startswith(ORDER_EN)
    assert "does not look like one of our order numbers" in customer.says("it's NL-123")
    assert customer.says("NL-20458812").startswith(DAY_EN)
    assert customer.says("no, I meant 20458899").startswith(f"Noted: NL-20458899. {DAY_EN}")
    answer = customer.says("How much does express delivery cost?")
    assert "12.90 EUR" in answer
    assert f"Back to your request: {DAY_EN}" in answer
    day = f"{yesterday().day} {yesterday():%B %Y}"
    assert f"order NL-20458899 should have arrived on {day}" in customer.says("yesterday")
    assert customer.done["path"] == "handoff"
    assert customer.done["handoff_reason"] == f"parcel of order NL-20458899 is missing since {day}"


def test_chinese_customer_is_asked_in_chinese_and_may_leave(desk: Desk) -> None:
    customer = Customer(desk)
    assert customer.says("我的包裹不见了,找不到").startswith(ORDER_ZH)
    assert "这个订单号好像不对" in customer.says("12345")
    assert customer.says("BG-10023456").startswith(DAY_ZH)
    assert customer.says("不对，是10023499").startswith(f"已更正为BG-10023499。{DAY_ZH}")
    answer = customer.says("收到商品后多少天内可以退货？")
    assert "7" in answer
    assert f"回到刚才的问题：{DAY_ZH}" in answer
    assert "已经停止办理" in customer.says("算了，不查了")
    assert DAY_ZH not in customer.says("收到商品后多少天内可以退货？")


def test_first_words_that_say_it_all_are_asked_nothing(desk: Desk) -> None:
    customer = Customer(desk)
    customer.says("My parcel NL-20458850 was marked as delivered yesterday, but nobody in the house has seen it.")
    assert customer.done["handoff_reason"].startswith("parcel of order NL-20458850 is missing since ")


def test_two_messages_at_once_are_answered_one_after_the_other(desk: Desk) -> None:
    customer = Customer(desk)
    customer.says("My parcel never arrived, I think it's lost")
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(customer.says, ["NL-20458812", "yesterday"]))
    assert answers[0].startswith(DAY_EN)
    if "order numbers" in answers[1]:  # the day came first, where an order was asked for; what came second is not lost
        answers[1] = customer.says("yesterday")
    assert "NL-20458812 should have arrived" in answers[1]


def test_conversation_id_is_worth_nothing_to_a_first_message_of_another(desk: Desk) -> None:
    customer, other = Customer(desk), Customer(desk)
    customer.says("My parcel never arrived, I think it's lost")
    assert DAY_EN not in other.says("NL-20458812")
    assert customer.says("NL-20458812").startswith(DAY_EN)


def test_openai_client_that_sends_its_whole_history_is_in_the_same_flow(desk: Desk) -> None:
    client = openai.OpenAI(base_url=f"{desk.url}/v1", api_key="unused", max_retries=0, timeout=HTTP_TIMEOUT_S)
    messages: list[Any] = []
    for said, expected in (
        ("My parcel never arrived, I think it's lost", ORDER_EN),
        ("NL-20458812", DAY_EN),
        ("yesterday", "I am sorry about that. I have noted that order NL-20458812"),
    ):
        messages.append({"role": "user", "content": said})
        message = client.chat.completions.create(model="raydesk", messages=messages).choices[0].message
        assert (message.content or "").startswith(expected)
        messages.append({"role": "assistant", "content": message.content})


def test_only_message_leans_on_the_turns_that_are_remembered(desk: Desk) -> None:
    customer = Customer(desk)
    customer.says("How much does express delivery cost?")
    leaning, alone = customer.says("and how long does it take?"), Customer(desk).says("and how long does it take?")
    assert "xpress" in leaning
    assert leaning != alone
