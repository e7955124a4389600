"""Which files are found, how they are called, and which cannot be read, as can be seen from where they lie."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ingestion.errors import NothingToIngestError
from ingestion.fetch import fetched, list_sources
from ingestion.sources import RemoteFile, SourceFile, expand, read_url_list, shown, source_from_json, source_to_json
from ingestion.web import WebClient

pytestmark = pytest.mark.unit


@pytest.fixture
def company(tmp_path: Path) -> Path:
    for name in (
        "articles/a.md",
        "articles/sub/b.txt",
        "articles/.hidden/c.md",
        "articles/.d.md",
        "articles/~$open.docx",
        "faq/q.csv",
        "x.exe",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    return tmp_path


def names(*paths: Path) -> list[str]:
    return [file.name for file in expand(paths)]


def reasons(folder: Path) -> dict[str, str]:
    return {file.name: file.reason for file in expand([folder]) if file.reason}


def test_names_do_not_depend_on_where_the_folder_lies(company: Path) -> None:
    assert names(company / "articles") == ["articles/a.md", "articles/sub/b.txt"]
    assert names(company / "articles", company / "faq") == ["articles/a.md", "articles/sub/b.txt", "faq/q.csv"]
    assert names(company / "faq" / "q.csv") == ["q.csv"]


def test_a_file_named_twice_is_read_once(company: Path) -> None:
    assert names(company / "articles", company / "articles" / "a.md") == ["articles/a.md", "articles/sub/b.txt"]


def test_unknown_kinds_are_not_passed_over_in_silence(company: Path) -> None:
    assert names(company / "x.exe") == ["x.exe"]


def test_a_path_that_is_not_there_is_an_error(company: Path) -> None:
    with pytest.raises(NothingToIngestError, match=r"nowhere"):
        names(company / "nowhere")


# --- links ---


def test_links_within_the_folder_are_followed_and_read_once(company: Path) -> None:
    (company / "articles" / "link.md").symlink_to("a.md")
    (company / "articles" / "linked").symlink_to("sub")
    assert names(company / "articles") == ["articles/a.md", "articles/sub/b.txt"]


def test_a_mounted_configuration_is_read_through_its_links(tmp_path: Path) -> None:
    """As Kubernetes mounts a ConfigMap: names are links into a hidden folder."""
    (tmp_path / "docs" / "..2026").mkdir(parents=True)
    (tmp_path / "docs" / "..2026" / "a.md").write_text("text")
    (tmp_path / "docs" / "..data").symlink_to("..2026")
    (tmp_path / "docs" / "a.md").symlink_to("..data/a.md")
    assert names(tmp_path / "docs") == ["docs/a.md"]
    assert reasons(tmp_path / "docs") == {}


def test_links_that_lead_nowhere_in_circles_or_out_say_so(company: Path) -> None:
    folder = company / "articles"
    (folder / "dangling.md").symlink_to("gone.md")
    (folder / "one.md").symlink_to("two.md")
    (folder / "two.md").symlink_to("one.md")
    (folder / "self.md").symlink_to("self.md")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "out.md").symlink_to("../x.exe")
    (folder / "system").symlink_to("/etc")
    found = reasons(folder)
    assert "link to nothing" in found["articles/dangling.md"]
    for name in ("one", "two", "self"):
        assert "back to itself" in found[f"articles/{name}.md"]
    assert "a folder that it lies in" in found["articles/sub/up"]
    assert "out of the given folders" in found["articles/out.md"]
    assert "out of the given folders" in found["articles/system"]
    assert len(found) == 7
    assert names(folder).count("articles/a.md") == 1


def test_a_link_out_is_followed_where_its_target_is_given_too(company: Path) -> None:
    (company / "articles" / "q.csv").symlink_to("../faq/q.csv")
    assert reasons(company) == {}
    assert "faq/q.csv" in names(company / "articles", company / "faq")
    (company / "named.md").symlink_to("articles/a.md")
    assert names(company / "named.md") == ["named.md"]


# --- what is no file ---


def test_pipes_sockets_and_devices_are_not_opened(company: Path) -> None:
    os.mkfifo(company / "faq" / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(company / "faq" / "socket.txt"))  # an address has at most 107 letters
        assert set(reasons(company / "faq")) == {"faq/pipe.txt", "faq/socket.txt"}
    assert "a device" in expand([Path("/dev/zero")])[0].reason
    assert expand([company / "faq" / "pipe.txt"])[0].reason.startswith("is no file")


def test_a_name_that_is_not_utf8_is_shown_and_has_to_be_changed(company: Path) -> None:
    Path(os.fsdecode(os.fsencode(company / "faq") + b"/\xcd\xc8.txt")).write_text("text")
    assert reasons(company / "faq") == {"faq/\\xcd\\xc8.txt": "its name is not UTF-8: rename it"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_says_so(company: Path) -> None:
    (company / "articles" / "sub").chmod(0)
    try:
        assert "give it the permission" in reasons(company / "articles")["articles/sub"]
    finally:
        (company / "articles" / "sub").chmod(0o700)


def test_files_about_a_saved_data_set_are_none_of_it(tmp_path: Path) -> None:
    for name in ("data-00000-of-00001.arrow", "state.json", "dataset_info.json"):
        (tmp_path / "set" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "train" / name).write_text("{}")
    (tmp_path / "set" / "dataset_dict.json").write_text("{}")
    (tmp_path / "set" / "state.json").write_text("{}")  # alone it is a file like any other
    assert names(tmp_path / "set") == ["set/state.json", "set/train/data-00000-of-00001.arrow"]


# --- elsewhere ---


def test_storage_is_listed_and_fetched_through_its_uri(company: Path) -> None:
    uri = f"file://{company}/articles"
    sources = list_sources([uri, company / "faq"], WebClient())
    assert [source.name for source in sources] == ["faq/q.csv", f"{uri}/a.md", f"{uri}/sub/b.txt"]
    article = sources[1]
    assert isinstance(article, RemoteFile)
    with fetched(article, WebClient()) as (file,):
        assert (file.path.read_text(), file.name, file.path.suffix) == ("text", f"{uri}/a.md", ".md")
    assert not file.path.exists()
    (company / "articles" / "a.md").unlink()
    with fetched(article, WebClient()) as (gone,):
        assert gone.reason.startswith("could not be fetched")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///no/such/place", "there is nothing at file:///no/such/place"),
        ("ftp://a.example/x", "no way to ftp"),
        ("s3://", "no address of a storage"),
    ],
)
def test_a_location_that_is_none_ends_the_run(location: str, reason: str) -> None:
    with pytest.raises(NothingToIngestError, match=reason):
        list_sources([location], WebClient())


def test_secrets_of_a_uri_are_not_shown() -> None:
    assert shown("s3://key:secret@bucket/a%20b?region=x&endpoint_override=y") == "s3://bucket/a b"


def test_sources_survive_the_way_between_processes(company: Path) -> None:
    odd = Path(os.fsdecode(b"/a/\xcd\xcb.txt"))
    for source in (SourceFile(odd, "a", ".txt", "https://a.example", "no"), RemoteFile("s3://b/c", "c", "b/c/d")):
        text = source_to_json(source)
        assert text.isascii()
        assert source_from_json(text) == source


def test_a_list_of_addresses_may_have_remarks(tmp_path: Path) -> None:
    (tmp_path / "urls.txt").write_text("# ours\nhttps://a.example/1\n\n  https://a.example/2  \n")
    assert read_url_list(tmp_path / "urls.txt") == ["https://a.example/1", "https://a.example/2"]
