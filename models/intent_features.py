"""What a question is written with: its words and their pieces, hashed. Beside the encoder's view of what it means.

Names, products and turns of phrase that decide between two intents are often invisible in an embedding, and a typo
leaves most pieces of a word whole. Chinese needs no word boundaries for it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

SPELLING_DIM = 2048  # columns; pieces that share one get opposite signs as often as not, so they cancel out
_BUCKETS = 2**18  # of pieces, for how rare each is
_LONGEST = 4  # characters of a piece
_MAX_CHARS = 500  # of a question that are looked at
_WORD = re.compile(r"\w+|[^\w\s]")
_DIGIT = re.compile(r"\d")

Floats = NDArray[np.float32]
Pieces = Counter[int]  # bucket to how often a question has it


def pieces(text: str) -> Pieces:
    """One to four characters of a word, and two words side by side."""
    folded = _DIGIT.sub("0", unicodedata.normalize("NFKC", text[:_MAX_CHARS]).casefold())
    words = _WORD.findall(folded)
    found = [f"{one}  {other}" for one, other in pairwise(words)]
    for word in words:
        edged = f" {word} "
        found += [edged[i : i + size] for size in range(1, _LONGEST + 1) for i in range(len(edged) - size + 1)]
    return Counter([crc32(piece.encode("utf-8", "replace")) % _BUCKETS for piece in found])


def rarities(questions: Sequence[Pieces]) -> NDArray[np.float16]:
    """(buckets,) inverse document frequency: how much a piece tells."""
    having = np.zeros(_BUCKETS)
    for each in questions:
        having[list(each)] += 1
    return (np.log((1 + len(questions)) / (1 + having)) + 1).astype(np.float16)


def spelling(questions: Sequence[Pieces], rarity: NDArray[np.float16]) -> Floats:
    """(n, SPELLING_DIM), each row of length 1, or 0 where nothing is written."""
    rows = np.zeros((len(questions), SPELLING_DIM), dtype=np.float32)
    for row, question in zip(rows, questions, strict=True):
        buckets = np.fromiter(question, dtype=np.int64, count=len(question))
        often = np.array([1 + log(count) for count in question.values()], dtype=np.float32)
        mixed = (buckets * 2654435761 >> 9) & 0xFFFF  # 16 bits that look random: a column, and a sign
        signs = np.where(mixed >> 15, 1.0, -1.0)
        np.add.at(row, mixed % SPELLING_DIM, often * rarity[buckets] * signs)
        row /= float(np.linalg.norm(row)) or 1.0
    return rows
