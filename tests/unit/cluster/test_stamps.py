from __future__ import annotations

from pathlib import Path

import pytest

from cluster.stamps import Stamp, fingerprint

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "articles"
    (folder / "en").mkdir(parents=True)
    (folder / "en" / "returns.md").write_text("30 days")
    return folder


def test_the_same_files_have_the_same_fingerprint(folder: Path) -> None:
    assert fingerprint([folder], ["a"]) == fingerprint([folder], ["a"])


def test_a_changed_a_new_and_a_renamed_file_are_noticed(folder: Path) -> None:
    seen = {fingerprint([folder])}
    (folder / "en" / "returns.md").write_text("60 days")
    seen.add(fingerprint([folder]))
    (folder / "new.md").write_text("60 days")
    seen.add(fingerprint([folder]))
    (folder / "new.md").rename(folder / "renamed.md")
    seen.add(fingerprint([folder]))
    assert len(seen) == 4


def test_settings_are_part_of_it(folder: Path) -> None:
    assert fingerprint([folder], ["ab", "c"]) != fingerprint([folder], ["a", "bc"])


def test_a_stamp_is_current_only_for_what_it_holds(tmp_path: Path) -> None:
    stamp = Stamp(tmp_path / "deep" / "stamp")
    assert not stamp.is_current("one")
    stamp.set("one")
    assert stamp.is_current("one")
    assert not stamp.is_current("two")
