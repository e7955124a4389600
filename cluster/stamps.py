"""Doing slow work again only when what it was made from has changed. Knows hashes and files, not the work."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path


def fingerprint(files: Iterable[Path], also: Sequence[str] = ()) -> str:
    """SHA-256 over names and contents of files, whole folders included, and over `also`."""
    digest = hashlib.sha256()
    for text in also:
        digest.update(text.encode() + b"\0")
    for file in _expand(files):
        digest.update(str(file).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _expand(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        inside = (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        found.extend(inside)
    return sorted(found)


class Stamp:
    """A file that holds the fingerprint of the last finished work."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def is_current(self, wanted: str) -> bool:
        return self._file.is_file() and self._file.read_text().strip() == wanted

    def set(self, value: str) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(value + "\n")
