"""What becomes a question-answer pair, in every shape that documents hold them in, and what must not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import openpyxl  # type: ignore[import-untyped, unused-ignore]
import pytest

from ingestion.document import Details, Document
from ingestion.embedding import question_text
from ingestion.parse import parse
from ingestion.questions import asks, is_whole, stands_alone
from ingestion.split import MAX_WIDTH, split, width

pytestmark = pytest.mark.unit

Pairs = list[tuple[str, str]]
Read = Callable[[str, str], Document]


@pytest.fixture
def one(tmp_path: Path) -> Read:
    def read(name: str, content: str) -> Document:
        (tmp_path / name).write_text(content, encoding="utf-8")
        (document,) = parse(tmp_path / name, name).documents
        return document

    return read


def pairs(document: Document) -> Pairs:
    return [(block.question, block.text) for block in document.blocks if block.kind == "pair"]


def prose(document: Document) -> list[str]:
    return [block.text for block in document.blocks if block.kind != "pair"]


# --- marks ---


@pytest.mark.parametrize(
    "text",
    [
        "Q: How do I return it?\nA: Press Return.\nQ: Who pays?\nA: We do.",
        "Q: How do I return it?\n\nA: Press Return.\n\nQ: Who pays?\n\nA: We do.",
        "Q1: How do I return it?\nA1: Press Return.\nQ2: Who pays?\nA2: We do.",
        "Q1. How do I return it?\nA1. Press Return.\n\nQ2. Who pays?\nA2. We do.",
        "Q1 How do I return it?\nA1 Press Return.\n\nQ2 Who pays?\nA2 We do.",
        "Question: How do I return it?\nAnswer: Press Return.\nQuestion: Who pays?\nAnswer: We do.",
        "Question 1: How do I return it?\nAnswer 1: Press Return.\n\nQuestion 2: Who pays?\nAnswer 2: We do.",
        "[Q] How do I return it?\n[A] Press Return.\n\n[Q] Who pays?\n[A] We do.",
        "1. Q: How do I return it?\n   A: Press Return.\n2. Q: Who pays?\n   A: We do.",
        "q: How do I return it? a: Press Return. q: Who pays? a: We do.",
        "Q. How do I return it?\nA. Press Return.\nQ. Who pays?\nA. We do.",
        "Q: How do I return it?\nPress Return.\n\nQ: Who pays?\nWe do.",
        "Q1: How do I return it?\n\nPress Return.\n\nQ2: Who pays?\n\nWe do.",
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_marked_questions_in_english(one: Read, text: str, name: str) -> None:
    assert pairs(one(name, text)) == [("How do I return it?", "Press Return."), ("Who pays?", "We do.")]


@pytest.mark.parametrize(
    "text",
    [
        "问：如何退货？\n答：七天内申请。\n问：运费谁付？\n答：由我们承担。",
        "问:如何退货？\n\n答:七天内申请。\n\n问:运费谁付？\n\n答:由我们承担。",
        "问题：如何退货？\n回答：七天内申请。\n\n问题：运费谁付？\n回答：由我们承担。",
        "问题1：如何退货？\n答案：七天内申请。\n问题2：运费谁付？\n答案：由我们承担。",
        "问题一：如何退货？\n答：七天内申请。\n\n问题二：运费谁付？\n答：由我们承担。",
        "【问】如何退货？\n【答】七天内申请。\n【问】运费谁付？\n【答】由我们承担。",
        "Q：如何退货？\nA：七天内申请。\nQ：运费谁付？\nA：由我们承担。",
        "Q1、如何退货？\nA1、七天内申请。\nQ2、运费谁付？\nA2、由我们承担。",
        "1、问：如何退货？答：七天内申请。\n2、问：运费谁付？答：由我们承担。",
        "问：如何退货？答：七天内申请。问：运费谁付？答：由我们承担。",
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_marked_questions_in_chinese(one: Read, text: str, name: str) -> None:
    assert pairs(one(name, text)) == [("如何退货？", "七天内申请。"), ("运费谁付？", "由我们承担。")]


def test_traditional_characters_are_read_as_well(one: Read) -> None:
    found = one("a.txt", "問：如何退貨？\n答：七天內申請。\n\n問題2：運費誰付？\n回覆：由我們承擔。")
    assert pairs(found) == [("如何退貨？", "七天內申請。"), ("運費誰付？", "由我們承擔。")]


def test_an_answer_is_complete(one: Read) -> None:
    document = one(
        "faq.md",
        "# FAQ\n\nFor all shops.\n\n**Q: How do I return it?**\n\nA: In three steps:\n\n1. Open *My orders*\n"
        "2. Press Return\n\n| Country | Label |\n|---|---|\n| EU | free |\n| UK | 5 € |\n\nKeep the receipt.\n\n"
        "Q: Who pays?\n\nA: We do.\n\n## Contact\n\nCall us.\n",
    )
    first, second = pairs(document)
    assert first == (
        "How do I return it?",
        "In three steps:\n\n1. Open My orders\n2. Press Return\n\nCountry: EU | Label: free\nCountry: UK | Label: 5 €\n"
        "\nKeep the receipt.",
    )
    assert second == ("Who pays?", "We do.")
    assert prose(document) == ["For all shops.", "Contact", "Call us."]


def test_a_question_may_have_several_lines(one: Read) -> None:
    (found,) = pairs(one("a.txt", "Q: I ordered two lamps.\nCan I return one of them?\nA: Yes,\nwithin 30 days."))
    assert found == ("I ordered two lamps. Can I return one of them?", "Yes,\nwithin 30 days.")


@pytest.mark.parametrize(
    "text",
    [
        "Q: How do I return it?\n\nQ: Who pays?",  # no answers
        "Q3: 12 % more revenue than in Q2: a record.",
        "Q4 2025 was good.\n\nA4 paper is sold out.",
        "A. Open the lid\nB. Fill in water\nC. Press start",
        "A: anode\nK: cathode",
        "问题：登录页面打不开，正在处理中。",  # a report, without a solution
        "Q: How do I return it?\nA: Read more...",
        "Q: How do I return it?\nA:",
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_marks_without_a_question_or_its_answer_stay_prose(one: Read, text: str, name: str) -> None:
    document = one(name, f"Some text.\n\n{text}")
    assert pairs(document) == []
    said = "".join("".join(prose(document)).split())
    assert all(word in said for word in text.split() if word.isalnum())


def test_a_fault_and_its_remedy_are_a_pair(one: Read) -> None:
    found = one("a.txt", "问题：机器不通电\n解决方法：检查插座，再按住电源键三秒。")
    assert pairs(found) == [("机器不通电", "检查插座，再按住电源键三秒。")]


# --- headings ---

FAQ_MARKDOWN = """# Help

