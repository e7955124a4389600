"""Text in any encoding is read as it was written, or is said to be none."""

from __future__ import annotations

import random

import pytest

from ingestion.encodings import decode
from ingestion.errors import ParseError

pytestmark = pytest.mark.unit

SIMPLIFIED = "退货政策：收到商品之日起七天内可以申请退货，运费由买家承担。\n如何申请？请联系客服，电话 400-820-8820。"
TRADITIONAL = "退貨政策：收到商品之日起七天內可以申請退貨，運費由買家承擔。\n如何申請？請聯繫客服，電話 02-8770-1234。"
ENGLISH = "Returns are free within 30 days – ask the café’s staff, or write to us. “Yes”, it costs 5 €."
GERMAN = "Änderungen vorbehalten. Für Größe und Maße über 2 m fragen Sie bitte nach."
FRENCH = "L’échange est gratuit ; où est ma commande ? Très bien, à bientôt."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((SIMPLIFIED, name) for name in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "gbk", "gb18030")),
        *((SIMPLIFIED, name) for name in ("utf-16-le", "utf-16-be")),
        *((TRADITIONAL, name) for name in ("big5", "cp950", "gb18030", "utf-16", "utf-16-le")),
        *((ENGLISH, name) for name in ("cp1252", "utf-8", "utf-16", "utf-16-le", "utf-16-be")),
        *((GERMAN, name) for name in ("latin-1", "cp1252", "utf-8", "utf-16-be")),
        (FRENCH, "cp1252"),
        ("Plain ASCII, which is the same in all of them.", "latin-1"),
    ],
)
def test_text_is_read_as_it_was_written(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text
    assert decode((text * 50).encode(encoding)) == text * 50


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("你好，请问", "gbk"),
        ("问题,答案\n如何退货？,七天内。", "gb18030"),
        ("退貨運費", "big5"),
        ("Café", "latin-1"),
        ("L’échange", "cp1252"),
        ("Änderungen", "latin-1"),
        ("¿Cómo puedo devolverlo?", "latin-1"),
        ("Die Rückgabe ist für alle Käufer möglich.", "cp1252"),
        ("Как вернуть товар?", "cp1251"),
        ("返品するにはどうすればいいですか", "shift_jis"),
    ],
)
def test_a_line_is_enough(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_what_a_page_declares_is_believed_where_it_can_be_true() -> None:
    assert decode("Ţară".encode("iso8859-2"), "iso8859-2") == "Ţară"
    assert decode("朱镕基".encode("gbk"), "gb2312") == "朱镕基"  # the second is beyond GB 2312
    assert decode("“café”".encode("cp1252"), "iso-8859-1") == "“café”"
    assert decode("退货".encode(), "gbk") == "退货"  # the page lies
    assert decode("退货政策".encode("gbk"), "no-such-encoding") == "退货政策"


def test_damaged_text_is_not_taken_for_another_encoding() -> None:
    data = SIMPLIFIED.encode()
    with pytest.raises(ParseError, match="cut off in the middle of a character"):
        decode(data[:40])  # 40 = 3·13 + 1
    with pytest.raises(ParseError, match="damaged at byte 30"):
        decode(data[:30] + b"\xff" + data[31:])


def test_junk_is_no_text() -> None:
    draw = random.Random(3)
    for size in (200, 5000):
        for least in (0, 1):  # with and without zeros
            junk = bytes(draw.randrange(least, 256) for _ in range(size))
            with pytest.raises(ParseError, match=r"not text|no text"):
                decode(junk)
