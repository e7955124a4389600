"""Tables as blocks: a row carries its headers, so that it can be read alone; questions with answers are pairs. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ingestion.document import Block
from ingestion.qa_pairs import pair_columns, subject_column
from ingestion.questions import asks, is_whole

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class TableRow:
    cells: Row
    is_header: bool = False  # by what the document says
    page: int | None = None


class FromAbove(str):
    """A cell's text that reaches in from the row above, for the cell spans both."""

    __slots__ = ()


_TITLE_ROWS = 10  # above the names of the columns, at most
_LEAST_ASKING = 0.8  # of the rows of a table without names, whose left cells are questions


def table_blocks(rows: Sequence[TableRow]) -> list[Block]:
    """One block a row: "Plan: Basic | Price: 5 €", or a pair."""
    filled = [row for row in rows if any(row.cells)]
    columns = find_pair_columns([row.cells for row in filled])
    if columns is not None:
        above = [_row_block((), row) for row in filled[: max(columns.header, 0)]]
        below = columns.rows([row.cells for row in filled])
        return [*above, *(block for number, cells in below for block in columns.blocks(cells, filled[number].page))]
    header: Row = ()
    if len(filled) > 1 and (filled[0].is_header or looks_like_headers(filled[0].cells)):
        header, filled = filled[0].cells, filled[1:]
    return [block for row in filled if (block := _row_block(header, row)).text]


def _row_block(header: Row, row: TableRow) -> Block:
    return Block("row", row_as_text(header, row.cells), page=row.page)


@dataclass(frozen=True, slots=True)
class PairColumns:
    """Where a table has its questions and answers."""

    header: int  # row that names the columns; -1 where the questions alone tell
    columns: Sequence[tuple[int, int]]  # of questions and of their answers
    subject: int | None = None  # of what a question is about, such as the product

    def pairs(self, cells: Row) -> list[tuple[str, str]]:
        """(question, answer) of a row below the header; either may be empty."""
        found = []
        for asked, said in self.columns:
            question, answer = (cells[at] if at < len(cells) else "" for at in (asked, said))
            subject = cells[self.subject] if self.subject is not None and self.subject < len(cells) else ""
            is_named = not subject or subject.lower() in question.lower()
            found.append((" ".join((question if is_named else f"{subject}: {question}").split()), answer))
        return [pair for pair in found if any(pair)]

    def rows(self, rows: Sequence[Row]) -> list[tuple[int, list[str]]]:
        """(0-based number, cells) below the header. A question that spans several rows has all their answers."""
        found: list[tuple[int, list[str]]] = []
        for number, cells in enumerate(rows[self.header + 1 :], start=self.header + 1):
            if found and all(asked < len(cells) and isinstance(cells[asked], FromAbove) for asked, _ in self.columns):
                for _, said in self.columns:
                    if said < len(cells) and not isinstance(cells[said], FromAbove):
                        found[-1][1][said] = f"{found[-1][1][said]}\n{cells[said]}".strip()
            else:
                found.append((number, list(cells)))
        return found

    def blocks(self, cells: Row, page: int | None) -> list[Block]:
        """A row without one of the two is no pair; what it says stays."""
        whole = [(question, answer) for question, answer in self.pairs(cells) if question and is_whole(answer)]
        if not whole or (self.header < 0 and not asks(cells[0])):
            return [Block("row", row_as_text((), cells), page=page)]
        return [Block("pair", answer, page=page, question=question) for question, answer in whole]


def find_pair_columns(rows: Sequence[Row]) -> PairColumns | None:
    for number, cells in enumerate(rows[:_TITLE_ROWS]):
        if columns := pair_columns(cells):
            return PairColumns(number, columns, subject_column(cells))
    asking = sum(len(cells) == 2 and asks(cells[0]) and is_whole(cells[1]) for cells in rows)
    return PairColumns(-1, [(0, 1)]) if asking >= 2 and asking >= _LEAST_ASKING * len(rows) else None


def looks_like_headers(cells: Row) -> bool:
    """Every column is named, each differently, and no name holds a number."""
    names = [cell for cell in cells if cell]
    return len(names) == len(cells) == len(set(names)) and not any(re.search(r"\d", name) for name in names)


def row_as_text(headers: Row, cells: Row) -> str:
    parts: list[str] = []
    for position, cell in enumerate(cells):
        text = " ".join(cell.split())
        header = " ".join(headers[position].split()) if position < len(headers) else ""
        if text:
            parts.append(f"{header.rstrip(':：')}: {text}" if header else text)
    return " | ".join(dict.fromkeys(parts))  # a merged cell is repeated in every column that it spans