## How do I return an item?

Open *My orders*.

- Print the label
- Keep the receipt

## Delivery

We deliver daily.

### 3. Wie lange? How long does delivery take?

Two days.

## 如何修改收货地址

发货前可在订单页修改。
"""
FAQ_PAIRS = [
    ("How do I return an item?", "Open My orders.\n\n- Print the label\n- Keep the receipt"),
    ("Wie lange? How long does delivery take?", "Two days."),
    ("如何修改收货地址", "发货前可在订单页修改。"),
]


def test_headings_that_ask_have_the_text_below_as_answer(one: Read) -> None:
    document = one("a.md", FAQ_MARKDOWN)
    assert pairs(document) == FAQ_PAIRS
    assert prose(document) == ["Delivery", "We deliver daily."]
    chunks = {chunk.question: chunk for chunk in split(document, "help")}
    assert chunks["How do I return an item?"].heading_path == ()
    assert chunks["Wie lange? How long does delivery take?"].heading_path == ("Delivery",)
    assert chunks["如何修改收货地址"].language == "zh"


def test_the_title_may_ask(one: Read) -> None:
    assert pairs(one("a.md", "---\ntitle: How do I cancel?\n---\nPress Cancel.\n\nThat is all.")) == [
        ("How do I cancel?", "Press Cancel.\n\nThat is all.")
    ]
    assert pairs(one("b.md", "# 怎样注销账户？\n\n在设置中提交申请。")) == [("怎样注销账户？", "在设置中提交申请。")]
    assert pairs(one("c.jsonl", '{"title": "How do I cancel an order?", "content": "Press Cancel."}\n')) == [
        ("How do I cancel an order?", "Press Cancel.")
    ]


@pytest.mark.parametrize(
    "section",
    [
        "## Questions?\n\nCall us.",
        "## Any other questions?\n\nCall us.",
        "## Need help?\n\nWe are there for you.",
        "## Ready to get started?\n\nSign up now.",
        "## Did you know?\n\nWe plant trees.",
        "## Why choose us?\n\nWe are the best.",
        "## 还有其他问题吗？\n\n请联系客服。",
        "## 为什么选择我们？\n\n因为我们最好。",
        "## 需要帮助？\n\n请联系客服。",
        "## How do I return it?",  # nothing below
        "## How do I return it?\n\n## Next\n\nText.",
        "## How do I return it?\n\n[Read more](https://a.example/more)",
        "## How do I return it?\n\nThere are three ways:",
        "## How does it work?\n\nIt heats water.",  # what?
        "## 它的保修期多久？\n\n两年。",
        "## How do I return things?\n\nThere are two ways.\n\n### By post\n\nSend it.\n\n### In the shop\n\nBring it.",
        "## What we believe\n\nText.",
        "## 无论如何都要保留发票\n\n否则无法保修。",
    ],
)
def test_rhetoric_and_chapters_are_no_pairs(one: Read, section: str) -> None:
    document = one("a.md", f"# Shop\n\nText above.\n\n{section}\n")
    assert pairs(document) == []


def test_an_article_under_a_question_stays_an_article(one: Read) -> None:
    assert pairs(one("a.md", "# Shop\n\nText.\n\n## How do returns work?\n\n" + "Some rule applies. " * 200)) == []


# --- bold lines, lists, HTML ---


def test_bold_lines_are_headings(one: Read) -> None:
    document = one(
        "a.md", "# FAQ\n\n**How do I pay?**\n\nBy card.\n\n**Shipping**\n\nIt is free.\n\n**Never do that!**\n\nText."
    )
    assert pairs(document) == [("How do I pay?", "By card.")]
    assert [block.text for block in document.blocks if block.kind == "heading"] == ["Shipping"]


def test_a_bold_question_may_stand_before_its_answer(one: Read) -> None:
    expected = [("How do I pay?", "By card."), ("支持花呗吗？", "支持。")]
    assert pairs(one("a.md", "# FAQ\n\n**How do I pay?** By card.\n\n**支持花呗吗？** 支持。")) == expected
    assert pairs(one("b.md", "# FAQ\n\n**How do I pay?**\nBy card.\n\n**支持花呗吗？**\n支持。")) == expected
    assert pairs(one("c.md", "# FAQ\n\n- **How do I pay?** By card.\n- **支持花呗吗？** 支持。")) == expected


@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_lines_that_ask_are_questions_where_there_are_several(one: Read, name: str) -> None:
    text = (
        "1. How do I pay?\n\nBy card or by invoice.\n\n2. How long does delivery take?\n\nTwo days.\n\nIn winter three."
    )
    assert pairs(one(name, f"Good to know.\n\n{text}")) == [
        ("How do I pay?", "By card or by invoice."),
        ("How long does delivery take?", "Two days.\n\nIn winter three."),
    ]
    assert pairs(one(name, "Some text.\n\nHow could this happen to us?\n\nA cable broke.\n\nAll is well.")) == []


def test_a_table_of_contents_is_no_answer(one: Read) -> None:
    listed = "- How do I pay?\n- How long does delivery take?\n- Can I return it?\n\nPlease read on.\n\n"
    asked = "How do I pay?\n\nBy card.\n\nHow long does delivery take?\n\nTwo days.\n"
    assert pairs(one("a.md", listed + asked)) == [
        ("How do I pay?", "By card."),
        ("How long does delivery take?", "Two days."),
    ]


def test_definition_lists_explain_or_answer(one: Read) -> None:
    document = one(
        "a.html",
        "<h1>Terms</h1><dl><dt>How long is the warranty?</dt><dd>Two years.</dd><dd>Batteries: one.</dd>"
        "<dt>RMA</dt><dt>Return number</dt><dd><p>The number that you get before you send an item back to us.</p></dd>"
        "<div><dt>Weight</dt><dd>2 kg</dd></div><dt>什么是延保？</dt><dd>在保修期之外延长的保修。</dd></dl>",
    )
    rma = "The number that you get before you send an item back to us."
    assert pairs(document) == [
        ("How long is the warranty?", "Two years.\n\nBatteries: one."),
        ("RMA", rma),
        ("Return number", rma),
        ("什么是延保？", "在保修期之外延长的保修。"),
    ]
    assert prose(document) == ["Weight: 2 kg"]


def test_details_unfold_to_an_answer(one: Read) -> None:
    document = one(
        "a.md",
        "# Help\n\n<details><summary>How do I pay?</summary>\n\nBy card:\n\n- Visa\n- Amex\n\n</details>\n\n"
        "<details><summary>Show more</summary>\n\nWe also take coins and notes in all our shops, of course.\n\n"
        "</details>\n\n<details><summary>Where are you?</summary>In <b>Rotterdam</b>.</details>\n",
    )
    assert pairs(document) == [("How do I pay?", "By card:\n\n- Visa\n- Amex"), ("Where are you?", "In Rotterdam.")]
    assert "We also take coins and notes in all our shops, of course." in prose(document)


def test_an_accordion_is_read_though_it_is_folded(one: Read) -> None:
    document = one(
        "a.html",
        "<main><h2>FAQ</h2><button aria-controls='p1' aria-expanded='false'>How do I pay?</button>"
        "<div id='p1' hidden><p>By card.</p></div><h3><button aria-controls='p2'>Can I pay later?</button></h3>"
        "<div id='p2' style='display:none'>Yes, with an invoice.</div><button>Buy</button><p hidden>secret</p></main>",
    )
    assert pairs(document) == [("How do I pay?", "By card."), ("Can I pay later?", "Yes, with an invoice.")]
    assert prose(document) == []


def test_what_a_page_tells_search_engines_is_believed_once(one: Read) -> None:
    described = {
        "@context": "https://schema.org",
        "@graph": [
            {"@type": "WebPage"},
            {
                "@type": "FAQPage",
                "mainEntity": [
                    {
                        "@type": "Question",
                        "name": "How do I pay?",
                        "acceptedAnswer": {"text": "<p>By <b>card</b>.</p>"},
                    },
                    {
                        "@type": "Question",
                        "name": "Why &amp; when?",
                        "acceptedAnswer": {"text": "Always.<ul><li>A</ul>"},
                    },
                    {"@type": "Question", "name": "No answer?", "acceptedAnswer": {"text": " "}},
                    {"@type": "Question", "name": 7, "acceptedAnswer": []},
                ],
            },
        ],
    }
    scripts = "".join(
        f"<script type='application/ld+json'>{text}</script>"
        for text in (json.dumps(described), "{broken", "[" * 99_999)
    )
    document = one("a.html", f"<head>{scripts}</head><main><h2>How do I pay ?</h2><p>By card.</p></main>")
    assert pairs(document) == [("How do I pay ?", "By card."), ("Why & when?", "Always.\n\n- A")]
    alone = one("b.html", f"<head><title>FAQ</title>{scripts}</head><main><div></div></main>")
    assert len(pairs(alone)) == 2


# --- tables ---


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Question", "Answer"),
        ("Q", "A"),
        ("FAQ", "Reply"),
        ("Frequently asked question", "Standard answer (EN)"),
        ("问题", "答案"),
        ("常见问题", "标准回复"),
        ("用户问题", "解答"),
        ("問題", "答覆"),
        ("1. 问题描述：", "解决方案"),
    ],
)
@pytest.mark.parametrize("kind", ["a.md", "a.html", "a.csv"])
def test_columns_say_what_is_asked_and_answered(tmp_path: Path, asked: str, said: str, kind: str) -> None:
    rows = [("No.", asked, said), ("1", "Card?", "Yes."), ("2", "运费多少", "全国包邮。")]
    tables = {
        "a.md": "# T\n\n"
        + "\n".join(f"| {' | '.join(row)} |" + ("\n|---|---|---|" if row is rows[0] else "") for row in rows),
        "a.html": "<table>" + "".join(f"<tr><td>{'<td>'.join(row)}</tr>" for row in rows) + "</table>",
        "a.csv": "\n".join(",".join(row) for row in rows),
    }
    (tmp_path / kind).write_text(tables[kind], encoding="utf-8")
    documents = parse(tmp_path / kind, kind).documents
    found = pairs(documents[0]) or [(document.question, document.answer) for document in documents]
    assert found == [("Card?", "Yes."), ("运费多少", "全国包邮。")]


def test_two_columns_without_names_are_pairs_if_the_left_one_asks(one: Read) -> None:
    asking = "<tr><td>How do I pay?<td>By card.</tr><tr><td>How long does it take?<td>Two days.</tr>"
    assert pairs(one("a.html", f"<table>{asking}</table>")) == [
        ("How do I pay?", "By card."),
        ("How long does it take?", "Two days."),
    ]
    assert pairs(one("b.html", "<table><tr><td>Zone<td>Price</tr><tr><td>Europe<td>9 EUR</tr></table>")) == []


def test_a_row_names_the_product_that_its_question_is_about(one: Read) -> None:
    document = one(
        "a.md",
        "| Product | Question | Answer |\n|---|---|---|\n| Brio 2 | How long is the warranty? | Two years. |\n"
        "| Orbit | Does the Orbit map rooms? | Yes. |\n",
    )
    assert pairs(document) == [
        ("Brio 2: How long is the warranty?", "Two years."),
        ("Does the Orbit map rooms?", "Yes."),
    ]


def test_a_question_over_several_rows_has_all_of_them(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    for row in (
        ["客服常见问题", None],
        ["问题", "答案"],
        ["如何退货？", "第一步：提交申请。"],
        [None, "第二步：寄回商品。"],
        ["运费谁付？", "我们。"],
    ):
        sheet.append(row)
    sheet.merge_cells("A1:B1")
    sheet.merge_cells("A3:A4")
    book.save(tmp_path / "a.xlsx")
    found = parse(tmp_path / "a.xlsx", "a.xlsx")
    assert [(document.question, document.answer) for document in found.documents] == [
        ("如何退货？", "第一步：提交申请。\n第二步：寄回商品。"),
        ("运费谁付？", "我们。"),
    ]
    assert found.rejects == []
    rows = "<tr><td rowspan=2>How?<td>First.</tr><tr><td>Then.</tr><tr><td>Why?<td>So.</tr>"
    (tmp_path / "a.html").write_text(f"<table><tr><th>Question<th>Answer</tr>{rows}</table>")
    assert pairs(parse(tmp_path / "a.html", "a.html").documents[0]) == [("How?", "First.\nThen."), ("Why?", "So.")]


def test_two_languages_side_by_side_are_two_pairs_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Question,Answer,问题,答案\nCard?,Yes.,能刷卡吗？,可以。\n", encoding="utf-8")
    found = parse(tmp_path / "a.csv", "a.csv").documents
    assert [(document.question, document.answer) for document in found] == [("Card?", "Yes."), ("能刷卡吗？", "可以。")]


# --- chunks ---


def test_a_pair_takes_the_place_of_its_passage(one: Read) -> None:
    chunks = split(one("a.md", FAQ_MARKDOWN), "help")
    assert [chunk.kind for chunk in chunks] == ["qa", "passage", "qa", "qa"]
    assert [chunk.position for chunk in chunks] == [0, 1, 2, 3]
    assert chunks[0].text == "How do I return an item?\nOpen My orders.\n\n- Print the label\n- Keep the receipt"
    assert {chunk.title for chunk in chunks} == {"Help"}
    assert sum("Two days" in chunk.text for chunk in chunks) == 1


def test_what_an_encoder_does_not_read_of_a_pair_is_found_as_a_passage(one: Read) -> None:
    answer = " ".join(f"Rule {number} applies to all orders of that day." for number in range(60))
    first, *rest = split(one("a.txt", f"Q: Which rules are there?\nA: {answer}"), "help")
    assert (first.kind, first.answer) == ("qa", answer)
    assert {chunk.kind for chunk in rest} == {"passage"}
    assert {chunk.heading_path for chunk in rest} == {("Which rules are there?",)}
    assert all(width(chunk.text) <= MAX_WIDTH for chunk in rest)
    assert answer.endswith(" ".join(chunk.text for chunk in rest))


def test_a_pair_that_a_page_holds_twice_is_one(one: Read) -> None:
    assert len(pairs(one("a.md", "## How do I pay?\n\nBy card.\n\n## How do I pay?\n\nBy card.\n"))) == 1


@pytest.mark.parametrize(
    ("title", "asked"),
    [
        ("Brio 2", "Brio 2: How long is the warranty?"),
        ("FAQ", "How long is the warranty?"),
        ("Frequently asked questions", "How long is the warranty?"),
        ("Help Center - Q&A", "How long is the warranty?"),
        ("常见问题解答", "How long is the warranty?"),
        ("Warranty", "How long is the warranty?"),
        ("", "How long is the warranty?"),
    ],
)
def test_a_question_asks_about_what_its_page_is_about(title: str, asked: str) -> None:
    (chunk,) = split(
        Document("d", "d#1", Details(title), question="How long is the warranty?", answer="Two years."), "c"
    )
    assert question_text(chunk) == asked
    assert chunk.question == "How long is the warranty?"


# --- what asks ---


@pytest.mark.parametrize(
    "text",
    ["How do I return an item?", "Delivery time?", "how to reset the password", "What is Klarna", "如何退货",
     "退货要多久", "3. Can I pay later", "支持货到付款吗", "运费？多少？", "（二）发票怎么开", "Lost parcel: who pays?",
     "怎麼退貨"],
)  # fmt: skip
def test_questions_ask(text: str) -> None:
    assert asks(text)


@pytest.mark.parametrize(
    "text",
    ["", "?", "Why?", "为何？", "Returns", "How we work", "Which", "What we do", "退货政策", "任何商品", "Who we are",
     "When the parcel arrives", "Return policy of the shop", "有问题吗？", "Need more help?", "We ask:", "请问："],
)  # fmt: skip
def test_statements_and_rhetoric_do_not(text: str) -> None:
    assert not asks(text)


def test_what_is_about_something_else_does_not_stand_alone() -> None:
    assert not any(map(stands_alone, ["How does it work?", "Is it waterproof?", "该产品保修多久？", "它能洗吗？"]))
    assert all(map(stands_alone, ["How do I know if it is sent?", "Is the Brio 2 waterproof?", "保修多久？"]))


def test_a_teaser_is_not_whole() -> None:
    assert not any(
        map(is_whole, ["", "-", "Read more", "In three steps:", "First you open…", "了解更多", "详情", "(https://a.b)"])
    )
    assert all(map(is_whole, ["No.", "不能。", "5 €", "Contact us by phone at 123."]))
