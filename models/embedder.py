"""The embedder: any BERT-like encoder that transformers can load, from a local folder or the Hugging Face hub.

Knows tokens, batches and pooling; knows nothing of caches, intents or indexes. Runs where the process may run: on a
GPU if one is visible (Ray hides it from replicas that asked for none), otherwise on the CPU.

torch is imported when an encoder is made, and transformers only for an architecture other than BERT: they take seconds,
and a process that only asks for an identity needs neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from tokenizers import Tokenizer

from models.protocols import Vectors

if TYPE_CHECKING:
    from models.bert import Bert, Layer

Pooling = Literal["mean", "cls"]
# bf16 has three times the speed of fp32 on a CPU with AVX512-BF16 or AMX, at cosine 0.99998 and the same recall. Where
# it is emulated it has a tenth. int8 is not offered: cosine 0.97-0.98, and 2-5 of 100 first hits lost (perf.encoder).
# "auto" takes the one that is fast here; its vectors pass for those of fp32: both kinds of machine share stores.
Precision = Literal["fp32", "bf16", "auto"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# Padded tokens of one forward pass. On a CPU what a layer works on should stay in the caches: 1024 tokens are a quarter
# faster than 4096 (fp32; bf16 a third). A GPU wants enough to do.
_PASS_TOKENS = {"cpu": 1024, "cuda": 32768}
_DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
_HUB_FILES = ["*.json", "*.safetensors"]
# Their pooler feeds a pretraining task that we do not use; published encoders often leave its weights out.
_HAVE_POOLER = {"bert", "roberta", "xlm-roberta", "camembert", "electra"}


class ModelLoadError(RuntimeError):
    """The encoder could not be loaded; the message says what to do."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Which encoder, and how it is used. Knows its identity without loading it, and travels between processes."""

    model: str = ".raydesk/models/multilingual-e5-small"  # folder, or id on the Hugging Face hub
    query_prefix: str = "query: "
    passage_prefix: str = "passage: "
    pooling: Pooling = "mean"
    max_tokens: int = 256  # longer texts are cut
    precision: Precision = "fp32"
    threads: int = 1  # CPU threads of one forward pass; changes no vector, so it is no part of the identity

    def located(self) -> EncoderConfig:
        """With the folder's full path: the process that loads it may work in another folder."""
        folder = Path(self.model)
        return replace(self, model=str(folder.resolve())) if folder.is_dir() else self

    def identity(self) -> str:
        """Name and fingerprint of the embedder that `load` gives. Reads the weights once: 0.2 s for 240 MB.

        Raises `ModelLoadError`.
        """
        folder = local_folder(self.model)
        precision = "fp32" if self.precision == "auto" else self.precision
        recipe = (self.pooling, self.query_prefix, self.passage_prefix, str(self.max_tokens), precision)
        return f"{folder.name if Path(self.model).is_dir() else self.model}@{_fingerprint(folder, recipe)}"

    def load(self) -> BertEmbedder:
        """Takes seconds, most of them imports. Raises `ModelLoadError`."""
        return BertEmbedder(self)


