"""Which files are found, and how they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestion.errors import NothingToIngestError
from ingestion.sources import expand

pytestmark = pytest.mark.unit


@pytest.fixture
def company(tmp_path: Path) -> Path:
    for name in (
        "articles/a.md",
        "articles/sub/b.txt",
        "articles/.hidden/c.md",
        "articles/.d.md",
        "faq/q.csv",
        "x.exe",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    return tmp_path


def names(*paths: Path) -> list[str]:
    return [file.name for file in expand(paths)]


def test_names_do_not_depend_on_where_the_folder_lies(company: Path) -> None:
    assert names(company / "articles") == ["articles/a.md", "articles/sub/b.txt"]
    assert names(company / "articles", company / "faq") == ["articles/a.md", "articles/sub/b.txt", "faq/q.csv"]
    assert names(company / "faq" / "q.csv") == ["q.csv"]


def test_a_file_named_twice_is_read_once(company: Path) -> None:
    assert names(company / "articles", company / "articles" / "a.md").count("a.md") == 0
    assert len(names(company / "articles", company / "articles" / "a.md")) == 2


def test_unknown_kinds_are_not_passed_over_in_silence(company: Path) -> None:
    assert names(company / "x.exe") == ["x.exe"]


def test_a_path_that_is_not_there_is_an_error(company: Path) -> None:
    with pytest.raises(NothingToIngestError, match=r"nowhere"):
        names(company / "nowhere")
