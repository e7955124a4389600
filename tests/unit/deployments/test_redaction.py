import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.answering.redaction import Redaction

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("secret", "text", "kind"),
    [
        ("ada.lovelace+shop@mail.example.co.uk", "I am ada.lovelace+shop@mail.example.co.uk, help", "EMAIL"),
        ("李雷@例子.中国", "邮箱李雷@例子.中国", "EMAIL"),
        ("ada＠example.org", "邮箱：ada＠example.org", "EMAIL"),
        ("4111 1111 1111 1111", "card 4111 1111 1111 1111 was charged", "CARD"),
        ("4111111111111111", "卡号4111111111111111被扣款", "CARD"),
        ("5500-0000-0000-0004", "5500-0000-0000-0004", "CARD"),
        ("11010519491231002X", "身份证11010519491231002X", "ID"),
        ("11010519491231002x", "身份证号 11010519491231002x。", "ID"),
        ("DE89 3704 0044 0532 0130 00", "my IBAN is DE89 3704 0044 0532 0130 00", "ACCOUNT"),
        ("078-05-1120", "SSN 078-05-1120", "ID"),
        ("13812345678", "打13812345678找我", "PHONE"),
        ("138 1234 5678", "我的电话 138 1234 5678", "PHONE"),
        ("１３８１２３４５６７８", "电话１３８１２３４５６７８", "PHONE"),
        ("一三八一二三四五六七八", "电话一三八一二三四五六七八", "PHONE"),
        ("+44 20 7946 0958", "call +44 20 7946 0958", "PHONE"),
        ("(415) 555-0134", "call me at (415) 555-0134 please", "PHONE"),
        ("010-88886666", "座机010-88886666", "PHONE"),
        ("NL-2045-8812", "Where is order NL-2045-8812?", "ORDER"),
        ("20458812", "Where is my order number 20458812?", "ORDER"),
        ("4711", "订单号：4711 还没到", "ORDER"),
        ("SF1234567890123", "运单SF1234567890123到哪了", "ORDER"),
        ("#88123", "what about #88123", "ORDER"),
        ("E12345678", "passport no. E12345678", "ORDER"),
    ],
)
def test_personal_data_is_replaced_and_put_back(secret: str, text: str, kind: str) -> None:
    redaction = Redaction()
    sent = redaction.redacted(text)
    assert secret not in sent
    assert f"[{kind}-1]" in sent or kind in ("ORDER", "PHONE", "ID")  # one number may look like several kinds
    assert redaction.count == 1
    assert redaction.restored(sent) == text


@pytest.mark.parametrize(
    "text",
    [
        "Standard delivery costs 4.95 euros and takes 2 to 4 working days.",
        "Return it within 30 days, by 2026-11-25 or 25.11.2026.",
        "The Zephyr 600 weighs 3.2 kg; 1,299.00 EUR.",
        "退货期 30 天，运费 12 元，2026年11月25日之前。",
        "Open 8:00-20:00, from Monday to Friday.",
        "[EMAIL-1] is what I wrote",
    ],
)
def test_what_belongs_to_nobody_stays(text: str) -> None:
    redaction = Redaction()
    assert redaction.redacted(text) == text
    assert redaction.count == 0


def test_the_same_thing_has_one_placeholder_and_others_have_others() -> None:
    redaction = Redaction()
    first = redaction.redacted("Call +44 20 7946 0958 or +44 20 7946 0959, or mail a@example.org")
    second = redaction.redacted("as I said: +44 2079460958, A@example.org")
    assert first == "Call [PHONE-1] or [PHONE-2], or mail [EMAIL-1]"
    assert second == "as I said: [PHONE-1], [EMAIL-1]"


def test_what_is_known_to_be_private_needs_no_form() -> None:
    redaction = Redaction(["Rumpelstilzchen", ""])
    sent = redaction.redacted("I am rumpelstilzchen. Rumpelstilzchen!")
    assert sent == "I am [ID-1]. [ID-1]!"


def test_a_placeholder_that_the_customer_wrote_stays_what_it_is() -> None:
    redaction = Redaction()
    text = "[EMAIL-1] is not a@example.org"
    assert redaction.redacted(text) == "[EMAIL-1] is not [EMAIL-2]"
    assert redaction.restored("[EMAIL-1] [EMAIL-2] [EMAIL-3]") == "[EMAIL-1] a@example.org [EMAIL-3]"


def test_two_that_overlap_leave_nothing_of_either() -> None:
    redaction = Redaction(["555-0134 Ada"])
    sent = redaction.redacted("call (415) 555-0134 Ada now")
    assert sent == "call [ID-1] now"
    assert redaction.restored(sent) == "call (415) 555-0134 Ada now"


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_pieces_give_what_the_whole_gives(data: st.DataObject) -> None:
    redaction = Redaction()
    redaction.redacted("a@example.org 13812345678")
    parts = st.sampled_from(["[EMAIL-1]", "[PHONE-1]", "[", "]", "[EM", "[a](b)", "x ", "完", "[EMAIL-9]", "[[[["])
    said = "".join(data.draw(st.lists(parts, max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=8)))
    restoring = redaction.restoring()
    pieces = [restoring.feed(said[a:b]) for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    assert "".join([*pieces, restoring.rest()]) == redaction.restored(said)
