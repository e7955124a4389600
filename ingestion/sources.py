"""Which files are ingested, and by which names they are known. Reads folders, not files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestion.errors import NothingToIngestError

EXTENSIONS = frozenset({".md", ".txt", ".html", ".htm", ".pdf", ".docx", ".xlsx", ".csv", ".jsonl"})


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: Path
    name: str  # relative to the folder that all given paths lie in, so that it is the same on every machine


def expand(paths: Sequence[Path]) -> list[SourceFile]:
    """The files under the paths, each once, in a stable order. Unknown kinds are included: reading rejects them."""
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise NothingToIngestError(f"no such file or folder: {', '.join(missing)}")
    absolute = [Path(os.path.abspath(path)) for path in paths]
    root = Path(os.path.commonpath([path.parent for path in absolute])) if absolute else Path()
    found = {path: None for start in absolute for path in _walk(start)}
    return [SourceFile(path, _printable(path.relative_to(root))) for path in sorted(found)]


def _walk(start: Path) -> Iterator[Path]:
    """Hidden files and folders are skipped, except where they were named."""
    if start.is_file():
        yield start
        return
    for folder, folders, files in os.walk(start):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(folder, name) for name in files if not name.startswith((".", "~$")))


def _printable(path: Path) -> str:
    """Names on disk are bytes and need not be UTF-8; the store takes nothing else."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")
