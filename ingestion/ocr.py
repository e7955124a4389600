"""Scanned pages to lines of text, by the models inside rapidocr's wheel: an extra, for it brings 150 MB along."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

EXTRA = "raydesk[ocr]"
MEMORY_BYTES = 1_500_000_000  # of address space, beside what reading takes
_RESOLUTION_DPI = 200
_MAX_PIXELS = 16_000_000  # a page may claim to be as large as a house: two of A3 at this resolution
_LEAST_SCORE = 0.6  # below, it is a stain or a drawing


@dataclass(frozen=True, slots=True)
class OcrLine:
    """In points, from the page's upper left corner."""

    text: str
    left: float
    top: float
    bottom: float


def is_installed() -> bool:
    return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None


def recognise(page: Any) -> list[OcrLine]:
    """Of a page of pdfplumber, in reading order. Five seconds a page on one core."""
    import numpy as np

    width, height = float(page.width), float(page.height)
    dpi = min(_RESOLUTION_DPI, 72 * (_MAX_PIXELS / (width * height)) ** 0.5)
    picture = np.array(page.to_image(resolution=dpi).original.convert("RGB"))
    found = _engine()(picture)
    lines = [
        OcrLine(text, *(float(value) * 72 / dpi for value in (box[:, 0].min(), box[:, 1].min(), box[:, 1].max())))
        for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
        if score >= _LEAST_SCORE
    ] if found.txts else []  # fmt: skip
    return sorted(lines, key=lambda line: (line.top, line.left))


@cache
def _engine() -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 1})
