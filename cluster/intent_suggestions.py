"""Questions of the turn log that no intent covers, in groups of like meaning: candidates for new intents."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cluster.detached import join_running
from cluster.turns import recent_turns
from deployments.encoder import encoder_config
from deployments.settings import SettingsError, load_settings
from models.embedder import ModelLoadError
from models.intent_examples import normal_form
from models.protocols import OUT_OF_SCOPE, Vectors

UNSURE = 0.5  # an intent of less confidence covers nothing
_MAX_QUESTIONS = 3000  # different ones that are grouped: the distances of all pairs are held
_SHOWN = 20  # examples of a candidate
# Cosine distance within a group, on average, of vectors without what all questions have in common.
_APART = 0.55


@dataclass(frozen=True, slots=True)
class Candidate:
    count: int  # how often it was asked
    examples: tuple[str, ...]  # different questions, the most typical first


def print_suggestions(state: Path, settings_file: Path, tenant: str, limit: int, least: int) -> int:
    running = join_running(state)
    if running is None:
        print("Raydesk is not running in this folder, and the turn log is its own: 'make serve' starts it.")
        return 1
    questions = uncovered(asyncio.run(recent_turns(running.app_name, tenant, limit)))
    try:
        embedder = replace(encoder_config(load_settings(settings_file).encoder), threads=2).load()
    except (ModelLoadError, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    texts = list(questions)
    found = candidates(texts, [questions[text] for text in texts], embedder.embed_queries(texts), least)
    print(f"# {sum(questions.values())} of the newest turns of '{tenant}' are covered by no intent")
    print(as_yaml(found) if found else f"# no question of them was asked in {least} ways or more")
    return 0


def uncovered(turns: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Questions, each as it was first written, to how often they were asked."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for turn in turns:
        text = " ".join(turn["question"].split())
        is_covered = turn["intent"] != OUT_OF_SCOPE and turn["intent_confidence"] >= UNSURE
        if text and turn["intent"] and not is_covered:
            counts[first.setdefault(normal_form(text), text)] += 1
    return Counter(dict(counts.most_common(_MAX_QUESTIONS)))


def candidates(texts: Sequence[str], counts: Sequence[int], vectors: Vectors, least: int) -> list[Candidate]:
    """Groups of at least `least` different questions, the most asked first. vectors: (n, dim), of the texts."""
    from sklearn.cluster import AgglomerativeClustering

    if len(texts) < max(2, least):
        return []
    centred = vectors - vectors.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9
    clustering = AgglomerativeClustering(n_clusters=None, metric="cosine", linkage="average", distance_threshold=_APART)
    groups = clustering.fit_predict(centred)
    found = []
    for group in range(groups.max() + 1):
        rows = np.flatnonzero(groups == group)
        if len(rows) >= least:
            typical = rows[np.argsort(-(centred[rows] @ centred[rows].mean(axis=0)), kind="stable")]
            examples = tuple(texts[row] for row in typical[:_SHOWN])
            found.append(Candidate(sum(counts[row] for row in rows), examples))
    return sorted(found, key=lambda each: (-each.count, each.examples))


def as_yaml(found: Sequence[Candidate]) -> str:
    """Entries of an intents file, to be named and sorted out by a person."""
    intents = [
        {"name": f"candidate_{number}", "description": f"asked {each.count} times", "examples": list(each.examples)}
        for number, each in enumerate(found, start=1)
    ]
    return str(yaml.safe_dump({"intents": intents}, allow_unicode=True, sort_keys=False, width=1000))
