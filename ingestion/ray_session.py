"""The Ray that a job runs on: the one that is there, or a small one of its own for as long as the job takes."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

_OBJECT_STORE_BYTES = 256 * 1024**2  # texts and vectors in flight; Ray would take a third of the memory
_SHORT = Path("/tmp")  # noqa: S108 - unix sockets have paths of at most 107 characters; TMPDIR may be long


class RaySession:
    """Use as a context manager. Ray takes seconds to import and to start, so that is done when it is first needed."""

    def __init__(self, concurrency: int, show_bars: bool = False) -> None:
        """concurrency: embedders at work at once. show_bars: Ray Data's own, on stderr."""
        self._concurrency = concurrency
        self._show_bars = show_bars
        self._stack = ExitStack()
        self._started = False

    def __enter__(self) -> RaySession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        if not self._started:
            self._stack.enter_context(ray_session(self._concurrency))
            self._stack.enter_context(quiet_data(self._show_bars))
            self._started = True


@contextmanager
def ray_session(concurrency: int) -> Iterator[None]:
    """Joins the Ray of this process, then that of RAY_ADDRESS; ends only what it began."""
    import ray

    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()
        return
    folder = tempfile.mkdtemp(prefix="rd-", dir=_SHORT if _SHORT.is_dir() else None)
    try:
        ray.init(
            address="local",
            # Shares for scheduling, not cores: reading goes on while the embedders hold theirs.
            num_cpus=max(os.cpu_count() or 1, concurrency + 1),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)  # its processes may still be writing their last lines of log


@contextmanager
def quiet_data(show_bars: bool) -> Iterator[None]:
    """Ray Data's own bars and plans only where somebody sits; our progress is told by stages."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    options = context.execution_options
    before = context.enable_progress_bars, context.print_on_execution_start, options.preserve_order, logger.level
    context.enable_progress_bars = show_bars
    context.print_on_execution_start = False
    options.preserve_order = True  # so that a run over the same files gives the same version
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start, options.preserve_order, level = before
        logger.setLevel(level)
