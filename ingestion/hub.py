"""Data sets of the Hugging Face hub: `hf://owner/name`, `…/split`, with `?config=…&revision=…`.

`datasets` downloads and converts in a process of its own, without Ray's types for Arrow; it runs no code of a data set.
Run as a module, this file is that process: it prints the Arrow files of each split as one JSON object.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ingestion.errors import FetchError
from ingestion.sources import RemoteFile, SourceFile

SCHEME = "hf"
_TIME_S = 3600
_PART = re.compile(r"[\w.-]+")


def fetch_splits(file: RemoteFile) -> list[SourceFile]:
    """Raises `FetchError`."""
    command = [sys.executable, "-m", __name__, *_arguments(file.location)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIME_S, check=False, cwd=Path(__file__).parents[1]
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"took longer than {_TIME_S // 60} minutes to download") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise FetchError(f"could not be fetched: {said[-1][:300] if said else f'status {done.returncode}'}")
    splits: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    whole = len(_parts(file.location)) == 2
    return [
        SourceFile(Path(path), f"{file.name}/{split}" if whole else file.name, kind=".arrow")
        for split, paths in splits.items()
        for path in paths
    ]


def _arguments(location: str) -> list[str]:
    """Name, split, config, revision; "" where there is none."""
    parts = _parts(location)
    options = {key: values[0] for key, values in parse_qs(urlsplit(location).query).items()}
    if len(parts) not in (2, 3) or not all(map(_PART.fullmatch, parts)) or options.keys() - {"config", "revision"}:
        raise FetchError("is no data set: write hf://owner/name, hf://owner/name/split or …?config=…&revision=…")
    split = parts[2] if len(parts) == 3 else ""
    return ["/".join(parts[:2]), split, options.get("config", ""), options.get("revision", "")]


def _parts(location: str) -> list[str]:
    parts = urlsplit(location)
    return [parts.netloc, *filter(None, parts.path.split("/"))]


def _main(arguments: Sequence[str]) -> None:
    import datasets

    name, split, config, revision = (argument or None for argument in arguments)
    assert name is not None
    loaded = datasets.load_dataset(name, config, split=split, revision=revision)
    splits = {split: loaded} if split else loaded
    print(json.dumps({key: [file["filename"] for file in part.cache_files] for key, part in splits.items()}))


if __name__ == "__main__":
    _main(sys.argv[1:])
