"""Publishes when it is told to, in a process of its own that can be killed: `python -m … ROOT`.

Every line of standard input is the number of an edition; a fork publishes it, and its pid is the answer. The parent
imports everything once and never touches an index, so that forks are cheap and sound.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from ingestion.chunk import Chunk
from ingestion.store import Changes, KnowledgeStore

CHUNKS = 40
DIM = 16


def edition(number: int, *, whole: bool) -> Changes:
    """Every chunk says which edition it is of; every other edition is a small change to what was there."""
    chunks = [
        Chunk(f"c{n}", f"d{n}", 0, "passage", f"edition {number}, article {n}", "", "en", "public", "a.md")
        for n in range(CHUNKS)
    ]
    vectors = np.random.default_rng(number).standard_normal((CHUNKS, DIM)).astype(np.float32)
    return Changes("test", chunks, vectors, vectors[:0], replaces_all=whole)


def edition_of(chunk: Chunk) -> str:
    return chunk.text.partition(",")[0]


def main(root: Path) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    for line in sys.stdin:
        number = int(line)
        pid = os.fork()
        if pid == 0:
            KnowledgeStore(root).publish("demo", "help", edition(number, whole=number % 2 == 0))
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
