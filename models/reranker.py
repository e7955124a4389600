"""The reranker: any cross-encoder that transformers can load, from a local folder or the Hugging Face hub.

It reads question and passage together, so it sees what two vectors cannot; and it reads every passage anew for every
question, so it is slow, and knows when to stop. torch and transformers are imported when one is made.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from models.embedder import ModelLoadError, local_folder

_BATCH = 8  # passages in one forward pass: between two passes it looks at the clock
_NEWEST_SHARE = 0.3  # of the newest pass in the speed that the next ones are expected to have


@dataclass(frozen=True, slots=True)
class RerankerConfig:
    """Which cross-encoder, and how it is used."""

    model: str  # folder, or id on the Hugging Face hub
    max_tokens: int = 512  # of question and passage together; longer passages are cut
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 1  # CPU threads of one forward pass

    def load(self) -> CrossEncoder:
        """Takes seconds. Raises `ModelLoadError`."""
        return CrossEncoder(self)


class CrossEncoder:
    """A sequence classifier over pairs: with one output (its logit counts), or two ("no", "yes": their difference).

    Threads may share one instance. Its CPU threads are the process's: torch has one setting for all.
    """

    def __init__(self, config: RerankerConfig) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = local_folder(config.model)
        torch.set_num_threads(config.threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        loaded = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
        if loaded.config.num_labels not in (1, 2):
            raise ModelLoadError(
                f"{config.model!r} is no reranker: it has {loaded.config.num_labels} outputs, a reranker has one or two"
            )
        self._model = loaded.to(self._device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._tokenizer_lock = threading.Lock()  # the Rust tokenizer raises "Already borrowed" when calls overlap
        self._max_tokens = config.max_tokens
        self._s_per_token = 0.0  # nothing is known yet

    def scores(self, question: str, passages: Sequence[str], until_s: float) -> list[float] | None:
        """See `models.protocols.Reranker`."""
        if not passages:  # the tokenizer cannot say "nothing"
            return []
        encoded = self._tokenize(question, passages)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        by_length = sorted(range(len(passages)), key=lengths.__getitem__)  # so that a batch is hardly padded
        batches = [by_length[start : start + _BATCH] for start in range(0, len(by_length), _BATCH)]
        left = [len(batch) * lengths[batch[-1]] for batch in batches]  # tokens, as padded
        found = [0.0] * len(passages)
        for number, batch in enumerate(batches):
            begun_s = time.monotonic()
            if begun_s + sum(left[number:]) * self._s_per_token > until_s:
                return None
            for row, score in zip(batch, self._forward(encoded, batch), strict=True):
                found[row] = score
            self._learn((time.monotonic() - begun_s) / left[number])
        return found if time.monotonic() <= until_s else None

    def _learn(self, s_per_token: float) -> None:
        known = self._s_per_token or s_per_token
        self._s_per_token = (1 - _NEWEST_SHARE) * known + _NEWEST_SHARE * s_per_token

    def _tokenize(self, question: str, passages: Sequence[str]) -> Any:
        with self._tokenizer_lock:
            return self._tokenizer(
                [question] * len(passages), list(passages), truncation="longest_first", max_length=self._max_tokens
            )

    def _forward(self, encoded: Any, batch: Sequence[int]) -> list[float]:
        import torch

        rows = {name: [values[row] for row in batch] for name, values in encoded.items()}
        with self._tokenizer_lock:
            padded = self._tokenizer.pad(rows, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            logits = self._model(**padded).logits.float()  # (n, 1) or (n, 2)
        scores: list[float] = (logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0.0)).cpu().tolist()
        return scores
