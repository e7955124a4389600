"""What the launcher shows: one line for each thing done, a running clock for the thing being done.

On a terminal the current line is rewritten in place; elsewhere (a log, CI) a line is written now and then.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_QUIET_S = 2.0  # what takes less needs no clock
_REPEAT_S = 15.0  # between lines where they cannot be rewritten
_CLEAR = "\r\033[K"


class Console:
    """Threads may share one. `phases` holds how long each step took, seconds."""

    def __init__(self, log: Path | None = None, verbose: bool = False, out: TextIO | None = None) -> None:
        self.phases: dict[str, float] = {}
        self.verbose = verbose
        self._out = out or sys.stdout
        self._log = log
        self._rewrites = self._out.isatty()
        self._lock = threading.Lock()
        self._begin = time.monotonic()

    def say(self, text: str = "") -> None:
        self._write(text)
        self.record(text)

    def detail(self, text: str) -> None:
        """For the log, and for those who asked to see everything."""
        if self.verbose:
            self._write(text)
        self.record(text)

    @contextmanager
    def step(self, name: str, *, show: bool = True) -> Iterator[Step]:
        """Times what happens inside; shows a clock once it takes longer than two seconds."""
        begin = time.monotonic()
        step = Step(name)
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(step, begin, done), daemon=True)
        if show:
            ticker.start()
        try:
            yield step
        finally:
            done.set()
            if show:
                ticker.join()
            self.phases[name] = time.monotonic() - begin
        took_s = self.phases[name]
        finished = f"  {name}: {took_s:.1f} s"
        if show and (took_s >= _QUIET_S or self.verbose):
            self._write(finished)
        self.record(f"{finished} (at {time.monotonic() - self._begin:.1f} s)")

    def _tick(self, step: Step, begin: float, done: threading.Event) -> None:
        if done.wait(_QUIET_S):
            return
        while True:
            text = f"  {step.text} … {time.monotonic() - begin:.0f} s"
            with self._lock:
                self._out.write(f"{_CLEAR}{text}" if self._rewrites else f"{text}\n")
                self._out.flush()
            if done.wait(0.5 if self._rewrites else _REPEAT_S):
                return

    def _write(self, text: str) -> None:
        with self._lock:
            self._out.write(f"{_CLEAR if self._rewrites else ''}{text}\n")
            self._out.flush()

    def record(self, text: str) -> None:
        """For the log alone."""
        if self._log is not None:
            with self._lock, self._log.open("a") as log:
                log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


class Step:
    """What is being done now; its `detail` may change while it runs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.detail = ""

    @property
    def text(self) -> str:
        return f"{self._name}: {self.detail}" if self.detail else self._name
