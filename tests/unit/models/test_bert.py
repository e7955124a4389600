"""How short texts share rows. What the model makes of them is in `tests/conformance/test_embedder.py`."""

from __future__ import annotations

import random

import torch

from models.bert import _Page, _placed


def test_every_text_has_a_place_of_its_own_within_one_row() -> None:
    lengths = [random.Random(7).randint(1, 64) for _ in range(200)]
    starts, rows = _placed(lengths, 64)
    taken = [place for start, length in zip(starts, lengths, strict=True) for place in range(start, start + length)]
    assert len(set(taken)) == len(taken)
    assert max(taken) < rows * 64
    assert all(start // 64 == (start + length - 1) // 64 for start, length in zip(starts, lengths, strict=True))


def test_short_texts_leave_few_gaps() -> None:
    lengths = [random.Random(seed).randint(6, 25) for seed in range(100)]
    assert _placed(lengths, 64)[1] <= 1.1 * sum(lengths) / 64


def test_what_is_laid_on_a_page_comes_off_as_it_was_and_sees_itself_alone() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    hidden = torch.randn(3, 3, 5)
    page = _Page(mask)
    assert torch.equal(page.taken_off(page.laid_on(hidden)), hidden * mask[:, :, None])
    assert (
        page.sees.sum() - page.sees.diagonal(dim1=1, dim2=2).sum() == 3 * 2 + 0 + 2 * 1 + 10 * 9
    )  # the gap is one, too
