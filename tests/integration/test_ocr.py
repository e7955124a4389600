"""A scanned page is read, where the extra is installed."""

from __future__ import annotations

from pathlib import Path

import pypdfium2
import pytest
from fpdf import FPDF

from ingestion.isolated import IsolatedParser, Limits
from ingestion.sources import SourceFile

pytestmark = pytest.mark.integration
pytest.importorskip("rapidocr")
pytest.importorskip("onnxruntime")


def test_a_scanned_page_gives_its_title_and_pairs(tmp_path: Path) -> None:
    page = FPDF()
    page.add_page()
    for text, size in (
        ("Warranty", 24),
        ("The warranty of a lamp lasts two years from the day of its delivery.", 12),
        ("Q: Who pays the parcel?", 12),
        ("A: We do, within the first 30 days.", 12),
    ):
        page.set_font("Helvetica", size=size)
        page.cell(text=text, new_x="LMARGIN", new_y="NEXT", h=size)
    page.output(str(tmp_path / "text.pdf"))
    picture = pypdfium2.PdfDocument(tmp_path / "text.pdf")[0].render(scale=2).to_pil()
    scan = FPDF()
    scan.add_page()
    scan.image(picture, 0, 0, 210, 297)
    scan.output(str(tmp_path / "scan.pdf"))
    with IsolatedParser(Limits()) as parser:
        parsed = parser.parse(SourceFile(tmp_path / "scan.pdf", "scan.pdf"))
    assert parsed.rejects == []
    (document,) = parsed.documents
    assert document.title == "Warranty"
    text, pair = document.blocks
    assert text.text == "The warranty of a lamp lasts two years from the day of its delivery."
    assert (pair.question, pair.text, pair.page) == ("Who pays the parcel?", "We do, within the first 30 days.", 1)
