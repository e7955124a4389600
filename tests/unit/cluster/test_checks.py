from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from cluster import ports
from cluster.checks import StartError, check_machine, read_available_memory

pytestmark = pytest.mark.unit
GB = 10**9


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_machine_with_everything_passes(tmp_path: Path) -> None:
    check_machine(tmp_path, tmp_path, "127.0.0.1", free_port(), lambda: 8 * GB)


def test_a_taken_port_says_who_to_ask_and_what_to_type(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(StartError) as caught:
            check_machine(tmp_path, tmp_path, "127.0.0.1", port, lambda: 8 * GB)
    message = str(caught.value)
    assert f"Port {port} of 127.0.0.1 is taken" in message
    assert f"ss -ltnp 'sport = :{port}'" in message
    assert "make serve PORT=" in message


def test_short_memory_says_how_much_is_needed(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"3\.1 GB of memory are available; .* needs 6 GB"):
        check_machine(tmp_path, tmp_path, "127.0.0.1", free_port(), lambda: 31 * GB // 10)


def test_a_kernel_that_does_not_say_is_believed(tmp_path: Path) -> None:
    check_machine(tmp_path, tmp_path, "127.0.0.1", free_port(), lambda: None)


def test_a_full_disk_is_named_though_its_folder_does_not_exist_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=GB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StartError, match=r"1\.0 GB are free on the disk of .*/state; 2 GB are needed"):
        check_machine(tmp_path / "state", tmp_path, "127.0.0.1", free_port(), lambda: 8 * GB)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port, host: port == 8003)
    with pytest.raises(StartError) as caught:
        check_machine(tmp_path, tmp_path, "127.0.0.1", 8000, lambda: GB)
    assert "Port 8000" in str(caught.value)
    assert "PORT=8003" in str(caught.value)
    assert "1.0 GB of memory" in str(caught.value)


def test_available_memory_is_read_in_bytes(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  2000 kB\nMemAvailable:    1000 kB\n")
    assert read_available_memory(meminfo) == 1_024_000
