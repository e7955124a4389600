"""Ids that nobody can guess, many at a time."""

from __future__ import annotations

import os
from collections import deque

_AT_ONCE = 256


class RandomIds:
    """To be called for the next one, by one thread.

    Each question to the kernel lets go of Python's lock, and waits for it again: 5 % of what an exact answer took.
    """

    def __init__(self, length_bytes: int) -> None:
        self._length = length_bytes
        self._ready: deque[str] = deque()

    def __call__(self) -> str:
        """2 * length_bytes hexadecimal digits."""
        if not self._ready:
            drawn = os.urandom(_AT_ONCE * self._length).hex()
            self._ready.extend(drawn[at : at + 2 * self._length] for at in range(0, len(drawn), 2 * self._length))
        return self._ready.popleft()
