"""BERT in torch alone, which is there in 2 s of CPU where transformers takes 5, most of it imports.

The same folders, weights and results, for half of the time: one product makes query, key and value, weights lie as the
CPU's matrix unit wants them, and texts lie side by side without padding. Every other architecture is left to
transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

_WEIGHTS = "model.safetensors"
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "layer_norm_eps")
_WORDS = "embeddings.word_embeddings.weight"
_ROW = 64  # tokens of several short texts side by side: more would see too much of each other, fewer leave gaps
_STEP = 16  # attention over any other number of tokens takes twice as long
Layer = Mapping[str, Tensor]  # weights by their names, with query, key and value in one
_QUERY_KEY_VALUE = ("attention.self.query", "attention.self.key", "attention.self.value")


def is_bert(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether `Bert` is what the folder holds. config: of its config.json."""
    return (
        config.get("model_type") == "bert"
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and all(name in config for name in _NEEDED)
        and (folder / _WEIGHTS).is_file()
    )


class Bert:
    """Weights by the names that transformers' BertModel has for them."""

    def __init__(self, folder: Path, config: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> None:
        stored = {name.removeprefix("bert."): weight for name, weight in load_file(folder / _WEIGHTS).items()}
        self._words = stored.pop(_WORDS).to(device)  # as it is stored: of a large table few rows are ever looked at
        weights = {name: stored[name].to(device, dtype) for name in stored if not name.endswith("position_ids")}
        layers = range(config["num_hidden_layers"])
        self._embeddings = _below("embeddings.", weights)
        self._layers = self.prepared([_fused(_below(f"encoder.layer.{number}.", weights)) for number in layers])
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config["layer_norm_eps"])

    @property
    def layers(self) -> Sequence[Layer]:
        """From the lowest to the highest, to be computed with."""
        return [{name: _plain(weight) for name, weight in layer.items()} for layer in self._layers]

    def prepared(self, layers: Sequence[Layer]) -> Sequence[Layer]:
        """The same, for `both`: nothing is learned any more, so matrices may lie as the CPU wants them."""
        return [{name: _packed(weight) for name, weight in layer.items()} for layer in layers]

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, tokens) ids, and 1 where there is one, to (n, tokens, width) hidden states, 0 where there is none."""
        page = _Page(mask)
        return page.taken_off(self._through(self._layers, page.laid_on(self.embed(ids)), page.sees))

    def both(self, ids: Tensor, mask: Tensor, top: Sequence[Layer]) -> tuple[Tensor, Tensor]:
        """What `__call__` gives, and the same with `top` in place of the highest layers; the others run once."""
        page, split = _Page(mask), len(self._layers) - len(top)
        trunk = self._through(self._layers[:split], page.laid_on(self.embed(ids)), page.sees)
        plain, changed = (self._through(layers, trunk, page.sees) for layers in (self._layers[split:], top))
        return page.taken_off(plain), page.taken_off(changed)

    def embed(self, ids: Tensor) -> Tensor:
        """(n, tokens) to what the lowest layer takes, (n, tokens, width)."""
        weights = self._embeddings
        places = weights["position_embeddings.weight"][: ids.shape[1]]
        words = functional.embedding(ids, self._words).to(places.dtype)
        return self._norm(words + places + weights["token_type_embeddings.weight"][0], weights, "LayerNorm")

    def through(self, layers: Sequence[Layer], hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden: (n, tokens, width); mask: (n, tokens)."""
        return self._through(layers, hidden, mask[:, None].bool())

    def _through(self, layers: Sequence[Layer], hidden: Tensor, sees: Tensor) -> Tensor:
        """sees: (n, tokens or 1, tokens), which tokens each one takes notice of."""
        bias = torch.zeros(sees.shape, dtype=hidden.dtype, device=hidden.device).masked_fill_(~sees, -torch.inf)[
            :, None
        ]
        for layer in layers:
            attended = _linear(self._attention(hidden, bias, layer), layer, "attention.output.dense")
            hidden = self._norm(hidden + attended, layer, "attention.output.LayerNorm")
            wide = _linear(hidden, layer, "intermediate.dense", "gelu")
            hidden = self._norm(hidden + _linear(wide, layer, "output.dense"), layer, "output.LayerNorm")
        return hidden

    def _attention(self, hidden: Tensor, bias: Tensor, layer: Layer) -> Tensor:
        n, tokens, width = hidden.shape
        parts = _linear(hidden, layer, "query_key_value").view(n, tokens, 3, self._heads, width // self._heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (n, heads, tokens, width / heads)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return attended.transpose(1, 2).reshape(n, tokens, width)

    def _norm(self, hidden: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
        width = (hidden.shape[-1],)
        return functional.layer_norm(hidden, width, weights[f"{name}.weight"], weights[f"{name}.bias"], self._eps)


class _Page:
    """Texts of one pass side by side in rows, each in one of them: what is computed for padding is nearly nothing."""

    def __init__(self, mask: Tensor) -> None:
        """mask: (n, tokens), 1 where there is a token; each text begins at 0."""
        self._n, self._tokens = mask.shape
        lengths = mask.sum(dim=1).tolist()
        self._width = -(-max(*lengths, min(sum(lengths), _ROW)) // _STEP) * _STEP
        starts, rows = _placed(lengths, self._width)
        owners = [-1] * (rows * self._width)
        places: list[int] = []
        for text, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            owners[start : start + length] = [text] * length
            places += range(start, start + length)
        self._here = mask.flatten().nonzero()[:, 0]  # where the tokens are in the texts, one text behind the other
        self._there = torch.tensor(places, device=mask.device)  # and where on the page
        owner = torch.tensor(owners, device=mask.device).view(rows, self._width)
        self.sees = owner[:, :, None] == owner[:, None, :]  # (rows, width, width)

    def laid_on(self, hidden: Tensor) -> Tensor:
        """(n, tokens, dim) to (rows, width, dim)."""
        rows = hidden.new_zeros(self.sees.shape[0] * self._width, hidden.shape[-1])
        rows[self._there] = hidden.flatten(0, 1)[self._here]
        return rows.view(-1, self._width, hidden.shape[-1])

    def taken_off(self, hidden: Tensor) -> Tensor:
        """(rows, width, dim) to (n, tokens, dim)."""
        texts = hidden.new_zeros(self._n * self._tokens, hidden.shape[-1])
        texts[self._here] = hidden.flatten(0, 1)[self._there]
        return texts.view(self._n, self._tokens, hidden.shape[-1])


def _placed(lengths: Sequence[int], width: int) -> tuple[list[int], int]:
    """Where each text starts if rows lay one behind the other, and how many rows there are. Longest first."""
    starts, used = [0] * len(lengths), list[int]()
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        row = next((row for row, taken in enumerate(used) if taken + lengths[text] <= width), len(used))
        used += [0] if row == len(used) else []
        starts[text] = row * width + used[row]
        used[row] += lengths[text]
    return starts, len(used)


def _packed(weight: Tensor) -> Tensor:
    """A matrix as oneDNN wants it, which otherwise arranges all of it anew for every product."""
    is_matrix = weight.dim() == 2 and weight.device.type == "cpu"
    return torch.ops.mkldnn._reorder_linear_weight(weight) if is_matrix and _computes(weight.dtype) else weight


def _computes(dtype: torch.dtype) -> bool:
    """Whether oneDNN does on this CPU: bf16 that it does not have, torch emulates at a tenth of the speed."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype is torch.float32 or (dtype is torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))


def _plain(weight: Tensor) -> Tensor:
    return weight.to_dense() if weight.is_mkldnn else weight


def _linear(hidden: Tensor, weights: Mapping[str, Tensor], name: str, then: Literal["none", "gelu"] = "none") -> Tensor:
    """then: what is made of each result."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    if weight.is_mkldnn:  # what torch's own compiler calls; "none": not GELU's approximation
        return torch.ops.mkldnn._linear_pointwise(hidden, weight, bias, then, [], "none")
    product = functional.linear(hidden, weight, bias)
    return functional.gelu(product) if then == "gelu" else product


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _fused(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With query, key and value in one matrix."""
    kinds = ("weight", "bias")
    fused = {f"query_key_value.{k}": torch.cat([layer[f"{name}.{k}"] for name in _QUERY_KEY_VALUE]) for k in kinds}
    return fused | {name: weight for name, weight in layer.items() if not name.startswith("attention.self.")}
