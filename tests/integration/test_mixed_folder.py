"""Two hundred files of every kind, in two languages, many bad: each good one is in once, each bad one says why."""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import openpyxl  # type: ignore[import-untyped, unused-ignore]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fpdf import FPDF

from ingestion.chunk import Chunk
from ingestion.isolated import Limits
from ingestion.job import ingest
from ingestion.ray_session import ray_session
from ingestion.reading import ReadLimits
from ingestion.store import KnowledgeStore
from ingestion.web import WebLimits
from models.fakes import HashEncoder
from tests.integration import made_files as made

pytestmark = pytest.mark.integration

FILES = 200
LIMITS = ReadLimits(file=Limits(time_s=8, memory_bytes=1_500_000_000))


@dataclass(frozen=True, slots=True)
class Text:
    """What a good file says: one passage and one pair, both with its number, so that each file is unlike all others."""

    number: int
    is_chinese: bool

    @property
    def title(self) -> str:
        return f"第{self.number}号文件" if self.is_chinese else f"Document number {self.number}"

    @property
    def passage(self) -> str:
        if self.is_chinese:
            return f"本文件的编号是{self.number}，内容与其他文件都不相同，供客服查询使用。"
        return f"This document is number {self.number}; it is unlike all others, and was written for a test."

    @property
    def question(self) -> str:
        return f"第{self.number}号订单怎么退货？" if self.is_chinese else f"How do I return order number {self.number}?"

    @property
    def answer(self) -> str:
        if self.is_chinese:
            return f"在订单页面选择{self.number}号订单，再点击退货。"
        return f"Open order number {self.number} and press Return."

    @property
    def columns(self) -> tuple[str, str]:
        return ("问题", "答案") if self.is_chinese else ("Question", "Answer")


# --- good ones: each writes the passage, the pair or both ---


def markdown(path: Path, text: Text) -> None:
    path.write_text(f"# {text.title}\n\n{text.passage}\n\n## {text.question}\n\n{text.answer}\n", encoding="utf-8")


def plain(encodings: tuple[str, str]) -> Callable[[Path, Text], None]:
    """encodings: of English and of Chinese."""

    def write(path: Path, text: Text) -> None:
        q, a = ("问", "答") if text.is_chinese else ("Q", "A")
        dash = "" if text.is_chinese else " – café"
        content = f"{text.passage}{dash}\n\n{q}：{text.question}\n{a}：{text.answer}\n".replace(
            "：", ":" if dash else "："
        )
        path.write_bytes(content.encode(encodings[text.is_chinese]))

    return write


def html(path: Path, text: Text) -> None:
    encoding = "gbk" if text.is_chinese else "utf-8"
    page = (
        f"<html><head><meta charset={encoding}><title>{text.title}</title></head><body><nav>Home</nav><main>"
        f"<h1>{text.title}</h1><p>{text.passage}</p><details><summary>{text.question}</summary><p>{text.answer}</p></details>"
        "</main></body></html>"
    )
    path.write_bytes(page.encode(encoding))


def pdf(path: Path, text: Text) -> None:
    made.write_pdf(path, made.pdf_lines(f"# {text.title}", text.passage, f"# {text.question}", text.answer))


def docx(path: Path, text: Text) -> None:
    body = [
        made.paragraph(text.title, "T"), made.paragraph(text.passage), made.paragraph(text.question, "H1"),
        made.paragraph(text.answer),
    ]  # fmt: skip
    made.write_docx(path, body)


def xlsx(path: Path, text: Text) -> None:
    book = openpyxl.Workbook()
    for row in (text.columns, (text.question, text.answer)):
        book.active.append(row)
    other = book.create_sheet("B")
    for row in (("Nr", "Text"), (str(text.number), text.passage)):
        other.append(row)
    book.save(path)


def csv(path: Path, text: Text) -> None:
    content = f'{",".join(text.columns)}\n"{text.question}","{text.answer}"\n'
    path.write_bytes(content.encode("gb18030" if text.is_chinese else "utf-8-sig"))


def tsv(path: Path, text: Text) -> None:
    path.write_text("\t".join(text.columns) + f"\n{text.question}\t{text.answer}\n", encoding="utf-16")


def rows(text: Text) -> list[dict[str, str]]:
    return [{"question": text.question, "answer": text.answer}, {"title": text.title, "content": text.passage}]


def jsonl(path: Path, text: Text) -> None:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows(text)), encoding="utf-8")


