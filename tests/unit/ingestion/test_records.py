"""Tables and data sets: rows that are documents or pairs by their columns, and rows that are text."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestion import hub
from ingestion.document import Document
from ingestion.errors import FetchError, ParseError
from ingestion.parse import parse
from ingestion.sources import RemoteFile, expand

pytestmark = pytest.mark.unit

PAIRS: dict[str, list[Any]] = {
    "question": ["How do I pay?", "如何退货？", None],
    "answer": ["By card.", "七天内申请。", "lost"],
    "language": ["en", "zh", "en"],
    "embedding": [[0.1], [0.2], [0.3]],
}


def said(documents: Sequence[Document]) -> list[tuple[str, str]]:
    return [(document.question, document.answer) for document in documents]


def texts(document: Document) -> list[str]:
    return [block.text for block in document.blocks]


# --- Parquet and Arrow ---


def test_parquet_rows_are_pairs_and_a_bad_one_is_rejected_alone(tmp_path: Path) -> None:
    pq.write_table(pa.table(PAIRS), tmp_path / "a.parquet")
    parsed = parse(tmp_path / "a.parquet", "a.parquet")
    assert said(parsed.documents) == [("How do I pay?", "By card."), ("如何退货？", "七天内申请。")]
    assert [(reject.source, reject.reason) for reject in parsed.rejects] == [("a.parquet:3", "has no question")]


def test_parquet_rows_are_articles_or_text(tmp_path: Path) -> None:
    articles = {
        "id": [1, 2],
        "title": pa.array(["Returns", "配送"]).dictionary_encode(),
        "text": pa.array(["Within 30 days.", "三天送达。"], pa.large_string()),
        "valid_until": pa.array([date(2027, 1, 1), None]),
        "blob": [b"\x00", b"\x01"],
    }
    pq.write_table(pa.table(articles), tmp_path / "a.parquet")
    first, second = parse(tmp_path / "a.parquet", "a.parquet").documents
    assert (first.id, first.title, texts(first)) == ("1", "Returns", ["Within 30 days."])
    assert (first.details.valid_until, second.details.valid_until) == (date(2027, 1, 1), None)
    pq.write_table(
        pa.table({"Plan": ["Basic", "Pro"], "Price": [5.0, 7.5], "blob": [b"", b""]}), tmp_path / "b.parquet"
    )
    (table,) = parse(tmp_path / "b.parquet", "b.parquet").documents
    assert texts(table) == ["Plan: Basic | Price: 5", "Plan: Pro | Price: 7.5"]


class _Evil(pa.ExtensionType):  # type: ignore[misc, unused-ignore]
    """As Ray's own types once did, it would run what the file says."""

    ran: list[bytes] = []  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__(pa.string(), "raydesk.test.evil")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"payload"

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> _Evil:
        cls.ran.append(serialized)
        return cls()


def test_extension_types_are_neither_made_nor_read(tmp_path: Path) -> None:
    column = pa.ExtensionArray.from_storage(_Evil(), pa.array(["By card."]))
    table = pa.table({"title": ["How we are paid"], "answer": column, "content": ["Text."]})
    pq.write_table(table, tmp_path / "a.parquet")
    pa.register_extension_type(_Evil())
    try:
        (document,) = parse(tmp_path / "a.parquet", "a.parquet").documents
        assert texts(document) == ["Text."]  # the answer's column is as good as not there
    finally:
        pa.unregister_extension_type("raydesk.test.evil")
    _Evil.ran.clear()
    parse(tmp_path / "a.parquet", "a.parquet")  # where nobody registers types, as in the child, none is made
    assert _Evil.ran == []


def test_a_data_set_saved_by_datasets_is_read(tmp_path: Path) -> None:
    rows = {key: values[:2] for key, values in PAIRS.items()}
    whole = datasets.Dataset.from_dict(rows)
    datasets.DatasetDict({"train": whole, "test": whole.select([1])}).save_to_disk(str(tmp_path / "set"))
    files = expand([tmp_path / "set"])
    assert [file.name.split("/")[1] for file in files] == ["test", "train"]
    found = [parse(file.path, file.name) for file in files]
    assert said(found[0].documents) == [("如何退货？", "七天内申请。")]
    assert len(found[1].documents) == 2
    assert not any(each.rejects for each in found)


