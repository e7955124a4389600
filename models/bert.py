"""BERT in torch alone, which is there in 2 s of CPU where transformers takes 5, most of it imports.

The same folders, weights and results; a single question is a fifth faster, since one product makes query, key and
value. Every other architecture is left to transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

_WEIGHTS = "model.safetensors"
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "layer_norm_eps")
_WORDS = "embeddings.word_embeddings.weight"
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
        self._layers = [_fused(_below(f"encoder.layer.{number}.", weights)) for number in layers]
        self._heads = int(config["num_attention_heads"])
        self._eps = float(config["layer_norm_eps"])

    @property
    def layers(self) -> Sequence[Layer]:
        """From the lowest to the highest."""
        return self._layers

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(n, tokens) ids, and 1 where there is one, to (n, tokens, width) hidden states."""
        return self.through(self._layers, self.embed(ids), mask)

    def both(self, ids: Tensor, mask: Tensor, top: Sequence[Layer]) -> tuple[Tensor, Tensor]:
        """What `__call__` gives, and the same with `top` in place of the highest layers; the others run once."""
        split = len(self._layers) - len(top)
        trunk = self.through(self._layers[:split], self.embed(ids), mask)
        return self.through(self._layers[split:], trunk, mask), self.through(top, trunk, mask)

    def embed(self, ids: Tensor) -> Tensor:
        """(n, tokens) to what the lowest layer takes, (n, tokens, width)."""
        weights = self._embeddings
        places = weights["position_embeddings.weight"][: ids.shape[1]]
        words = functional.embedding(ids, self._words).to(places.dtype)
        return self._norm(words + places + weights["token_type_embeddings.weight"][0], weights, "LayerNorm")

    def through(self, layers: Sequence[Layer], hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden: (n, tokens, width); mask: (n, tokens)."""
        visible = mask[:, None, None, :].bool()  # for every head and token
        for layer in layers:
            attended = _linear(self._attention(hidden, visible, layer), layer, "attention.output.dense")
            hidden = self._norm(hidden + attended, layer, "attention.output.LayerNorm")
            wide = functional.gelu(_linear(hidden, layer, "intermediate.dense"))
            hidden = self._norm(hidden + _linear(wide, layer, "output.dense"), layer, "output.LayerNorm")
        return hidden

    def _attention(self, hidden: Tensor, visible: Tensor, layer: Layer) -> Tensor:
        n, tokens, width = hidden.shape
        parts = _linear(hidden, layer, "query_key_value").view(n, tokens, 3, self._heads, width // self._heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (n, heads, tokens, width / heads)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return attended.transpose(1, 2).reshape(n, tokens, width)

    def _norm(self, hidden: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
        width = (hidden.shape[-1],)
        return functional.layer_norm(hidden, width, weights[f"{name}.weight"], weights[f"{name}.bias"], self._eps)


def _linear(hidden: Tensor, weights: Mapping[str, Tensor], name: str) -> Tensor:
    return functional.linear(hidden, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _below(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _fused(layer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With query, key and value in one matrix."""
    kinds = ("weight", "bias")
    fused = {f"query_key_value.{k}": torch.cat([layer[f"{name}.{k}"] for name in _QUERY_KEY_VALUE]) for k in kinds}
    return fused | {name: weight for name, weight in layer.items() if not name.startswith("attention.self.")}
