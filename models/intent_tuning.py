"""The highest layers of the encoder, tuned to tell a company's intents apart; the layers below stay as they are.

So one pass serves both: the trunk runs once, then the untouched layers give the vector that retrieval knows, and the
tuned ones the vector for the intent. Only low-rank changes are learned (LoRA): with some thousand examples that
takes minutes on two cores, and half a megabyte; the tuned examples that vote are 0.8 MB a thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.bert import Layer
from models.embedder import BertEmbedder, torch_inference
from models.intent_head import Changes

Floats = NDArray[np.float32]
Progress = Callable[[str], None]

_LAYERS = 4
_MATRICES = ("query_key_value", "attention.output.dense", "intermediate.dense", "output.dense")
_RANK = 16
_EPOCHS = 4
_BATCH = 32
_LEARNING_RATE = 1e-3  # of the layers
_OUTPUT_RATE = 5e-3  # of the regression above them
_WARM_UP = 0.1  # share of the steps
_LABEL_SMOOTHING = 0.1
_DROPOUT = 0.1
_SCALE = 20.0  # vectors of length 1 are standardised by their spread, which is about a twentieth


@dataclass(frozen=True, slots=True)
class Tuned:
    changes: Changes  # "layer.matrix.down" (rank, in) and "layer.matrix.up" (out, rank)
    weights: Floats  # (labels, dim), on vectors of the tuned encoder
    bias: Floats  # (labels,)


def tune(
    embedder: BertEmbedder,
    texts: Sequence[str],
    targets: NDArray[np.int_],
    n_labels: int,
    seed: int,
    progress: Progress,
) -> Tuned:
    """targets: (n,) indexes of labels."""
    bert = embedder.bert
    assert bert is not None, "only a BERT can be tuned"
    generator = torch.Generator().manual_seed(seed)
    base = bert.layers[-_LAYERS:]
    changes = _untrained(base, generator)
    dim = embedder.dim
    output = torch.zeros(n_labels, dim, requires_grad=True)
    bias = torch.zeros(n_labels, requires_grad=True)
    examples = _Trunk(embedder, texts)
    centre = torch.from_numpy(embedder.embed_queries(list(texts)[:2000]).mean(axis=0))
    steps = _EPOCHS * examples.batches_per_epoch
    learned = [*changes.values(), output, bias]
    groups = [{"params": learned[:-2], "lr": _LEARNING_RATE}, {"params": learned[-2:], "lr": _OUTPUT_RATE}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (_WARM_UP * steps), (steps - step) / ((1 - _WARM_UP) * steps))
    )
    truth = torch.from_numpy(np.asarray(targets, dtype=np.int64))
    for epoch in range(_EPOCHS):
        total = 0.0
        for rows, hidden, mask in examples.shuffled(generator):
            vectors = embedder.pool(bert.through(_merged(base, changes), hidden, mask), mask)
            keep = torch.bernoulli(torch.full(vectors.shape, 1 - _DROPOUT), generator=generator) / (1 - _DROPOUT)
            logits = _SCALE * ((vectors.cpu() - centre) * keep) @ output.T + bias
            loss = functional.cross_entropy(logits, truth[rows], label_smoothing=_LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learned, 1.0)
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        progress(f"tuning: {epoch + 1} of {_EPOCHS} rounds, loss {total / len(texts):.3f}")
    weights = _SCALE * output.detach()
    return Tuned(
        {name: change.detach().numpy().astype(np.float16) for name, change in changes.items()},
        weights.numpy().astype(np.float32),
        (bias.detach() - weights @ centre).numpy().astype(np.float32),
    )


def tuned_layers(embedder: BertEmbedder, changes: Changes) -> list[Layer]:
    """The highest layers of the embedder's model, with the changes worked in."""
    bert = embedder.bert
    assert bert is not None, "only a BERT can be tuned"
    with torch.no_grad():
        stored = {name: torch.from_numpy(each).float() for name, each in changes.items()}
        return list(bert.prepared(_merged(bert.layers[-_LAYERS:], stored)))


def _untrained(base: Sequence[Layer], generator: torch.Generator) -> dict[str, Tensor]:
    changes = {}
    for number, layer in enumerate(base):
        for matrix in _MATRICES:
            out, into = layer[f"{matrix}.weight"].shape
            down = torch.randn(_RANK, into, generator=generator) / into**0.5
            changes[f"{number}.{matrix}.down"] = down.requires_grad_()
            changes[f"{number}.{matrix}.up"] = torch.zeros(out, _RANK, requires_grad=True)
    return changes


def _merged(base: Sequence[Layer], changes: dict[str, Tensor]) -> list[Layer]:
    layers: list[Layer] = []
    for number, layer in enumerate(base):
        changed = dict(layer)
        for matrix in _MATRICES:
            weight = layer[f"{matrix}.weight"]
            change = changes[f"{number}.{matrix}.up"] @ changes[f"{number}.{matrix}.down"]
            changed[f"{matrix}.weight"] = weight + change.to(weight.device, weight.dtype)
        layers.append(changed)
    return layers


class _Trunk:
    """What the layers that are not tuned make of each example: computed once, for all rounds."""

    def __init__(self, embedder: BertEmbedder, texts: Sequence[str]) -> None:
        bert = embedder.bert
        assert bert is not None, "only a BERT can be tuned"
        self._hidden: list[Any] = [None] * len(texts)  # (tokens, dim) each
        trunk = bert.prepared(bert.layers[:-_LAYERS])
        for rows, ids, mask in embedder.batches(texts):
            with torch_inference():
                states = bert.through(trunk, bert.embed(ids), mask)
            for row, state, length in zip(rows, states, mask.sum(dim=1).tolist(), strict=True):
                self._hidden[row] = state[:length].clone()
        self._lengths = torch.tensor([len(each) for each in self._hidden])
        self.batches_per_epoch = -(-len(texts) // _BATCH)

    def shuffled(self, generator: torch.Generator) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Batches of like length, so that little is padded, in random order."""
        order = torch.randperm(len(self._hidden), generator=generator)
        like = torch.cat([part[self._lengths[part].argsort()] for part in order.split(_BATCH * 16)])
        batches = [part.tolist() for part in like.split(_BATCH)]
        chosen = torch.randperm(len(batches), generator=generator).tolist()
        for number in chosen:
            yield batches[number], *self._padded(batches[number])

    def _padded(self, rows: list[int]) -> tuple[Tensor, Tensor]:
        hidden = torch.nn.utils.rnn.pad_sequence([self._hidden[row] for row in rows], batch_first=True)
        lengths = self._lengths[rows]
        mask = (torch.arange(hidden.shape[1])[None] < lengths[:, None]).long()
        return hidden, mask.to(hidden.device)
