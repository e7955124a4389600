"""Documents in object storage (S3, GCS, a folder by its URI) through `pyarrow.fs`: listed first, fetched one by one."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from ingestion.errors import FetchError, NothingToIngestError
from ingestion.sources import RemoteFile, shown

SCHEMES = frozenset({"s3", "gs", "gcs", "file"})
MAX_BYTES = 2_000_000_000  # of one object: beyond, a data set should be in parts
_BLOCK_BYTES = 8 * 2**20


def list_objects(uri: str) -> list[RemoteFile]:
    """All files under it, sorted, but for hidden ones. Credentials are found as the cloud's own tools find them."""
    from pyarrow import fs  # only here: its S3 library starts threads

    try:
        filesystem, base = _open(uri)
        found = filesystem.get_file_info(base)
        if found.type == fs.FileType.NotFound:
            raise NothingToIngestError(f"there is nothing at {shown(uri)}")
        infos = [found]
        if found.type == fs.FileType.Directory:
            infos = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except OSError as error:
        raise NothingToIngestError(f"{shown(uri)} cannot be listed: {_one_line(error)}") from error
    paths = sorted(info.path for info in infos if info.type == fs.FileType.File)
    return [RemoteFile(uri, _name(uri, base, path), path) for path in paths if not _is_hidden(path, base)]


def download(file: RemoteFile, folder: Path) -> Path:
    """Raises `FetchError`."""
    target = folder / f"object{PurePosixPath(file.path).suffix}"
    try:
        filesystem, _ = _open(file.location)
        with filesystem.open_input_stream(file.path) as source, target.open("wb") as opened:
            left = MAX_BYTES
            while block := source.read(_BLOCK_BYTES):
                left -= len(block)
                if left < 0:
                    raise FetchError(f"is larger than {MAX_BYTES // 1_000_000} MB: split it")
                opened.write(block)
    except OSError as error:
        raise FetchError(f"could not be fetched: {_one_line(error)}") from error
    return target


def _open(uri: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        if not urlsplit(uri).netloc and not uri.startswith("file:"):
            raise ValueError("it names no bucket")
        filesystem, base = fs.FileSystem.from_uri(uri)
    except ValueError as error:  # pyarrow's own errors are of this kind
        raise NothingToIngestError(f"{shown(uri)} is no address of a storage: {_one_line(error)}") from error
    return filesystem, base


def _name(uri: str, base: str, path: str) -> str:
    return shown(uri).rstrip("/") + path.removeprefix(base.rstrip("/"))


def _is_hidden(path: str, base: str) -> bool:
    parts = PurePosixPath(path.removeprefix(base)).parts
    return any(part.startswith((".", "~$")) for part in parts)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
