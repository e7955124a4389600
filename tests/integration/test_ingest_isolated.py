"""A file can end the child that reads it, and nothing else."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingestion.document import Document
from ingestion.isolated import IsolatedParser, Limits
from ingestion.sources import SourceFile
from tests.integration import made_files as made

pytestmark = pytest.mark.integration

LIMITS = Limits(time_s=5, memory_bytes=1_000_000_000, output_bytes=20_000_000)


def file(folder: Path, name: str, content: str) -> SourceFile:
    (folder / name).write_text(content, encoding="utf-8")
    return SourceFile(folder / name, name)


@pytest.fixture(scope="module")
def parser() -> Iterator[IsolatedParser]:
    """One for all bombs: what one of them leaves behind must not hurt the next."""
    with IsolatedParser(LIMITS) as parser:
        yield parser


def test_one_child_reads_file_after_file(tmp_path: Path) -> None:
    with IsolatedParser(Limits()) as parser:
        good = parser.parse(file(tmp_path, "a.md", "# T\n\n退货"))
        bad = parser.parse(file(tmp_path, "b.pdf", "%PDF-1.7"))
        gone = parser.parse(SourceFile(tmp_path / "gone.txt", "gone.txt"))
        known = parser.parse(SourceFile(tmp_path / "a.md", "a.md", reason="is a link to nothing"))
    assert good.documents[0].blocks[0].text == "退货"
    assert "cut off" in bad.rejects[0].reason
    assert "not there any more" in gone.rejects[0].reason
    assert known.rejects[0].reason == "is a link to nothing"


def test_time_is_limited_and_the_next_file_is_read(tmp_path: Path) -> None:
    slow = file(tmp_path, "slow.md", "[" * 100_000 + "](" * 100_000 + "\n" + "*a_ " * 200_000)
    with IsolatedParser(Limits(time_s=1)) as parser:
        assert parser.parse(slow).rejects[0].reason.startswith("took longer than 1 s to read")
        assert parser.parse(file(tmp_path, "a.txt", "text")).documents


def test_memory_is_limited_and_the_next_file_is_read(tmp_path: Path) -> None:
    large = file(tmp_path, "large.txt", "many words " * 10_000_000)  # 110 MB, and several copies of it
    with IsolatedParser(Limits(memory_bytes=400_000_000)) as parser:
        (reject,) = parser.parse(large).rejects
        assert "memory" in reject.reason
        assert parser.parse(file(tmp_path, "a.txt", "text")).documents


def test_output_is_limited_and_the_next_file_is_read(tmp_path: Path) -> None:
    rows = file(tmp_path, "rows.jsonl", '{"question": "How?", "answer": "So."}\n' * 20_000)
    with IsolatedParser(Limits(output_bytes=1_000_000)) as parser:
        found = list(parser.read(rows))
        assert found[-1].reason == "gives more than 1 MB of text: split it"  # type: ignore[union-attr]
        assert sum(isinstance(each, Document) for each in found) < 20_000
        assert parser.parse(file(tmp_path, "a.txt", "text")).documents


def test_what_nobody_wants_any_more_is_not_read(tmp_path: Path) -> None:
    rows = file(tmp_path, "rows.jsonl", '{"question": "How?", "answer": "So."}\n' * 20_000)
    with IsolatedParser(Limits()) as parser:
        found = parser.read(rows)
        assert isinstance(next(found), Document)
        found.close()  # type: ignore[attr-defined]
        assert parser.parse(file(tmp_path, "a.txt", "text")).documents


def test_the_time_is_of_each_document(tmp_path: Path) -> None:
    """A parent that takes its time does not make the child late."""
    rows = file(tmp_path, "rows.jsonl", '{"question": "How?", "answer": "So."}\n' * 3000)
    with IsolatedParser(Limits(time_s=1)) as parser:
        found = 0
        for each in parser.read(rows):
            if found == 0:
                time.sleep(1.5)
            found += isinstance(each, Document)
    assert found == 3000


def test_the_child_has_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    with IsolatedParser(Limits()) as parser:
        assert parser.parse(file(tmp_path, "a.txt", "text")).documents
        assert parser._child is not None
        environment = Path(f"/proc/{parser._child.pid}/environ").read_bytes()
    assert b"SECRET_TOKEN" not in environment


# --- bombs ---


def word(name: str, *body: str, doctype: str = "") -> Callable[[Path], None]:
    return lambda folder: made.write_docx(folder / name, body, doctype)


def sheet(name: str, *rows: str, strings: str = "", doctype: str = "") -> Callable[[Path], None]:
    return lambda folder: made.write_xlsx(folder / name, rows, strings, doctype)


def lying_archive(folder: Path) -> None:
    made.write_docx(folder / "a.docx", [made.paragraph("x" * 100_000)])
    made.lie_about_size(folder / "a.docx")


FAR_CELL = (made.text_cell("A1", "a"), made.text_cell("XFD1048576", "b"))
SHARED = [f"<row r='{row}'><c r='A{row}' t='s'><v>0</v></c></row>" for row in range(1, 60_000)]
YAML = "---\na: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{','.join([f'*{chr(97 + level)}'] * 10)}]\n" for level in range(9)
)  # fmt: skip


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(word("a.docx", *[" " * 1_000_000] * 450), "unpacks to 450 MB", id="zip bomb"),
        pytest.param(lying_archive, "broken Word document", id="archive that lies about its size"),
        pytest.param(word("a.docx", "<w:p>" * 200_000, "</w:p>" * 200_000), "nested too deep", id="deep XML"),
        pytest.param(word("a.docx", made.paragraph("&l11;"), doctype=made.LAUGHS), "amplification", id="laughs"),
        pytest.param(sheet("a.xlsx", made.text_cell("A1", "&l9;"), doctype=made.LAUGHS), "broken", id="sheet"),
        pytest.param(sheet("a.xlsx", *FAR_CELL), "memory", id="a cell far out"),
        pytest.param(sheet("a.xlsx", *SHARED, strings="x" * 30_000), "memory", id="one string many times"),
        pytest.param(
            lambda folder: made.write_pdf(folder / "a.pdf", made.packed_blanks(1200), packed=True),
            "memory|took longer", id="PDF stream bomb",
        ),
        pytest.param(
            lambda folder: made.write_pdf(folder / "a.pdf", b"BT /F 1 Tf " + b"(aaaaaaaaaa) Tj " * 300_000 + b"ET"),
            "memory|took longer", id="PDF of a million letters",
        ),
        pytest.param(
            lambda folder: (folder / "a.md").write_text(f"{YAML}title: *j\n---\nx"), "memory|took", id="YAML bomb"
        ),
        pytest.param(lambda folder: (folder / "a.json").write_text("[" * 1_000_000), "is not JSON", id="deep JSON"),
        pytest.param(
            lambda folder: (folder / "a.md").write_text(("|" + "a|" * 3000 + "\n|" + "-|" * 3000 + "\n") * 300),
            "memory|took longer", id="wide table",
        ),
        pytest.param(
            lambda folder: (folder / "a.docx").write_bytes(made.encrypted_office_file()),
            "is encrypted", id="encrypted",
        ),
        pytest.param(lambda folder: os.mkfifo(folder / "a.txt"), "a pipe", id="FIFO"),
        pytest.param(lambda folder: (folder / "a.txt").symlink_to("/dev/zero"), "a device", id="device"),
    ],
)  # fmt: skip
def test_a_bomb_ends_its_reader_at_most(
    parser: IsolatedParser, tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(tmp_path)
    (path,) = tmp_path.iterdir()
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of the whole run of the tests
    (reject,) = parser.parse(SourceFile(path, path.name)).rejects
    assert any(part in reject.reason for part in reason.split("|")), reject.reason
    assert parser.parse(file(tmp_path, "next.txt", "text")).documents
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown_kb < 500_000, "something of it came here"


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: made.write_pdf(
            folder / "a.pdf", b"BT /F 9 Tf 99 99 Td (Good text) Tj ET", mediabox="0 0 9999999 9999999"
        ),
        lambda folder: made.write_pdf(folder / "a.pdf", b"BT /F 9 Tf 99 99 Td (Good text) Tj ET", kids="2 0 R 3 0 R"),
        lambda folder: (folder / "a.html").write_text("<table><tr><td colspan=99999 rowspan=99999>Good text</table>"),
        lambda folder: (folder / "a.txt").write_text(" " * 100_000 + "Good text"),
        lambda folder: (folder / "a.md").write_text("Good text " + "<b>" * 100_000),
    ],
    ids=["huge page", "page tree with a loop", "endless cell", "text behind blanks", "unclosed tags"],
)
def test_what_looks_like_a_bomb_and_is_none_is_read(
    parser: IsolatedParser, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path)
    (path,) = tmp_path.iterdir()
    (document,) = parser.parse(SourceFile(path, path.name)).documents
    assert "Good text" in document.blocks[0].text


def test_a_file_is_not_rejected_for_what_the_one_before_it_left(tmp_path: Path) -> None:
    with IsolatedParser(LIMITS) as parser:
        assert parser.parse(file(tmp_path, "a.txt", "text")).documents
        assert parser._child is not None
        parser._child.kill()
        parser._child.wait()
        assert parser.parse(file(tmp_path, "b.txt", "text")).documents
