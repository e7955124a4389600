"""Reads files in a child process with limits on time, memory and output: a hostile or broken file ends only the child.

Parent and child exchange lines of JSON: the file there; back a line for each document or reject, and a last one. No
pickles: what the child says is as little trusted as the file. Run as a module, this file is the child.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ingestion import ocr
from ingestion.document import Document, Parsed, Reject, document_from_json, document_to_json
from ingestion.errors import ParseError
from ingestion.sources import SourceFile

# All that the child needs: credentials are not among it.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ")
# Each thread of a library takes address space, which is what is limited, and for one file at a time none is of use.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
_DEATH_S = 5.0  # from the end of its output to its own
_TIMED_OUT = (-signal.SIGALRM, -signal.SIGXCPU)


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one file."""

    time_s: int = 120  # for each document or page of it
    total_s: int = 1800
    memory_bytes: int = 2_000_000_000  # address space of the child
    output_bytes: int = 500_000_000  # of what is read from it, as JSON


class _ChildDiedError(Exception):
    """Its status, as `Popen.returncode` gives it."""


class IsolatedParser:
    """Use as a context manager. One child reads file after file; after a crash the next file gets a new one."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._child: subprocess.Popen[str] | None = None
        self._has_read = False  # this child, another file

    def __enter__(self) -> IsolatedParser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_child()

    def parse(self, file: SourceFile) -> Parsed:
        """All of a file at once."""
        parsed = Parsed()
        for found in self.read(file):
            if isinstance(found, Document):
                parsed.documents.append(found)
            else:
                parsed.rejects.append(found)
        return parsed

    def read(self, file: SourceFile) -> Iterator[Document | Reject]:
        """What a file holds, one after another; a last reject says why it could not be read to its end."""
        if file.reason:
            yield Reject(file.name, file.reason)
            return
        is_second_chance = not self._has_read
        given = 0
        try:
            with closing(self._answers(file)) as answers:
                for found in answers:
                    given += 1
                    yield found
        except ParseError as error:
            yield Reject(file.name, str(error))
        except _ChildDiedError as death:
            (status,) = death.args
            if given or is_second_chance or status in _TIMED_OUT:
                yield Reject(file.name, self._cause_of_death(status))
            else:  # a file before it may have left the child unsound
                yield from self.read(file)

    def _answers(self, file: SourceFile) -> Generator[Document | Reject, None, None]:
        child = self._child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        is_done, left = False, self._limits.output_bytes
        try:
            asked = {"path": str(file.path), "name": file.name, "kind": file.kind, "url": file.url}
            child.stdin.write(json.dumps(asked) + "\n")
            child.stdin.flush()
            while not is_done:
                line = child.stdout.readline(left)
                left -= len(line)
                if left <= 0:
                    raise ParseError(_too_much(self._limits))
                if not line.endswith("\n"):
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(_DEATH_S)  # its own death says why
                    raise _ChildDiedError(self._end_child())
                answer: dict[str, Any] = json.loads(line)
                is_done = "done" in answer
                if not is_done:
                    yield Reject(**answer["reject"]) if "reject" in answer else document_from_json(answer["document"])
            self._has_read = True
            if answer["done"] == "unsound":
                self._end_child()
        except BrokenPipeError as error:
            raise _ChildDiedError(self._end_child()) from error
        finally:
            if not is_done:  # nobody wants the rest
                self._end_child()

    def _start(self) -> subprocess.Popen[str]:
        self._has_read = False
        limits = self._limits
        numbers = (limits.time_s, limits.total_s, limits.memory_bytes, limits.output_bytes)
        folder = str(Path(__file__).parents[1])  # where our packages lie: a Ray worker has another working folder
        paths = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            [sys.executable, "-m", __name__, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            | _ONE_THREAD
            | {"PYTHONPATH": paths},
        )

    def _end_child(self) -> int:
        """Its status: that of its own death, if it died before."""
        child, self._child, self._has_read = self._child, None, False
        if child is None:
            return 0
        child.kill()
        try:
            with child:  # closes the pipes and waits
                pass
        except BrokenPipeError:  # what it was still to be told
            child.wait()
        return child.returncode

    def _cause_of_death(self, status: int) -> str:
        if status in _TIMED_OUT:
            return f"took longer than {self._limits.time_s} s to read: split it, or give it more (--file-time-s)"
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        memory_mb = self._limits.memory_bytes // 1_000_000
        return (
            f"crashed its reader ({how}): it is damaged, or needs more than the {memory_mb} MB of memory that it may "
            "have; save it again, or split it"
        )


def _too_much(limits: Limits) -> str:
    return f"gives more than {limits.output_bytes // 1_000_000} MB of text: split it"


# --- the child ---


class _Alarm:
    """Ends this process when a document takes too long, or the file. The parent's own slowness is not counted."""

    def __init__(self, time_s: float, total_s: float) -> None:
        self._time_s = time_s
        self._left_s = total_s
        self._since = 0.0

    def start(self) -> None:
        self._since = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, max(0.001, min(self._time_s, self._left_s)))  # nobody handles its signal

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._left_s -= time.monotonic() - self._since

    def renew(self) -> None:
        self.stop()
        self.start()


def _main(arguments: Sequence[str]) -> None:
    limits = Limits(*map(int, arguments))
    memory_bytes = limits.memory_bytes + (ocr.MEMORY_BYTES if ocr.is_installed() else 0)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with _private_stdout() as answers:
        for line in sys.stdin:
            file = json.loads(line)
            is_sound = True
            for answer in _read(file, limits):
                is_sound = is_sound and answer.pop("is_sound", True)
                answers.write(json.dumps(answer) + "\n")
            answers.write(json.dumps({"done": "sound" if is_sound else "unsound"}) + "\n")
            answers.flush()


def _read(file: dict[str, str], limits: Limits) -> Iterator[dict[str, Any]]:
    from ingestion.parse import read

    alarm = _Alarm(limits.time_s, limits.total_s)
    reason, is_sound = "", True
    alarm.start()
    try:
        for found in read(Path(file["path"]), file["name"], file["kind"], file["url"], alarm.renew):
            alarm.stop()
            if isinstance(found, Reject):
                yield {"reject": asdict(found)}
            else:
                yield {"document": document_to_json(found)}
            alarm.start()
    except ParseError as error:
        reason = str(error)
    except MemoryError:
        memory_mb = limits.memory_bytes // 1_000_000
        reason = f"needs more than {memory_mb} MB of memory to read: split it, or give it more (--file-memory-mb)"
        is_sound = False
    except RecursionError:
        reason = "is nested too deep to be read: simplify it"
    except Exception as error:  # a parser's bug is that file's fate, and no other's; the report says which it was
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        reason = f"cannot be read ({what}): save it again, or in another format"
    alarm.stop()
    if reason:
        yield {"reject": {"source": file["name"], "reason": reason}, "is_sound": is_sound}


@contextmanager
def _private_stdout() -> Iterator[TextIO]:
    """The pipe to the parent for us alone: what a library prints goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        yield answers


if __name__ == "__main__":
    _main(sys.argv[1:])
