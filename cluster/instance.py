"""One running Raydesk: where its state lies, who holds it, and what others may know about it.

The launcher holds a lock on a file as long as it lives. The kernel drops it even after `kill -9`, so nobody ever has
to guess whether a pid file is stale. Ray and Valkey need short paths for their sockets: those lie in /tmp.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from cluster.processes import ProcessId, descendants, marked_with

# Set in every process that the launcher starts, and inherited by theirs: tells our processes from anyone else's.
MARKER = "RAYDESK_INSTANCE_ID"
_MAX_TMP_LENGTH = 8  # a socket of Serve's HAProxy adds 89 characters, and HAProxy allows 97


class InstanceError(RuntimeError):
    """The state folder cannot be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class InstanceState:
    """What `raydesk status` and `raydesk stop` read."""

    launcher: ProcessId
    url: str
    ready: bool
    ray_address: str | None = None
    settings_file: str = "cluster/local.yaml"
    app_name: str = "raydesk"

    @classmethod
    def parse(cls, text: str) -> InstanceState:
        """Of another release's file too, after an update: what it does not know is left out."""
        content = {name: value for name, value in json.loads(text).items() if name in cls.__dataclass_fields__}
        return cls(**content | {"launcher": ProcessId(**content["launcher"])})


class Instance:
    """The state folder (`.raydesk`) of one checkout, and the short folder for sockets that belongs to it."""

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        owner = f"{os.getuid()}:{self.state}"
        self.id = hashlib.sha256(owner.encode()).hexdigest()[:10]
        self.run = self.state / "run"
        self.logs = self.state / "logs"
        self.tmp = _short_tmp() / f"raydesk-{self.id}"
        self.token_file = self.run / "ray-token"
        self._state_file = self.run / "instance.json"
        self._processes_file = self.run / "processes.json"
        self._lock: IO[str] | None = None

    def create_folders(self) -> None:
        for folder in (self.run, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.tmp.mkdir(mode=0o700, exist_ok=True)
        # /tmp is everyone's: refuse a folder that somebody else has put there before us.
        found = self.tmp.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise InstanceError(f"{self.tmp} is not a folder that only you can enter: remove it and start again")

    def acquire(self) -> bool:
        """Takes the instance for this process until it ends; False when another one has it."""
        lock = (self.run / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def release(self) -> None:
        self._state_file.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def is_held(self) -> bool:
        """Whether a launcher is at work."""
        try:
            lock = (self.run / "lock").open("r")
        except FileNotFoundError:
            return False
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def write(self, state: InstanceState) -> None:
        _replace(self._state_file, json.dumps(asdict(state), indent=2))

    def read(self) -> InstanceState | None:
        """The state of the running launcher; None when there is none, or it has only begun."""
        if not self.is_held():
            return None
        try:
            state = InstanceState.parse(self._state_file.read_text())
        except FileNotFoundError:
            return None
        return state if state.launcher.is_alive() else None

    def note_processes(self) -> None:
        """Writes down what runs below this process, for whoever has to end it if we are killed."""
        known = {process for process in self._noted() if process.is_alive()}
        now = known.union(descendants(os.getpid()))
        if now != known or not self._processes_file.exists():
            _replace(self._processes_file, json.dumps([asdict(process) for process in now]))

    def processes(self) -> list[ProcessId]:
        """What this instance has started and is alive: marked, or written down."""
        noted = {process for process in self._noted() if process.is_alive()}
        return list(noted.union(marked_with(MARKER, self.id)))

    def _noted(self) -> list[ProcessId]:
        try:
            return [ProcessId(**entry) for entry in json.loads(self._processes_file.read_text())]
        except FileNotFoundError:
            return []


def _replace(file: Path, text: str) -> None:
    """So that nobody ever reads half of it."""
    scratch = file.with_suffix(".new")
    scratch.write_text(text + "\n")
    scratch.replace(file)


def _short_tmp() -> Path:
    chosen = Path(tempfile.gettempdir())
    return chosen if len(str(chosen)) <= _MAX_TMP_LENGTH else Path("/tmp")  # noqa: S108  (owner and mode are checked)