def as_json(path: Path, text: Text) -> None:
    path.write_text(json.dumps(rows(text)), encoding="utf-8")


def parquet(path: Path, text: Text) -> None:
    pq.write_table(pa.table({"question": [text.question], "answer": [text.answer], "other": [[1]]}), path)


def arrow(path: Path, text: Text) -> None:
    table = pa.table({"title": [text.title], "text": [text.passage]})
    with pa.OSFile(str(path), "wb") as opened, pa.ipc.new_stream(opened, table.schema) as stream:
        stream.write_table(table)


GOOD: tuple[tuple[str, Callable[[Path, Text], None]], ...] = (
    (".md", markdown), (".txt", plain(("utf-8", "utf-8"))), (".txt", plain(("cp1252", "gbk"))),
    (".txt", plain(("utf-16", "gb18030"))), (".txt", plain(("utf-16-le", "utf-16-be"))), (".html", html), (".pdf", pdf),
    (".docx", docx), (".xlsx", xlsx), (".csv", csv), (".tsv", tsv), (".jsonl", jsonl), (".json", as_json),
    (".parquet", parquet), (".arrow", arrow),
)  # fmt: skip
WITHOUT_PASSAGE, WITHOUT_PAIR = (".csv", ".tsv", ".parquet"), (".arrow",)


# --- bad ones: name → (maker, words of the reason) ---

SOME = Text(9999, is_chinese=True)


def half(write: Callable[[Path, Text], None]) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write(path, SOME)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return make


def encrypted_pdf(path: Path) -> None:
    document = FPDF()
    document.set_encryption(owner_password="owner", user_password="user")
    document.add_page()
    document.output(str(path))


def far_cell(path: Path) -> None:
    made.write_xlsx(path, [made.text_cell("A1", "a"), made.text_cell("XFD1048576", "b")])


