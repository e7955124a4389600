"""Reads files in a child process with limits on its time and memory: a hostile or broken file ends only the child.

Parent and child exchange lines of JSON: {"path", "source"} there, {"documents", "rejects"} back. No pickles: what the
child says is as little trusted as the file. Run as a module, this file is the child.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ingestion.document import Parsed, Reject, document_from_json, document_to_json
from ingestion.errors import ParseError
from ingestion.sources import SourceFile


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one file."""

    time_s: int = 120
    memory_bytes: int = 2_000_000_000  # address space of the child


class IsolatedParser:
    """Use as a context manager. One child reads file after file; after a crash the next file gets a new one."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> IsolatedParser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.kill()
            self._reap(self._child)

    def parse(self, file: SourceFile) -> Parsed:
        child = self._child = self._child or self._start()
        answer = self._ask(child, file)
        if answer.endswith("\n"):
            return _parsed(json.loads(answer))
        self._child = None
        return Parsed(rejects=[Reject(file.name, self._cause_of_death(self._reap(child)))])

    def _ask(self, child: subprocess.Popen[str], file: SourceFile) -> str:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps({"path": str(file.path), "source": file.name}) + "\n")
            child.stdin.flush()
        except BrokenPipeError:
            return ""  # it died between two files; what it says about this one is how it died
        return child.stdout.readline()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", __name__, str(self._limits.time_s), str(self._limits.memory_bytes)]
        folder = str(Path(__file__).parents[1])  # where our packages lie: a Ray worker has another working folder
        paths = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": paths},
        )

    def _reap(self, child: subprocess.Popen[str]) -> int:
        with child:  # closes the pipes and waits
            pass
        return child.returncode

    def _cause_of_death(self, status: int) -> str:
        if status in (-signal.SIGALRM, -signal.SIGXCPU):
            return f"took longer than {self._limits.time_s} s to read"
        if status < 0:
            return f"crashed its reader ({signal.Signals(-status).name})"
        return f"crashed its reader (status {status})"


def _parsed(answer: dict[str, Any]) -> Parsed:
    documents = [document_from_json(text) for text in answer["documents"]]
    return Parsed(documents, [Reject(**reject) for reject in answer["rejects"]])


# --- the child ---


def _main(arguments: Sequence[str]) -> None:
    time_s, memory_bytes = map(int, arguments)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with _private_stdout() as answers:
        for line in sys.stdin:
            signal.alarm(time_s)  # nobody handles it: the kernel ends us, whatever loop we are in
            file = json.loads(line)
            answers.write(_answer(Path(file["path"]), file["source"]) + "\n")
            answers.flush()
            signal.alarm(0)


def _answer(path: Path, source: str) -> str:
    from ingestion.parse import parse

    try:
        return _as_json(parse(path, source))
    except ParseError as error:
        reason = str(error)
    except MemoryError:
        reason = "needs more memory to read than it may have"
    except Exception as error:  # a parser's bug is that file's fate, and no other's; the report says which it was
        reason = f"cannot be read ({type(error).__name__}: {error})"
    return _as_json(Parsed(rejects=[Reject(source, reason)]))


def _as_json(parsed: Parsed) -> str:
    documents = [document_to_json(document) for document in parsed.documents]
    return json.dumps({"documents": documents, "rejects": [asdict(reject) for reject in parsed.rejects]})


@contextmanager
def _private_stdout() -> Iterator[TextIO]:
    """The pipe to the parent for us alone: what a library prints goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        yield answers


if __name__ == "__main__":
    _main(sys.argv[1:])
