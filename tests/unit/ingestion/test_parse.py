"""Every format, good and bad: what is read, and why it is rejected."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import openpyxl  # type: ignore[import-untyped, unused-ignore]
import pytest
from fpdf import FPDF
from PIL import Image

from ingestion.document import Block, Document, Reject, document_from_json, document_to_json
from ingestion.encodings import decode
from ingestion.errors import ParseError
from ingestion.html_blocks import html_blocks
from ingestion.ocr import is_installed
from ingestion.parse import parse

pytestmark = pytest.mark.unit


@pytest.fixture
def one(tmp_path: Path) -> Callable[[str, str | bytes], Document]:
    """The only document of a file with this name and content."""

    def read(name: str, content: str | bytes) -> Document:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        parsed = parse(path, name)
        assert parsed.rejects == []
        assert len(parsed.documents) == 1
        return parsed.documents[0]

    return read


def texts(document: Document) -> list[str]:
    return [block.text for block in document.blocks]


Read = Callable[[str, "str | bytes"], Document]


# --- Markdown ---


def test_front_matter_describes_a_document(one: Read) -> None:
    document = one(
        "a.md",
        "---\ntitle: Returns\nlanguage: zh-CN\ntopic: orders\nurl: /help/returns\naudience: staff\n"
        "valid_from: 2026-01-01\nvalid_until: '2026-12-31'\n---\n# Returns\n\nWithin 30 days.\n",
    )
    details = document.details
    assert (details.title, details.language, details.topic, details.url) == ("Returns", "zh", "orders", "/help/returns")
    assert (details.audience, details.valid_from, details.valid_until) == (
        "staff",
        date(2026, 1, 1),
        date(2026, 12, 31),
    )
    assert document.blocks == (Block("text", "Within 30 days."),)


def test_markdown_keeps_headings_lists_links_and_rows(one: Read) -> None:
    document = one(
        "a.md",
        "# Fees\n\nSee [the list](https://example.com/fees).\nNext line.\n\n## Cards\n\n1. Open\n2. Press *pay*\n"
        "   - now\n\n"
        "| Card | Price |\n|---|---|\n| Gold | 5 € |\n| Blue | |\n\n```\ncode  kept\n```\n",
    )
    assert document.title == "Fees"
    assert document.blocks == (
        Block("text", "See the list (https://example.com/fees).\nNext line."),
        Block("heading", "Cards", 2),
        Block("item", "1. Open"),
        Block("item", "2. Press pay"),
        Block("item", "- now"),
        Block("row", "Card: Gold | Price: 5 €"),
        Block("row", "Card: Blue"),
        Block("text", "code  kept"),
    )


@pytest.mark.parametrize(
    ("matter", "reason"),
    [
        ("title: [", "front matter is not YAML"),
        ("audiance: staff", "did you mean 'audience'"),
        ("audience: [staff, public]", "one name"),
        ("valid_from: soon", "not a date"),
        ("valid_from: 2026-02-02\nvalid_until: 2026-02-01", "before valid_from"),
        ("url: javascript:alert(1)", "has to begin with"),
        ("url: //evil.example", "has to begin with"),
    ],
)
def test_front_matter_that_is_wrong_is_said_to_be(one: Read, matter: str, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        one("a.md", f"---\n{matter}\n---\ntext")


# --- text and encodings ---

GBK_TEXT = "退货政策：收到商品之日起七天内可以申请退货，运费由买家承担。\n\n如何申请？请联系客服。"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gbk", "gb18030"])
def test_chinese_is_read_in_its_encodings(one: Read, encoding: str) -> None:
    assert texts(one("return_policy.txt", GBK_TEXT.encode(encoding))) == GBK_TEXT.split("\n\n")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Die Rückgabe ist für alle Käufer möglich.", "cp1252"),
        ("你好，请问", "gbk"),
        ("Café à la crème, déjà vu", "cp1252"),
    ],
)
def test_legacy_encodings_are_told_apart(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_text_is_called_by_its_file(one: Read) -> None:
    assert one("return_policy.txt", "a\r\nb\x00".replace("\x00", "\u200b")).title == "return policy"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"\x00\x01\x02", "binary"),
        ("a.txt", b" \n ", "is empty"),
        ("a.txt", b"\n---\n\n***\n", "no text"),
        ("a.md", b"# Only a heading", "no text"),
        ("a.exe", b"MZ", "not read"),
        ("Makefile", b"all:", "not read"),
        ("a.pdf", b"%PDF-1.7 broken", "cut off"),
        ("a.pdf", b"%PDF-1.7 broken %%EOF", "broken PDF"),
        ("a.docx", b"PK\x03\x04 broken", "damaged or cut off"),
        ("a.xlsx", b"no archive", "is text by its content"),
        ("a.html", b"", "is empty"),
        ("a.html", b"<html></html>", "no text"),
        ("a.csv", b"question,answer\n", "no text"),
    ],
)
def test_files_that_cannot_be_read_say_why(one: Read, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        one(name, content)


# --- HTML ---


def test_html_is_read_without_its_surroundings(one: Read) -> None:
    document = one(
        "a.html",
        "<html lang='en-GB'><head><title>Shop – Returns</title><link rel=canonical href='https://shop.example/r'></head>"
        "<body><nav>Home</nav><main><h1>Returns</h1><p>Send it <b>back</b>\n soon.<script>evil()</script></p>"
        "<p hidden>secret</p><p style='display: none'>secret</p><ul><li><p>One</p></li><li>Two</li></ul>"
        "<table><tr><th>Plan</th><th>Days</th></tr><tr><td>Basic</td><td>30</td></tr></table></main>"
        "<footer>Imprint</footer></body></html>",
    )
    assert (document.title, document.details.language, document.details.url) == (
        "Returns",
        "en",
        "https://shop.example/r",
    )
    assert texts(document) == ["Send it back soon.", "- One", "- Two", "Plan: Basic | Days: 30"]


def test_merged_cells_stand_in_each_of_their_columns() -> None:
    rows = "<tr><th>A</th><th>B</th></tr><tr><td colspan=2>both</td></tr><tr><td>1</td><td><p>x</p><p>y</p></td></tr>"
    assert [block.text for block in html_blocks(f"<table>{rows}</table>")] == ["A: both | B: both", "A: 1 | B: x y"]


def test_deep_html_is_no_danger() -> None:
    assert html_blocks("<div>" * 5000 + "text" + "</div>" * 5000) is not None


# --- tables ---


def test_questions_and_answers_are_pairs(tmp_path: Path) -> None:
    path = tmp_path / "faq.csv"
    path.write_text(
        'Question,Answer,Language,Audience,Topic,URL\nHow?,"So, and\nso.",en,staff,orders,/faq#how\n'
        "如何？,这样。,,,,\n,no question\nWhy?,\n\n",
        encoding="utf-8-sig",
    )
    parsed = parse(path, "faq.csv")
    first, second = parsed.documents
    assert (first.question, first.answer, first.details.audience) == ("How?", "So, and\nso.", "staff")
    assert (first.details.topic, first.details.url, first.details.language) == ("orders", "/faq#how", "en")
    assert (second.question, second.answer, second.details.audience) == ("如何？", "这样。", "public")
    assert parsed.rejects == [Reject("faq.csv:4", "has no question"), Reject("faq.csv:5", "has no answer")]


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "cp1252"), ("\t", "utf-16"), (",", "gbk")])
def test_other_tables_are_text_with_their_headers(one: Read, delimiter: str, encoding: str) -> None:
    rows = [["套餐" if encoding == "gbk" else "Plan", "Price"], ["Basic", "5"], ["", ""], ["Pro", ""]]
    document = one("plans.csv", "\n".join(delimiter.join(row) for row in rows).encode(encoding))
    assert texts(document) == [f"{rows[0][0]}: Basic | Price: 5", f"{rows[0][0]}: Pro"]


def test_workbooks_give_their_visible_sheets(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    prices = book.active
    prices.title = "Prices"
    for row in (["Plan", "Price", "From"], ["Basic", 5.0, date(2026, 1, 2)], ["Pro", 7.5, None], ["Pro+", None, None]):
        prices.append(row)
    prices.merge_cells("B3:B4")
    faq = book.create_sheet("FAQ")
    faq.append(["问题", "答案"])
    faq.append(["如何退货？", "七天内申请。"])
    hidden = book.create_sheet("Notes")
    hidden.append(["secret"])
    hidden.sheet_state = "hidden"
    book.save(tmp_path / "a.xlsx")
    pair, table = parse(tmp_path / "a.xlsx", "a.xlsx").documents
    assert (pair.question, pair.answer) == ("如何退货？", "七天内申请。")
    assert texts(table) == [
        "Prices",
        "Plan: Basic | Price: 5 | From: 2026-01-02",
        "Plan: Pro | Price: 7.5",
        "Plan: Pro+ | Price: 7.5",
    ]


def test_rows_of_jsonl_are_documents(tmp_path: Path) -> None:
    rows: list[object] = [
        {"id": "d1", "title": "T", "content": "## H\n\ntext \ud800", "url": "https://a.example", "audience": "staff"},
        {"question": "Q?", "answer": "A", "language": "en"},
        {"text": "plain"},
        {"question": "Q?"},
        {"title": "no content"},
        {"content": ["list"]},
        {"content": "x", "audience": "Not A Name"},
        [1],
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n{broken\n\n", encoding="utf-8")
    parsed = parse(path, "a.jsonl")
    article, pair, plain = parsed.documents
    assert (article.id, article.title, article.details.audience) == ("d1", "T", "staff")
    assert article.blocks == (Block("heading", "H", 2), Block("text", "text"))
    assert (pair.question, pair.answer, pair.title) == ("Q?", "A", "")
    assert plain.id.startswith("a.jsonl#")
    assert [reject.source for reject in parsed.rejects] == [f"a.jsonl:{number}" for number in (4, 5, 6, 7, 8, 9)]


# --- PDF and DOCX ---


def test_pdf_gives_headings_paragraphs_and_rows(tmp_path: Path) -> None:
    pdf = FPDF()
    pdf.set_font("Helvetica", size=11)
    for page in (1, 2, 3):
        pdf.add_page()
        pdf.set_y(8)
        pdf.cell(text=f"Handbook - page {page}")
        pdf.set_y(40)
        pdf.set_font("Helvetica", size=18)
        pdf.cell(text=f"Chapter {page}", new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Helvetica", size=11)
        pdf.multi_cell(0, 6, "Parcels are sent within two working days. " * 6, new_x="LMARGIN", new_y="NEXT")
    with pdf.table() as table:
        for cells in (("Zone", "Price"), ("Europe", "9 EUR"), ("World", "19 EUR")):
            row = table.row()
            for cell in cells:
                row.cell(cell)
    pdf.output(str(tmp_path / "a.pdf"))
    (document,) = parse(tmp_path / "a.pdf", "a.pdf").documents
    assert document.title == "Chapter 1"
    assert [block.text for block in document.blocks if block.kind == "heading"] == ["Chapter 2", "Chapter 3"]
    assert [(block.text, block.page) for block in document.blocks if block.kind == "row"] == [
        ("Zone: Europe | Price: 9 EUR", 3),
        ("Zone: World | Price: 19 EUR", 3),
    ]
    paragraphs = [block for block in document.blocks if block.kind == "text"]
    assert [block.page for block in paragraphs] == [1, 2, 3]
    assert paragraphs[0].text == ("Parcels are sent within two working days. " * 6).strip()


_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def _word_paragraph(text: str, style: str = "") -> str:
    marked = f"<w:pPr><w:pStyle w:val='{style}'/></w:pPr>" if style else ""
    return f"<w:p>{marked}<w:r><w:t>{text}</w:t></w:r></w:p>"


def _word_row(*cells: str) -> str:
    return "<w:tr>" + "".join(f"<w:tc>{_word_paragraph(cell)}</w:tc>" for cell in cells) + "</w:tr>"


def _write_docx(path: Path, body: str) -> None:
    """The four parts without which a DOCX is none."""
    styles = "".join(
        f"<w:style w:type='paragraph' w:styleId='{key}'><w:name w:val='{name}'/></w:style>"
        for key, name in (("T", "Title"), ("H1", "heading 1"))
    )
    rels = f"<Relationships xmlns='{_PACKAGE}/relationships'><Relationship Id='r' Type='{_OFFICE}"
    parts = {
        "[Content_Types].xml": f"<Types xmlns='{_PACKAGE}/content-types'>"
        "<Default Extension='rels' ContentType='application/vnd.openxmlformats-package.relationships+xml'/>"
        "<Default Extension='xml' ContentType='application/xml'/></Types>",
        "_rels/.rels": f"{rels}/officeDocument' Target='word/document.xml'/></Relationships>",
        "word/_rels/document.xml.rels": f"{rels}/styles' Target='styles.xml'/></Relationships>",
        "word/document.xml": f"<w:document xmlns:w='{_WORD}'><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f"<w:styles xmlns:w='{_WORD}'>{styles}</w:styles>",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_docx_gives_title_headings_and_rows(tmp_path: Path) -> None:
    _write_docx(
        tmp_path / "a.docx",
        _word_paragraph("Warranty", "T")
        + _word_paragraph("It lasts two years.")
        + _word_paragraph("Exclusions", "H1")
        + f"<w:tbl>{_word_row('Part', 'Years')}{_word_row('Battery', '1')}</w:tbl>",
    )
    (document,) = parse(tmp_path / "a.docx", "a.docx").documents
    assert document.title == "Warranty"
    assert texts(document) == ["It lasts two years.", "Exclusions", "Part: Battery | Years: 1"]


def test_encrypted_and_scanned_pdfs_say_what_to_do(tmp_path: Path) -> None:
    picture = Image.new("RGB", (400, 600), "white")
    pdf = FPDF()
    pdf.set_font("Helvetica", size=11)
    for page in range(1, 6):
        pdf.add_page()
        if page == 2:
            pdf.cell(text="Parcels are sent within two working days.")
        else:
            pdf.image(picture, 0, 0, 210, 290)
    pdf.output(str(tmp_path / "scan.pdf"))
    parsed = parse(tmp_path / "scan.pdf", "scan.pdf")
    assert [(block.text, block.page) for block in parsed.documents[0].blocks] == [
        ("Parcels are sent within two working days.", 2)
    ]
    (reject,) = parsed.rejects
    assert reject.source == "scan.pdf:1,3-5"
    assert reject.reason.startswith("pages 1, 3-5 are pictures")
    assert ("raydesk[ocr]" in reject.reason) is not is_installed()
    pdf = FPDF()
    pdf.add_page()
    pdf.output(str(tmp_path / "blank.pdf"))
    with pytest.raises(ParseError, match="no text"):
        parse(tmp_path / "blank.pdf", "blank.pdf")
    pdf = FPDF()
    pdf.set_encryption(owner_password="owner", user_password="user")
    pdf.add_page()
    pdf.output(str(tmp_path / "locked.pdf"))
    with pytest.raises(ParseError, match="encrypted"):
        parse(tmp_path / "locked.pdf", "locked.pdf")


def test_documents_survive_the_way_between_processes(one: Read) -> None:
    document = one("a.md", "---\nvalid_from: 2026-01-01\n---\n# T\n\n退货\n\n## H\n\ntext")
    assert document_from_json(document_to_json(document)) == document
