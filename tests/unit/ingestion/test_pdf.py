"""What a PDF's letters, lines and tables say: headings, pairs, and what goes on over a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from fpdf import FPDF

from ingestion.document import Block
from ingestion.parse import parse

pytestmark = pytest.mark.unit


class Paper(FPDF):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.add_page()

    def line_of(self, text: str, size: int = 11, style: str = "", gap: float = 0.0) -> None:
        """gap: above it, millimetres."""
        self.set_y(self.get_y() + gap)
        self.set_font("Helvetica", style=style, size=size)  # type: ignore[arg-type, unused-ignore]
        self.multi_cell(0, size * 0.45, text, new_x="LMARGIN", new_y="NEXT")

    def rows(self, *rows: tuple[str, ...]) -> None:
        self.set_font("Helvetica", size=11)
        with self.table() as table:
            for cells in rows:
                row = table.row()
                for cell in cells:
                    row.cell(cell)

    def read(self, folder: Path) -> tuple[Block, ...]:
        self.output(str(folder / "a.pdf"))
        (document,) = parse(folder / "a.pdf", "a.pdf").documents
        return document.blocks


def pairs(blocks: tuple[Block, ...]) -> list[tuple[str, str, int | None]]:
    return [(block.question, block.text, block.page) for block in blocks if block.kind == "pair"]


def test_bold_lines_are_headings_of_the_lowest_level(tmp_path: Path) -> None:
    paper = Paper()
    paper.line_of("Handbook", 20)
    paper.line_of("Delivery", 15, gap=5)
    paper.line_of("We deliver on all working days, and on Saturdays where the carrier does.", gap=4)
    paper.line_of("How long does delivery take?", style="B", gap=4)
    paper.line_of("Two working days. In winter it may take a day longer than that.", gap=4)
    paper.line_of("Express delivery", style="B", gap=4)
    paper.line_of("It costs nine euros. Never leave a parcel alone:", gap=4)
    paper.line_of("Do not do that.", style="B")
    blocks = paper.read(tmp_path)
    assert pairs(blocks) == [
        ("How long does delivery take?", "Two working days. In winter it may take a day longer than that.", 1)
    ]
    assert [(block.text, block.level) for block in blocks if block.kind == "heading"] == [
        ("Delivery", 2),
        ("Express delivery", 3),
    ]


def test_a_heading_on_two_lines_is_one(tmp_path: Path) -> None:
    paper = Paper()
    paper.line_of("Handbook", 20)
    paper.line_of(
        "How do I return an item that I bought together with several other ones in the shop of a partner?", 15
    )
    paper.line_of("Bring it back to the shop of that partner within thirty days. " * 4, gap=4)
    (pair,) = pairs(paper.read(tmp_path))
    assert pair[0].endswith("in the shop of a partner?")
    assert pair[1].startswith("Bring it back")


def test_marks_and_lines_that_ask_part_a_paragraph(tmp_path: Path) -> None:
    paper = Paper()
    paper.line_of("Q: How do I pay?")
    paper.line_of("A: By card. " + "We take all cards that have a chip. " * 5)
    paper.line_of("Q: Who pays the return?")
    paper.line_of("A: We do.")
    marked = pairs(paper.read(tmp_path))
    assert [question for question, _, _ in marked] == ["How do I pay?", "Who pays the return?"]
    assert marked[0][1].count("We take all cards") == 5
    paper = Paper()
    paper.line_of("Some words before the questions that are asked most.")
    for question, answer in (("How do I pay?", "By card, or cash."), ("Can I return an item?", "Yes, you can.")):
        paper.line_of(question)
        paper.line_of(answer)
    assert [(question, answer) for question, answer, _ in pairs(paper.read(tmp_path))] == [
        ("How do I pay?", "By card, or cash."),
        ("Can I return an item?", "Yes, you can."),
    ]


def test_a_table_of_questions_goes_on_over_pages(tmp_path: Path) -> None:
    paper = Paper()
    rows = [(f"Question number {number}?", f"Answer {number}. " + "It is a long one. " * 12) for number in range(14)]
    paper.rows(("Question", "Answer"), *rows)
    found = pairs(paper.read(tmp_path))
    assert [(question, " ".join(answer.split())) for question, answer, _ in found] == [
        (question, answer.strip()) for question, answer in rows
    ]
    assert {page for _, _, page in found} == {1, 2}


def columns(paper: Paper, left: str, right: str, lines: int = 9) -> None:
    """Two columns of the same number of lines, side by side."""
    top = paper.get_y() + 8
    paper.set_font("Helvetica", size=10)
    for x, text in ((10.0, left), (110.0, right)):
        for number in range(lines):
            paper.set_xy(x, top + 5 * number)
            paper.cell(text=f"{text} line {number} goes on over all of its column,")
    paper.set_y(top + 5 * lines)


def test_of_two_columns_the_left_one_is_read_first(tmp_path: Path) -> None:
    paper = Paper()
    paper.line_of("A title over both of the columns of this page", 18)
    columns(paper, "First", "Second")
    paper.line_of("This line goes over both of the columns again, and what follows are two others below it.", 10, gap=8)
    columns(paper, "Third", "Fourth")
    said = " ".join(block.text for block in paper.read(tmp_path))
    order = ["First line 0", "First line 8", "Second line 0", "Second line 8", "This line goes", "Third line 0",
             "Third line 8", "Fourth line 0", "Fourth line 8"]  # fmt: skip
    assert [said.index(words) for words in order] == sorted(said.index(words) for words in order)


def test_labels_with_values_beside_them_stay_together(tmp_path: Path) -> None:
    paper = Paper()
    paper.set_font("Helvetica", size=10)
    for number in range(12):
        paper.set_xy(10, 30 + 6 * number)
        paper.cell(text=f"Price of model {number}")
        paper.set_xy(110, 30 + 6 * number)
        paper.cell(text=f"{number}9 euros, with the delivery to your door and two years of warranty")
    said = " ".join(block.text for block in paper.read(tmp_path))
    assert all(f"Price of model {number} {number}9 euros" in said for number in range(12))


def test_a_row_that_a_page_cuts_is_one(tmp_path: Path) -> None:
    """The lower half of a cut row has no question beside it."""
    from ingestion.pdf import _continued
    from ingestion.tables import TableRow, table_blocks

    above = [TableRow(["Question", "Answer"], page=1), TableRow(["How do I pay?", "By card,"], page=1)]
    below = [
        TableRow(["Question", "Answer"], page=2),
        TableRow(["", "or cash."], page=2),
        TableRow(["Why?", "So."], page=2),
    ]
    assert [(block.question, block.text, block.page) for block in table_blocks(_continued(above, below))] == [
        ("How do I pay?", "By card,\nor cash.", 1),
        ("Why?", "So.", 2),
    ]


def test_a_cell_over_several_rows_stands_in_each(tmp_path: Path) -> None:
    paper = Paper()
    paper.set_font("Helvetica", size=11)
    with paper.table() as table:
        for cells in (
            ("Question", "Answer"),
            ("How do I pay?", "By card."),
            (None, "Or cash."),
            ("Why so?", "It is safe."),
        ):
            row = table.row()
            for cell in cells:
                if cell == "How do I pay?":
                    row.cell(cell, rowspan=2)
                elif cell is not None:
                    row.cell(cell)
    assert [pair[:2] for pair in pairs(paper.read(tmp_path))] == [
        ("How do I pay?", "By card.\nOr cash."),
        ("Why so?", "It is safe."),
    ]
