"""Versions of a trained head: a folder each, and a pointer that is moved as a whole.

    <root>/v000001/head.json, head.npz, card.json, card.md
    <root>/CURRENT                                          the name of the published version

A version never changes once it is published. Who reads the pointer sees the old version or the new one, never half.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.intent_card import markdown
from models.intent_examples import IntentDataError
from models.intent_head import LinearIntentHead, labels_of

CARD_FILE = "card.json"
KEPT = 10  # versions; older ones are removed when a new one is published
_POINTER = "CURRENT"
_VERSION = re.compile(r"v(\d{6,})")


def current_version(root: Path) -> str | None:
    """Name of the published version, None where nothing is published. Raises `IntentDataError`."""
    try:
        name = (root / _POINTER).read_text("utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise IntentDataError(f"{root / _POINTER} cannot be read: {error}") from error
    if not _VERSION.fullmatch(name):
        raise IntentDataError(f"{root / _POINTER} is damaged: it names {name[:40]!r}, which is no version")
    return name


def load_version(root: Path, version: str | None, embedder_identity: str) -> LinearIntentHead:
    """Raises `IntentDataError` for a version that is missing, damaged or of another encoder."""
    if version is None:
        raise IntentDataError(f"no intent head is published in {root}: train one (raydesk intents train)")
    return LinearIntentHead.load(root / version, embedder_identity)


def known_labels(root: Path) -> frozenset[str] | None:
    """The intents of the published version, without loading it; None where there is none that can be read."""
    try:
        version = current_version(root)
        return None if version is None else labels_of(root / version)
    except IntentDataError:
        return None


def read_card(root: Path, version: str) -> dict[str, Any]:
    file = root / version / CARD_FILE
    try:
        card: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise IntentDataError(f"{file} is missing or damaged: {error}") from error
    return card


def publish_version(root: Path, head: LinearIntentHead, card: Mapping[str, Any]) -> str:
    """Writes the next version beside the others and moves the pointer to it. Gives its name."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".new-") as work:
        made = Path(work, "version")
        head.save(made)
        version = f"v{max(_numbers(root), default=0) + 1:06}"
        described = {"version": version, **card}
        (made / CARD_FILE).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (made / "card.md").write_text(markdown(described), "utf-8")
        os.rename(made, root / version)  # fails where another training has just taken the name
    _point_to(root, version)
    for number in sorted(_numbers(root))[:-KEPT]:
        shutil.rmtree(root / f"v{number:06}")
    return version


def _point_to(root: Path, version: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=root, prefix=".current-", delete=False) as file:
        file.write(version + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, root / _POINTER)


def _numbers(root: Path) -> list[int]:
    return [int(match[1]) for each in root.iterdir() if (match := _VERSION.fullmatch(each.name))]
