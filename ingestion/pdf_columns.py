"""Two columns of text on a page, told by where its words stand. Pure.

Labels with values beside them are no columns: the lines of their left side are short, and belong to those of the right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_MIDDLE = (0.35, 0.65)  # of the text's width, where the gap between columns is looked for
_STEP = 2.0  # points
_LEAST_LINES = 6  # side by side
_LEAST_SHARE = 0.5  # of all lines
_LEAST_FILL = 0.65  # of a column's width, by most of its lines
_LEAST_GAP = 9.0  # points; twice the blank between large words
_ALIGNED = 4.0  # points, within which lines of the right column begin


@dataclass(frozen=True, slots=True)
class Word:
    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Columns:
    """A page in bands from the top to the bottom: whole lines in even ones, two columns in odd ones."""

    gap: float  # x between the columns
    whole_lines: tuple[tuple[float, float], ...]  # (top, bottom) of the bands of lines over both columns, in order

    def parts(self) -> Iterator[tuple[int, int]]:
        """(band, column) in reading order."""
        for band in range(2 * len(self.whole_lines) + 1):
            yield (band, 0)
            if band % 2 == 0:
                yield (band, 1)

    def part_of(self, x: float, y: float, left: float | None = None, right: float | None = None) -> tuple[int, int]:
        """Of a point, or of what reaches from left to right around it."""
        for number, (top, bottom) in enumerate(self.whole_lines):
            if y < top:
                return self._column(2 * number, x, left, right)
            if y <= bottom:
                return 2 * number + 1, 0
        return self._column(2 * len(self.whole_lines), x, left, right)

    def _column(self, band: int, x: float, left: float | None, right: float | None) -> tuple[int, int]:
        is_over_both = left is not None and right is not None and left < self.gap < right
        return band, 0 if is_over_both or x < self.gap else 1


def find_columns(words: Sequence[Word]) -> Columns | None:
    lines = _lines(words)
    if len(lines) < _LEAST_LINES:
        return None
    left, right = min(word.left for word in words), max(word.right for word in words)
    places = [left + (right - left) * share for share in _MIDDLE]
    gap = _middle_of_gap(words, _steps(*places))
    beside = [line for line in lines if _is_beside(line, gap)]
    whole = [line for line in lines if _is_over(line, gap) and not _is_beside(line, gap)]
    if len(beside) < max(_LEAST_LINES, _LEAST_SHARE * len(lines)) or not _are_columns(beside, gap, left, right):
        return None
    return Columns(gap, tuple((min(w.top for w in line), max(w.bottom for w in line)) for line in whole))


def _middle_of_gap(words: Sequence[Word], places: Sequence[float]) -> float:
    crossed = [sum(word.left < x < word.right for word in words) for x in places]
    least = [x for x, count in zip(places, crossed, strict=True) if count == min(crossed)]
    return least[len(least) // 2]


def _lines(words: Sequence[Word]) -> list[list[Word]]:
    """Words whose middles are at one height."""
    lines: list[list[Word]] = []
    for word in sorted(words, key=lambda word: (word.top + word.bottom) / 2):
        middle = (word.top + word.bottom) / 2
        if lines and lines[-1][0].top < middle < lines[-1][0].bottom:
            lines[-1].append(word)
        else:
            lines.append([word])
    return lines


def _steps(start: float, end: float) -> list[float]:
    return [start + _STEP * number for number in range(max(1, int((end - start) / _STEP)))]


def _is_beside(line: Sequence[Word], gap: float) -> bool:
    """Whether two lines stand beside each other here, rather than words of one."""
    end = max((word.right for word in line if word.left < gap), default=None)
    begin = min((word.left for word in line if word.left >= gap), default=None)
    return end is not None and begin is not None and begin - end >= _LEAST_GAP


def _is_over(line: Sequence[Word], gap: float) -> bool:
    return min(word.left for word in line) < gap < max(word.right for word in line)


def _are_columns(beside: Sequence[Sequence[Word]], gap: float, left: float, right: float) -> bool:
    begins = [min(word.left for word in line if word.left >= gap) for line in beside]
    ends = [max(word.right for word in line if word.left < gap) for line in beside]
    begin = min(begins)
    full_left = sum(end - left >= _LEAST_FILL * (gap - left) for end in ends)
    full_right = sum(
        max(word.right for word in line) - start >= _LEAST_FILL * (right - begin)
        for line, start in zip(beside, begins, strict=True)
    )
    aligned = sum(start - begin <= _ALIGNED for start in begins)
    return min(full_left, full_right, aligned) > len(beside) / 2
