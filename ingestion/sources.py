"""What is ingested, and by which names it is known. Reads folders, and no file.

What cannot be read, as can be seen from where it lies, is listed with the reason: nothing is passed over in silence.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ingestion.errors import NothingToIngestError


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file on this machine."""

    path: Path
    name: str  # relative to the folder that all given paths lie in, so that it is the same on every machine
    kind: str = ""  # its extension, where the path does not say it: ".pdf"
    url: str = ""  # where customers find it, unless it says so itself
    reason: str = ""  # why it cannot be read, where that is known already

    @property
    def size_bytes(self) -> int:
        """0 where there is nothing to be read."""
        return self.path.stat().st_size if not self.reason and self.path.is_file() else 0


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What is fetched when it is its turn."""

    location: str  # URI, with what is needed to get there
    name: str  # without that
    path: str = ""  # within the object storage that the location leads to


Source = SourceFile | RemoteFile


def expand(paths: Sequence[Path]) -> list[SourceFile]:
    """The files under the paths, each once, in a stable order. Unknown kinds are included: reading rejects them."""
    missing = [str(path) for path in paths if not os.path.lexists(path)]
    if missing:
        raise NothingToIngestError(f"no such file or folder: {', '.join(missing)}")
    absolute = [Path(os.path.abspath(path)) for path in paths]
    root = Path(os.path.commonpath([path.parent for path in absolute])) if absolute else Path()
    inside = [os.path.realpath(path) for path in absolute]
    found: dict[str, tuple[Path, str]] = {}
    for path, reason in sorted(pair for start in absolute for pair in _walk(start, inside, frozenset())):
        real = os.path.realpath(path) if not reason else str(path)
        if real not in found or str(path) == real:  # a link to what is read under its own name is read once
            found[real] = (path, reason)
    return [_source(path, root, reason) for path, reason in sorted(found.values())]


def _source(path: Path, root: Path, reason: str) -> SourceFile:
    """Names on disk are bytes and need not be UTF-8; the store takes nothing else."""
    name = os.fsencode(path.relative_to(root).as_posix())
    try:
        return SourceFile(path, name.decode(), reason=reason)
    except UnicodeDecodeError:
        return SourceFile(path, name.decode("utf-8", "backslashreplace"), reason="its name is not UTF-8: rename it")


def _walk(path: Path, inside: Sequence[str], above: frozenset[str]) -> Iterator[tuple[Path, str]]:
    """(file, why it cannot be read, if so). Hidden files are skipped, except where they were named."""
    try:
        mode = path.stat().st_mode
    except (OSError, RuntimeError):
        is_loop = path.is_symlink() and os.path.lexists(os.path.join(path.parent, os.readlink(path)))
        yield path, "is a link that leads back to itself: remove it" if is_loop else _GONE
        return
    real = os.path.realpath(path)
    if path.is_symlink() and not any(os.path.commonpath([real, root]) == root for root in inside):
        yield path, "is a link that leads out of the given folders: give its target, too, or remove it"
    elif real in above:
        yield path, "is a link to a folder that it lies in: remove it"
    elif stat.S_ISDIR(mode):
        yield from _walk_folder(path, inside, above | {real})
    else:
        yield path, "" if stat.S_ISREG(mode) else "is no file but a pipe, a socket or a device: remove it"


_GONE = "is a link to nothing: put back what it leads to, or remove it"


def _walk_folder(folder: Path, inside: Sequence[str], above: frozenset[str]) -> Iterator[tuple[Path, str]]:
    try:
        names = os.listdir(folder)
    except OSError:
        yield folder, "is a folder that may not be read by the user of this program: give it the permission"
        return
    for name in names:
        if not name.startswith((".", "~$")) and not _describes_data_set(name, names):
            yield from _walk(folder / name, inside, above)


def _describes_data_set(name: str, names: Sequence[str]) -> bool:
    """Beside the Arrow files that `datasets` saves are files about them."""
    if name == "dataset_dict.json":
        return True
    return name in ("state.json", "dataset_info.json") and {"state.json", "dataset_info.json"} <= set(names)


# --- elsewhere ---


def shown(uri: str) -> str:
    """Without user, password and options, which may be secrets: s3://key:secret@bucket/docs?region=… is s3://bucket/docs."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{unquote(parts.path)}"


def source_to_json(source: Source) -> str:
    """In ASCII, whatever bytes a path is made of."""
    return json.dumps({key: str(value) for key, value in asdict(source).items()})


def source_from_json(text: str) -> Source:
    fields: dict[str, str] = json.loads(text)
    return RemoteFile(**fields) if "location" in fields else SourceFile(**{**fields, "path": Path(fields["path"])})  # type: ignore[arg-type]


def read_url_list(path: Path) -> list[str]:
    """One address a line; empty lines and those that begin with # say nothing."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
