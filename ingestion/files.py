"""Where knowledge lies: a folder (of this machine, or NFS), or object storage (S3, GCS) through `pyarrow.fs`.

Paths are relative to the root, with slashes. A folder that is added is there as a whole or not at all, or, where the
storage cannot rename, under a name that nothing refers to until it is complete.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from ingestion.errors import StoreError

_LOCK = ".lock"
_DRAFT = ".draft"
_HIDDEN = "."


class Files(Protocol):
    def read(self, path: str) -> bytes:
        """Raises `FileNotFoundError`."""

    def write(self, path: str, content: bytes) -> None:
        """Readers see the old content or the new."""

    def names(self, folder: str) -> list[str]:
        """Files and folders in it, sorted, without hidden ones; none where there is no such folder."""

    def draft(self, folder: str) -> AbstractContextManager[Path]:
        """An empty folder on this machine, in which a folder to be added is written; gone afterwards."""

    def add(self, draft: Path, folder: str) -> None:
        """Moves or copies what was written; it is on the disk when this returns."""

    def remove(self, folder: str) -> None: ...

    def fetch(self, folder: str, names: Sequence[str]) -> Path:
        """The folder on this machine, with (at least) these files; one that does not exist is missing there, too."""

    def forget(self, folder: str, keep: Sequence[str] = ()) -> None:
        """Of what `fetch` copied below the folder, drops all that is not in `keep`."""

    def locked(self, folder: str) -> AbstractContextManager[None]:
        """One writer at a time, where the storage can say so."""


def open_files(root: str | Path, cache: Path | None = None) -> Files:
    """root: a folder, or s3://bucket/prefix, gs://bucket/prefix, file:///folder (pyarrow's own URI options apply).

    cache: folder for copies of what lies in object storage. Credentials are found as the cloud's own tools find them.
    """
    scheme = urlsplit(str(root)).scheme
    if scheme in ("", "file"):
        return LocalFiles(Path(urlsplit(str(root)).path if scheme else root))
    from pyarrow import fs  # only here: its S3 library starts threads

    try:
        filesystem, base = fs.FileSystem.from_uri(str(root))
    except (OSError, ValueError) as error:
        raise StoreError(f"'{root}' cannot be used as a store of knowledge: {error}") from error
    return ObjectFiles(filesystem, base, cache or Path(tempfile.gettempdir()) / f"raydesk-knowledge-{os.getuid()}")


class LocalFiles:
    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        target = self._root / path
        draft = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        _sync(draft)
        draft.replace(target)
        _sync(target.parent)

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._root / folder) if not name.startswith(_HIDDEN))
        except (FileNotFoundError, NotADirectoryError):
            return []

    @contextmanager
    def draft(self, folder: str) -> Iterator[Path]:
        """Beside what it will belong to, so that it can be moved there. What a killed run left is swept away."""
        draft = self._root / folder / _DRAFT
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def add(self, draft: Path, folder: str) -> None:
        for path in (*draft.rglob("*"), draft):
            _sync(path)
        target = self._root / folder
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(target)
        _sync(target.parent)

    def remove(self, folder: str) -> None:
        shutil.rmtree(self._root / folder)

    def fetch(self, folder: str, names: Sequence[str]) -> Path:
        return self._root / folder

    def forget(self, folder: str, keep: Sequence[str] = ()) -> None:
        """Nothing was copied."""

    @contextmanager
    def locked(self, folder: str) -> Iterator[None]:
        (self._root / folder).mkdir(parents=True, exist_ok=True)
        with (self._root / folder / _LOCK).open("w") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            yield


class ObjectFiles:
    """Object storage has no rename and no lock: let one job at a time write a collection.

    Indexes are read from files, so what is searched is copied to this machine first.
    """

    def __init__(self, filesystem: Any, base: str, cache: Path) -> None:
        self._fs = filesystem
        self._base = base.rstrip("/")
        self._cache = cache / self._base.replace("/", "_")

    def read(self, path: str) -> bytes:
        with self._fs.open_input_stream(self._at(path)) as opened:
            content: bytes = opened.read()
        return content

    def write(self, path: str, content: bytes) -> None:
        with self._fs.open_output_stream(self._at(path)) as opened:  # an object appears when it is complete
            opened.write(content)

    def names(self, folder: str) -> list[str]:
        from pyarrow import fs

        found = self._fs.get_file_info(fs.FileSelector(self._at(folder), allow_not_found=True))
        return sorted(info.base_name for info in found if not info.base_name.startswith(_HIDDEN))

    @contextmanager
    def draft(self, folder: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="raydesk-draft-") as name:
            yield Path(name)

    def add(self, draft: Path, folder: str) -> None:
        from pyarrow import fs

        fs.copy_files(str(draft), self._at(folder), fs.LocalFileSystem(), self._fs)

    def remove(self, folder: str) -> None:
        self._fs.delete_dir(self._at(folder))

    def fetch(self, folder: str, names: Sequence[str]) -> Path:
        target = self._cache / folder
        missing = [name for name in names if not (target / name).is_file()]
        for name in missing:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
            try:
                self._copy(f"{folder}/{name}", draft)
                draft.replace(path)  # another process may have fetched the same
            except FileNotFoundError:
                continue  # whoever needs it says so
            finally:
                draft.unlink(missing_ok=True)
        return target

    def forget(self, folder: str, keep: Sequence[str] = ()) -> None:
        for path in (self._cache / folder).glob("*"):
            if path.name not in keep:
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def locked(self, folder: str) -> Iterator[None]:
        yield

    def _copy(self, path: str, target: Path) -> None:
        with self._fs.open_input_stream(self._at(path)) as source, target.open("wb") as opened:
            shutil.copyfileobj(source, opened, 8 * 2**20)

    def _at(self, path: str) -> str:
        return f"{self._base}/{path}" if path else self._base


def _sync(path: Path) -> None:
    """To the disk: a file's content, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