def junk(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(5000))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.txt": (lambda path: path.touch(), "is empty"),
    "blank.md": (lambda path: path.write_text(" \n\n "), "is empty"),
    "headings.md": (lambda path: path.write_text("# One\n\n## Two\n"), "no text"),
    "bomb.docx": (lambda path: made.write_docx(path, [" " * 1_000_000] * 450), "archive bomb"),
    "laughs.docx": (lambda path: made.write_docx(path, [made.paragraph("&l11;")], made.LAUGHS), "amplification"),
    "far.xlsx": (far_cell, "memory"),
    "stream.pdf": (lambda path: made.write_pdf(path, made.packed_blanks(900), packed=True), "memory|took longer"),
    "slow.md": (lambda path: path.write_text("*a_ " * 6_000_000), "memory|took longer"),
    "encrypted.docx": (lambda path: path.write_bytes(made.encrypted_office_file()), "without a password"),
    "encrypted.pdf": (encrypted_pdf, "without a password"),
    "half.pdf": (half(pdf), "cut off"),
    "half.docx": (half(docx), "cut off"),
    "half.xlsx": (half(xlsx), "cut off"),
    "half.parquet": (half(parquet), "cut off"),
    "half.txt": (lambda path: path.write_bytes(SOME.passage.encode()[:-1]), "cut off"),
    "half.csv": (lambda path: path.write_text('问题,答案\n怎么退？,"七天', encoding="utf-8"), "cut off"),
    "picture.pdf": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "a picture (PNG) by its content"),
    "other.docx": (lambda path: pdf(path, SOME), "a PDF by its content"),
    "program.exe": (lambda path: path.write_bytes(b"MZ" + bytes(100)), "are not read"),
    "junk.txt": (junk, "not text"),
    "dangling.md": (lambda path: path.symlink_to("nowhere.md"), "a link to nothing"),
    "circle.md": (lambda path: path.symlink_to("circle.md"), "back to itself"),
    "out.txt": (lambda path: path.symlink_to("/etc/hostname"), "out of the given folders"),
    "pipe.txt": (lambda path: os.mkfifo(path), "a pipe"),
    "\udccd\udccb.txt": (lambda path: path.write_text("text"), "not UTF-8"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path
    good: dict[str, Text]  # by name


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    good: dict[str, Text] = {}
    for number in range(FILES - len(BAD)):
        suffix, write = GOOD[number % len(GOOD)]
        text = Text(1000 + number, is_chinese=number // len(GOOD) % 2 == 1)
        name = (
            f"{'zh' if text.is_chinese else 'en'}/{number % 7}/{'文件' if text.is_chinese else 'file'}-{number}{suffix}"
        )
        path = tmp_path / "mixed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, text)
        good[f"mixed/{name}"] = text
    (tmp_path / "mixed" / "bad").mkdir()
    for name, (make, _) in BAD.items():
        make(tmp_path / "mixed" / "bad" / name)
    return Folder(tmp_path / "mixed", good)


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    with ray_session(concurrency=1):
        yield


def test_every_good_file_is_in_once_and_every_bad_one_says_why(folder: Folder) -> None:
    root = folder.path.parent / "knowledge"
    report = ingest(
        [folder.path], root=root, tenant="demo", collection="help", encoder=HashEncoder(), limits=LIMITS
    )  # fmt: skip
    assert report.files == FILES

    reasons = {reject.source: reject.reason for reject in report.rejects}
    assert len(reasons) == len(report.rejects) == len(BAD)
    for name, (_, words) in BAD.items():
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        assert any(word in reasons[f"mixed/bad/{shown}"] for word in words.split("|")), (
            shown,
            reasons[f"mixed/bad/{shown}"],
        )

    store = KnowledgeStore(root)
    chunks = store.chunks("demo", "help", report.version)
    assert {chunk.source for chunk in chunks} == set(folder.good)
    by_source: dict[str, list[Chunk]] = {name: [] for name in folder.good}
    for chunk in chunks:
        by_source[chunk.source].append(chunk)
    for name, text in folder.good.items():
        check_one(name, text, by_source[name])
    assert max(Counter(chunk.id for chunk in chunks).values()) == 1

    again = ingest([folder.path], root=root, tenant="demo", collection="help", encoder=HashEncoder(), limits=LIMITS)
    assert (again.version, again.embedded, len(again.rejects)) == (report.version, 0, len(BAD))


def test_storage_a_site_and_a_data_set_go_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "docs" / ".hidden").mkdir(parents=True)
    for path in ("docs/a.md", "docs/.hidden/b.md"):
        markdown(tmp_path / path, Text(1, is_chinese=False))
    half(pdf)(tmp_path / "docs" / "half.pdf")
    html(tmp_path / "page.html", Text(2, is_chinese=True))
    rows = {"question": [Text(3, is_chinese=False).question], "answer": [Text(3, is_chinese=False).answer]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "set"))

    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        site = f"http://localhost:{server.server_address[1]}"
        addresses = "".join(f"<url><loc>{site}/{page}</loc></url>" for page in ("page.html", "gone.html"))
        (tmp_path / "sitemap.xml").write_text(f"<urlset>{addresses}</urlset>")
        report = ingest(
            [f"file://{tmp_path}/docs", f"{site}/sitemap.xml", tmp_path / "set"],
            root=tmp_path / "knowledge",
            tenant="demo",
            collection="help",
            encoder=HashEncoder(),
            limits=ReadLimits(web=WebLimits(own_hosts=frozenset({"localhost"}))),
            max_reject_share=0.5,
        )
        server.shutdown()
    assert sorted((reject.source, reject.reason.split(":")[0]) for reject in report.rejects) == [
        (f"file://{tmp_path}/docs/half.pdf", "is cut off"),
        (f"{site}/gone.html", "the server answered 404"),
    ]
    chunks = KnowledgeStore(tmp_path / "knowledge").chunks("demo", "help", report.version)
    found = {(chunk.source, chunk.url, chunk.kind) for chunk in chunks}
    assert found == {
        *((f"file://{tmp_path}/docs/a.md", "", kind) for kind in ("qa", "passage")),
        *((f"{site}/page.html", f"{site}/page.html", kind) for kind in ("qa", "passage")),
        ("set/data-00000-of-00001.arrow", "", "qa"),
    }


def check_one(name: str, text: Text, chunks: list[Chunk]) -> None:
    pairs = [(chunk.question, chunk.answer) for chunk in chunks if chunk.kind == "qa"]
    passages = [chunk.text for chunk in chunks if chunk.kind == "passage"]
    suffix = Path(name).suffix
    assert pairs == ([] if suffix in WITHOUT_PAIR else [(text.question, text.answer)]), name
    assert sum(text.passage in passage for passage in passages) == len(passages) == (suffix not in WITHOUT_PASSAGE), (
        name
    )
    assert {chunk.language for chunk in chunks} == {"zh" if text.is_chinese else "en"}, name
