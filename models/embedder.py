"""The embedder: any BERT-like encoder that transformers can load, from a local folder or the Hugging Face hub.

Knows tokens, batches and pooling; knows nothing of caches, intents or indexes. Runs where the process may run: on a
GPU if one is visible (Ray hides it from replicas that asked for none), otherwise on the CPU.

torch and transformers are imported when an encoder is made: together they take seconds, and a process that only asks
for an identity needs neither.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.protocols import Vectors

Pooling = Literal["mean", "cls"]
# bf16 against fp32 with multilingual-e5-small on 2 cores with AVX512-BF16: about twice as fast, cosine 0.9999.
# Dynamic int8 was as fast as bf16 and much worse (cosine 0.97-0.98), so it is not offered.
Precision = Literal["fp32", "bf16"]

_MAX_BATCH = 32  # texts in one forward pass
_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
_HUB_FILES = ["*.json", "*.safetensors"]
# Their pooler feeds a pretraining task that we do not use; published encoders often leave its weights out.
_HAVE_POOLER = {"bert", "roberta", "xlm-roberta", "camembert", "electra"}


class ModelLoadError(RuntimeError):
    """The encoder could not be loaded; the message says what to do."""


class BertEmbedder:
    """A frozen encoder with mean or CLS pooling. Threads may share one instance.

    threads: CPU threads of one forward pass; the setting is the process's, as torch has only one.
    """

    def __init__(
        self,
        model: str,
        *,
        query_prefix: str = "query: ",
        passage_prefix: str = "passage: ",
        pooling: Pooling = "mean",
        max_tokens: int = 512,
        precision: Precision = "fp32",
        threads: int = 1,
    ) -> None:
        import torch
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        folder = _local_folder(model)
        config = AutoConfig.from_pretrained(folder)
        _check_length(model, max_tokens, getattr(config, "max_position_embeddings", None))
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        options: dict[str, Any] = {"add_pooling_layer": False} if config.model_type in _HAVE_POOLER else {}
        loaded = AutoModel.from_pretrained(
            folder, dtype=getattr(torch, _DTYPES[precision]), use_safetensors=True, trust_remote_code=False, **options
        )
        self._model = loaded.to(self._device).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._tokenizer_lock = threading.Lock()  # the Rust tokenizer raises "Already borrowed" when calls overlap
        self._dim = int(config.hidden_size)
        self._max_tokens = max_tokens
        self._pooling = pooling
        self._query_prefix = query_prefix
        self._passage_prefix = passage_prefix
        self._identity = embedder_identity(
            model,
            query_prefix=query_prefix,
            passage_prefix=passage_prefix,
            pooling=pooling,
            max_tokens=max_tokens,
            precision=precision,
        )

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def dim(self) -> int:
        return self._dim

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._query_prefix + text for text in texts])

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._passage_prefix + text for text in texts])

    def _embed(self, texts: list[str]) -> Vectors:
        vectors: Vectors = np.empty((len(texts), self._dim), dtype=np.float32)
        if not texts:
            return vectors
        ids = self._tokenize(texts)
        by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # so that a batch is hardly padded
        for start in range(0, len(by_length), _MAX_BATCH):
            rows = by_length[start : start + _MAX_BATCH]
            vectors[rows] = self._forward([ids[i] for i in rows])
        return vectors

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        with self._tokenizer_lock:
            encoded = self._tokenizer(texts, truncation=True, max_length=self._max_tokens)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _forward(self, batch: list[list[int]]) -> Vectors:
        import torch

        longest = max(len(ids) for ids in batch)
        pad = self._tokenizer.pad_token_id or 0
        input_ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in batch], device=self._device)
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in batch], device=self._device)
        with torch.inference_mode():
            hidden = self._model(input_ids=input_ids, attention_mask=mask).last_hidden_state.float()  # (n, tokens, dim)
            if self._pooling == "cls":
                pooled = hidden[:, 0]
            else:
                pooled = (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
            vectors: Vectors = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return vectors


def embedder_identity(
    model: str, *, query_prefix: str, passage_prefix: str, pooling: Pooling, max_tokens: int, precision: Precision
) -> str:
    """Name and fingerprint of the embedder that these options make. Raises `ModelLoadError`."""
    folder = _local_folder(model)
    recipe = (pooling, query_prefix, passage_prefix, str(max_tokens), precision)
    return f"{folder.name if Path(model).is_dir() else model}@{_fingerprint(folder, recipe)}"


def _local_folder(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if Path(model).is_dir():
        if not Path(model, "config.json").is_file():
            raise ModelLoadError(f"{model!r} is a folder, but there is no config.json in it: not a model")
        return Path(model).resolve()
    try:
        return Path(snapshot_download(model, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        raise ModelLoadError(f"{model!r} is neither a folder nor a model id of the Hugging Face hub") from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ModelLoadError(
            f"{model!r} could not be fetched from the Hugging Face hub: check the name and the network, "
            "or give the path of a local folder"
        ) from error


def _check_length(model: str, max_tokens: int, positions: int | None) -> None:
    if positions is not None and max_tokens > positions:
        raise ModelLoadError(f"max_tokens is {max_tokens}, but {model!r} has only {positions} positions")


def _fingerprint(folder: Path, recipe: Sequence[str]) -> str:
    """16 hex digits of everything that changes a vector. Reads the weights once: 0.2 s for 240 MB."""
    files = sorted([folder / "config.json", *folder.glob("tokenizer*.json"), *folder.glob("*.safetensors")])
    digest = hashlib.sha256(repr(tuple(recipe)).encode())
    for file in files:
        with file.open("rb") as opened:
            digest.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]
