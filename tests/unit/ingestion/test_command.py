"""The command line: which settings win, what it says when it fails, what `status` shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ingestion.__main__ import DEFAULT_ROOT, _encoder, _largest_tier, _parts, _read_limits, _root, app
from ingestion.chunk import Chunk
from ingestion.store import Changes, KnowledgeStore
from models.embedder import EncoderConfig

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]


def test_options_win_over_settings_and_settings_over_defaults(tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "knowledge: {root: /data}\nencoder: {model: m, precision: bf16, threads: 7, max_batch: 3}\nhttp: {port: 1}\n"
    )
    assert _encoder(None, {}) == EncoderConfig()
    given = {"model": None, "precision": "fp32", "pooling": None, "threads": 2}
    assert _encoder(settings, given) == EncoderConfig(model="m", precision="fp32", threads=2)
    assert _root(settings, None) == "/data"
    assert _root(settings, "/other") == "/other"


def test_the_environment_wins_over_the_settings_file_as_in_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("knowledge: {root: /data, parts: 2}\nencoder: {model: m, pooling: cls}\n")
    monkeypatch.setenv("RAYDESK_KNOWLEDGE__ROOT", "/mounted")
    monkeypatch.setenv("RAYDESK_KNOWLEDGE__PARTS", "4")
    monkeypatch.setenv("RAYDESK_ENCODER__MODEL", "n")
    monkeypatch.setenv("RAYDESK_ENCODER__MAX_TOKENS", "128")
    monkeypatch.setenv("RAYDESK_ENCODER__THREADS", "7")
    assert (_root(settings, None), _root(settings, "/given"), _parts(settings)) == ("/mounted", "/given", 4)
    assert _encoder(settings, {}) == EncoderConfig(model="n", pooling="cls", max_tokens=128)


@pytest.mark.parametrize(
    ("file", "root", "precision"),
    [("serve_config.yaml", "/mnt/raydesk/knowledge", "bf16"), ("cluster/one_gpu.yaml", DEFAULT_ROOT, "fp32")],
)
def test_a_file_for_serve_deploy_has_the_services_settings(file: str, root: str, precision: str) -> None:
    settings = ROOT / file
    assert _root(settings, None) == root
    chosen = _encoder(settings, {})
    assert (chosen.model, chosen.precision) == ("intfloat/multilingual-e5-small", precision)
    assert "Llama" in _largest_tier(settings)["model_source"]


def test_limits_of_files_and_of_the_web_are_what_was_given() -> None:
    limits = _read_limits(["Help.example"], 7, 3000, 512)
    assert (limits.file.time_s, limits.file.total_s, limits.file.memory_bytes) == (3000, 3000, 512_000_000)
    assert (limits.web.own_hosts, limits.web.max_pages) == (frozenset({"help.example"}), 7)


def publish(root: Path, *names: str) -> None:
    vectors = np.ones((len(names), 2), dtype=np.float32)
    chunks = [Chunk(name, f"{name}.md", 0, "passage", "text", name, "en", "public", f"{name}.md") for name in names]
    KnowledgeStore(root).publish("demo", "help", Changes("hash", chunks, vectors, vectors[:0]))


def run(*arguments: str, root: Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments, "--root", str(root)])


def test_status_and_documents_show_what_is_published(tmp_path: Path) -> None:
    assert "Nothing is published" in run("status", root=tmp_path).output
    publish(tmp_path, "returns", "shipping")
    shown = run("status", root=tmp_path).output
    assert all(word in shown for word in ("help", "v000001", "apply"))
    shown = run("documents", "-c", "help", "--match", "SHIP", root=tmp_path).output
    assert "shipping.md" in shown
    assert "returns.md" not in shown


def test_a_version_is_taken_back_and_folded(tmp_path: Path) -> None:
    for name in ("returns", "shipping"):
        publish(tmp_path, name)
    assert (
        "v000003: 0 chunks put in (0 embedded), 1 taken out."
        in run("delete", "-c", "help", "shipping.md", root=tmp_path).output
    )
    shown = run("versions", "-c", "help", root=tmp_path).output
    rows = [line.split() for line in shown.splitlines() if "v0000" in line]
    assert [row[:2] for row in rows] == [["v000001", "apply"], ["v000002", "v000001"], ["*", "v000003"]]
    assert "v000002 again" in run("rollback", "-c", "help", root=tmp_path).output
    assert "v000003 again" in run("rollback", "-c", "help", "--to", "v000003", root=tmp_path).output
    assert "is v000004" in run("compact", "-c", "help", root=tmp_path).output
    assert KnowledgeStore(tmp_path).manifest("demo", "help", "v000004").rows == 1


def test_damage_is_named_and_ends_with_a_status(tmp_path: Path) -> None:
    publish(tmp_path, "returns")
    result = run("verify", "-c", "help", root=tmp_path)
    assert (result.exit_code, "v000001 (published): 1 chunks" in result.output) == (0, True)
    next(tmp_path.rglob("dense.faiss")).write_bytes(b"")
    result = run("verify", "-c", "help", root=tmp_path)
    assert (result.exit_code, "dense.faiss" in result.output) == (1, True)


@pytest.mark.parametrize(
    "arguments", [("versions",), ("rollback",), ("compact",), ("documents",), ("verify",), ("delete", "x.md")]
)
def test_a_collection_that_is_not_there_is_said_in_one_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "-c", "nowhere", root=tmp_path)
    assert result.exit_code == 1
    assert "'nowhere'" in result.output
    assert len(result.output.splitlines()) == 1


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["status", "--settings", str(tmp_path / "none.yaml")])
    assert result.exit_code == 2
    assert "none.yaml" in result.output