class BertEmbedder:
    """A frozen encoder with mean or CLS pooling. Threads may share one instance.

    Its CPU threads are the process's: torch has one setting for all.
    """

    def __init__(self, config: EncoderConfig) -> None:
        import torch

        folder = local_folder(config.model)
        architecture = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        _check_length(config, architecture.get("max_position_embeddings"))
        torch.set_num_threads(config.threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = fast_precision(self._device.type) if config.precision == "auto" else config.precision
        self._model = _load_model(folder, architecture, getattr(torch, _DTYPES[precision]), self._device)
        self._tokenizer = _load_tokenizer(folder, config.max_tokens)
        self._pad = int(architecture.get("pad_token_id") or 0)
        self._dim = int(architecture["hidden_size"])
        self._config = config
        self._identity = config.identity()

    @property
    def identity(self) -> str:
        return self._identity

    @property
    def dim(self) -> int:
        return self._dim

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._config.query_prefix + text for text in texts])

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return self._embed([self._config.passage_prefix + text for text in texts])

    @property
    def bert(self) -> Bert | None:
        """The model where it is one whose layers can be tuned."""
        from models.bert import Bert

        return self._model if isinstance(self._model, Bert) else None

    def embed_queries_with(self, texts: Sequence[str], top: Sequence[Layer]) -> tuple[Vectors, Vectors]:
        """`embed_queries`, and the vectors (n, dim) that the model gives with `top` as its highest layers."""
        bert = self.bert
        if bert is None:
            raise ModelLoadError(f"{self._config.model!r} is no BERT, so its layers cannot be exchanged")
        vectors: Vectors = np.empty((len(texts), self._dim), dtype=np.float32)
        tuned = np.empty_like(vectors)
        for rows, ids, mask in self.batches(texts):
            with torch_inference():
                plain, changed = bert.both(ids, mask, top)
                vectors[rows], tuned[rows] = (
                    self.pool(plain, mask).cpu().numpy(),
                    self.pool(changed, mask).cpu().numpy(),
                )
        return vectors, tuned

    def batches(self, questions: Sequence[str]) -> Iterator[tuple[list[int], Any, Any]]:
        """Which rows, and their ids and mask, (n, tokens) each."""
        return self._batches([self._config.query_prefix + text for text in questions])

    def _embed(self, texts: list[str]) -> Vectors:
        vectors: Vectors = np.empty((len(texts), self._dim), dtype=np.float32)
        for rows, ids, mask in self._batches(texts):
            with torch_inference():
                vectors[rows] = self.pool(self._model(ids, mask), mask).cpu().numpy()
        return vectors

    def _batches(self, texts: list[str]) -> Iterator[tuple[list[int], Any, Any]]:
        import torch

        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        for rows in _batches([len(each) for each in ids], _PASS_TOKENS[self._device.type]):
            longest = max(len(ids[row]) for row in rows)
            padded = [ids[row] + [self._pad] * (longest - len(ids[row])) for row in rows]
            present = [[1] * len(ids[row]) + [0] * (longest - len(ids[row])) for row in rows]
            yield rows, torch.tensor(padded, device=self._device), torch.tensor(present, device=self._device)

    def pool(self, hidden: Any, mask: Any) -> Any:
        """(n, tokens, dim) hidden states to (n, dim), L2-normalised; torch's tensors."""
        import torch

        hidden = hidden.float()
        if self._config.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            pooled = (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return torch.nn.functional.normalize(pooled, dim=1)


def torch_inference() -> Any:
    import torch

    return torch.inference_mode()


def fast_precision(device: str) -> Literal["fp32", "bf16"]:
    """What "auto" stands for: bf16 on GPUs, and on CPUs that compute with it. device: torch's name."""
    return "bf16" if device != "cpu" or _cpu_flags() & {"avx512_bf16", "amx_bf16"} else "fp32"


@lru_cache(maxsize=1)
def _cpu_flags() -> frozenset[str]:
    """As Linux names what the CPU can do; empty where there is no such list."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())


def _load_model(folder: Path, architecture: Mapping[str, Any], dtype: Any, device: Any) -> Callable[[Any, Any], Any]:
    """From ids and mask, each (n, tokens), to hidden states (n, tokens, dim), all of them torch's tensors."""
    from models.bert import Bert, is_bert

    if is_bert(folder, architecture):
        return Bert(folder, architecture, dtype, device)
    from transformers import AutoModel

    options: dict[str, Any] = {"add_pooling_layer": False} if architecture["model_type"] in _HAVE_POOLER else {}
    model = AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, **options)
    model = model.to(device).eval()
    return lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state


def _load_tokenizer(folder: Path, max_tokens: int) -> Tokenizer:
    """transformers reads the same file more than once: 0.7 s of CPU against 3.2 s, for 250,000 tokens."""
    file = folder / "tokenizer.json"
    if file.is_file():
        tokenizer = Tokenizer.from_file(str(file))
    else:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def _batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Rows that go through the model together: of like length, since a batch is padded to its longest."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > max_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def local_folder(model: str) -> Path:
    """The folder of a local model, or of one fetched from the Hugging Face hub. Raises `ModelLoadError`."""
    if Path(model).is_dir():
        if not Path(model, "config.json").is_file():
            raise ModelLoadError(f"{model!r} is a folder, but there is no config.json in it: not a model")
        return Path(model).resolve()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        raise ModelLoadError(f"{model!r} is neither a folder nor a model id of the Hugging Face hub") from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ModelLoadError(
            f"{model!r} could not be fetched from the Hugging Face hub: check the name and the network, "
            "or give the path of a local folder"
        ) from error


def _check_length(config: EncoderConfig, positions: int | None) -> None:
    if positions is not None and config.max_tokens > positions:
        raise ModelLoadError(f"max_tokens is {config.max_tokens}, but {config.model!r} has only {positions} positions")


def _fingerprint(folder: Path, recipe: Sequence[str]) -> str:
    """16 hex digits of everything that changes a vector."""
    files = sorted([folder / "config.json", *folder.glob("tokenizer*.json"), *folder.glob("*.safetensors")])
    digest = hashlib.sha256(repr(tuple(recipe)).encode())
    for file in files:
        status = file.stat()
        digest.update(file.name.encode() + _digest(file, status.st_size, status.st_mtime_ns))
    return digest.hexdigest()[:16]


@lru_cache(maxsize=64)
def _digest(file: Path, size: int, changed_ns: int) -> bytes:
    """Of the content; read once for each size and time of change."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()