def test_a_data_set_of_the_hub_is_loaded_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub itself is not there in tests: a folder stands for a data set of it."""
    for split in ("train", "test"):
        pq.write_table(pa.table({key: PAIRS[key][:2] for key in ("question", "answer")}), tmp_path / f"{split}.parquet")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(hub, "_arguments", lambda location: [str(tmp_path), "", "", ""])
    files = hub.fetch_splits(RemoteFile("hf://owner/name", "hf://owner/name"))
    assert sorted(file.name for file in files) == ["hf://owner/name/test", "hf://owner/name/train"]
    parsed = parse(files[0].path, files[0].name, files[0].kind)
    assert said(parsed.documents) == [("How do I pay?", "By card."), ("如何退货？", "七天内申请。")]
    monkeypatch.setattr(hub, "_arguments", lambda location: [str(tmp_path / "nothing"), "", "", ""])
    with pytest.raises(FetchError, match="could not be fetched"):
        hub.fetch_splits(RemoteFile("hf://owner/name", "hf://owner/name"))


@pytest.mark.parametrize(
    ("location", "arguments"),
    [
        ("hf://owner/name", ["owner/name", "", "", ""]),
        ("hf://owner/name/train", ["owner/name", "train", "", ""]),
        ("hf://owner/name/train?config=zh&revision=abc", ["owner/name", "train", "zh", "abc"]),
    ],
)
def test_locations_of_the_hub_are_understood(location: str, arguments: list[str]) -> None:
    assert hub._arguments(location) == arguments


@pytest.mark.parametrize(
    "location", ["hf://owner", "hf://owner/name/a/b", "hf://owner/na me", "hf://o/n?trust_remote_code=1"]
)
def test_other_locations_of_the_hub_are_refused(location: str) -> None:
    with pytest.raises(FetchError, match="write hf://owner/name"):
        hub._arguments(location)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_half_a_data_set_is_said_to_be_one(tmp_path: Path, name: str) -> None:
    table = pa.table({"question": [f"Question {number}?" for number in range(5000)], "answer": ["So."] * 5000})
    if name == "a.parquet":
        pq.write_table(table, tmp_path / name)
    else:
        with pa.OSFile(str(tmp_path / name), "wb") as opened, pa.ipc.new_stream(opened, table.schema) as stream:
            stream.write_table(table)
    content = (tmp_path / name).read_bytes()
    assert len(parse(tmp_path / name, name).documents) == 5000
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ParseError, match="cut off"):
        parse(tmp_path / name, name)


def test_a_data_set_without_text_says_what_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"blob": [b"x"], "list": [["a"]]}), tmp_path / "a.parquet")
    with pytest.raises(ParseError, match="no text"):
        parse(tmp_path / "a.parquet", "a.parquet")


# --- JSON ---


def test_json_is_a_list_of_objects(tmp_path: Path) -> None:
    rows: list[object] = [{"问题": "如何退货？", "答案": "七天内。"}, {"q": "Card?", "a": "Yes."}, {"a": 1}, "x"]
    (tmp_path / "a.json").write_text(json.dumps(rows), encoding="utf-8")
    parsed = parse(tmp_path / "a.json", "a.json")
    assert said(parsed.documents) == [("如何退货？", "七天内。"), ("Card?", "Yes.")]
    assert [reject.source for reject in parsed.rejects] == ["a.json:3", "a.json:4"]
    (tmp_path / "b.json").write_text('{"title": "T", "body": "Text."}')
    assert parse(tmp_path / "b.json", "b.json").documents[0].title == "T"
    (tmp_path / "c.json").write_text('[{"title": "T", "bo')
    with pytest.raises(ParseError, match="is not JSON"):
        parse(tmp_path / "c.json", "c.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_jsonl_is_read_in_its_encoding(tmp_path: Path, encoding: str) -> None:
    rows = [{"question": f"第{number}个问题是什么？", "answer": "答案\u2028在此。"} for number in range(50)]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.jsonl").write_bytes(content.encode(encoding))
    parsed = parse(tmp_path / "a.jsonl", "a.jsonl")
    assert (len(parsed.documents), parsed.rejects) == (50, [])
    assert parsed.documents[9].question == "第9个问题是什么？"


def test_a_name_of_its_own_wins_over_another_name_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "short", "content": "Long.", "标题": "T", "a": "not an answer"}\n')
    (document,) = parse(tmp_path / "a.jsonl", "a.jsonl").documents
    assert (document.title, texts(document)) == ("T", ["Long."])


# --- CSV and workbooks ---


def test_rows_with_a_title_and_content_are_articles(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("编号,标题,正文,分类\n7,退货,七天内可退。,售后\n8,换货,,售后\n", encoding="utf-8")
    parsed = parse(tmp_path / "a.csv", "a.csv")
    (article,) = parsed.documents
    assert (article.id, article.title, article.details.topic, texts(article)) == ("7", "退货", "售后", ["七天内可退。"])
    assert parsed.rejects[0].source == "a.csv:3"
    (tmp_path / "b.csv").write_text("项目,内容\n保修,两年\n", encoding="utf-8")
    assert texts(parse(tmp_path / "b.csv", "b.csv").documents[0]) == ["项目: 保修 | 内容: 两年"]


def test_tabs_part_the_columns_of_tsv(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("question\tanswer\nA, b, c, or d?\tAll, of; them.\n")
    assert said(parse(tmp_path / "a.tsv", "a.tsv").documents) == [("A, b, c, or d?", "All, of; them.")]


def test_a_quote_that_is_never_closed_does_not_swallow_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answer\nHow?,"So.\nWhy?,Then.\n')
    with pytest.raises(ParseError, match=r'quotation mark \("\) of line 2 is never closed'):
        parse(tmp_path / "a.csv", "a.csv")
    (tmp_path / "b.csv").write_text('question,answer\n3.5" disk?,Yes.\n')
    assert said(parse(tmp_path / "b.csv", "b.csv").documents) == [('3.5" disk?', "Yes.")]


def test_a_title_may_stand_above_the_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Questions of our customers\n\nQuestion;Answer\nCard?;Yes, or cash.\n")
    assert said(parse(tmp_path / "a.csv", "a.csv").documents) == [("Card?", "Yes, or cash.")]


_ODS = "urn:oasis:names:tc:opendocument:xmlns"


def test_open_document_sheets_are_read(tmp_path: Path) -> None:
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f"<table:table-cell office:value-type='string'><text:p>{cell}</text:p></table:table-cell>" for cell in row
        )
        + "</table:table-row>"
        for row in (("问题", "答案"), ("如何退货？", "七天内。"))
    )
    content = (
        f"<office:document-content xmlns:office='{_ODS}:office:1.0' xmlns:table='{_ODS}:table:1.0' "
        f"xmlns:text='{_ODS}:text:1.0'><office:body><office:spreadsheet><table:table table:name='A'>{cells}"
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    with zipfile.ZipFile(tmp_path / "a.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", f"<?xml version='1.0' encoding='UTF-8'?>{content}")
        archive.writestr("META-INF/manifest.xml", "<?xml version='1.0'?><manifest/>")
    assert said(parse(tmp_path / "a.ods", "a.ods").documents) == [("如何退货？", "七天内。")]
