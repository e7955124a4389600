"""Ingests in a process of its own that can be killed: `python -m … HERE|RAY ROOT FILE LOG`.

Every batch that is embedded takes a moment and leaves a line in LOG: how many texts it had.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestion import embedder_pool
from ingestion.job import ingest
from models.fakes import HashEmbedder, HashEncoder
from models.protocols import Vectors

PAUSE_S = 0.05


class SlowEmbedder(HashEmbedder):
    def __init__(self, dim: int, log: Path) -> None:
        super().__init__(dim)
        self._log = log

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        time.sleep(PAUSE_S)
        with self._log.open("a") as log:
            log.write(f"{len(texts)}\n")
        return super().embed_passages(texts)


@dataclass(frozen=True)
class SlowEncoder(HashEncoder):
    log: str = ""

    def load(self) -> SlowEmbedder:
        return SlowEmbedder(self.dim, Path(self.log))


def main(where: str, root: str, file: str, log: str) -> None:
    embedder_pool._FEW = 10**9 if where == "HERE" else 0
    ingest([Path(file)], root=root, tenant="demo", collection="help", encoder=SlowEncoder(log=log))


if __name__ == "__main__":
    main(*sys.argv[1:])
