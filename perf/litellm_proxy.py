"""A LiteLLM proxy (MIT), a peer of `perf.cache_speed`: in a virtual environment of its own, with its in-memory cache.

Its exact cache as its documentation sets it up: `cache: true`, type `local`, log level ERROR. A worker has a cache of
its own. It refuses to start without a key, so each start makes one. What it caches comes from the desk itself.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from perf.provenance import ROOT

# The newest that the index has all parts of; its proxy's extras are of older versions there.
REQUIREMENTS = ("litellm[proxy]>=1.100,<=1.109.0", "litellm-proxy-extras<=0.4.110")
_HOME = ROOT / ".raydesk" / "perf" / "litellm"
_UP_TIMEOUT_S = 300.0  # it imports for half a minute on an idle machine
_STOP_TIMEOUT_S = 15.0
_PATIENT = ("--timeout_worker_healthcheck", "300")


class PeerError(RuntimeError):
    """There is no peer; the message says why."""


@dataclass(frozen=True, slots=True)
class Proxy:
    url: str
    headers: Mapping[str, str]


def installed() -> str:
    """The version; installs it when it is not there, which takes a minute. Raises `PeerError`."""
    if not (_HOME / "bin" / "litellm").exists():
        print(f"installing LiteLLM into {_HOME.relative_to(ROOT)}", file=sys.stderr, flush=True)
        _run([sys.executable, "-m", "venv", str(_HOME)])
        _run([str(_HOME / "bin" / "pip"), "install", "--quiet", *REQUIREMENTS])
    code = "from importlib.metadata import version; print(version('litellm'))"
    return _run([str(_HOME / "bin" / "python"), "-c", code]).strip()


@contextmanager
def running_proxy(desk: str, port: int, workers: int) -> Iterator[Proxy]:
    """desk: address of the server whose answers it caches. Ends with the block. Raises `PeerError`."""
    key = f"sk-{secrets.token_hex(24)}"
    model = {"model": "openai/raydesk", "api_base": f"{desk}/v1", "api_key": "none"}
    settings = {
        "model_list": [{"model_name": "raydesk", "litellm_params": model}],
        "litellm_settings": {"cache": True, "cache_params": {"type": "local"}, "telemetry": False},
    }
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder, "config.json"), Path(folder, "log")  # YAML holds JSON
        config.write_text(json.dumps(settings))
        command = [str(_HOME / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "LITELLM_MASTER_KEY": key,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would otherwise ask the internet for prices
            "LITELLM_LOG": "ERROR",
        }
        with log.open("w") as output:
            process = subprocess.Popen(
                # Without the last option uvicorn ends a worker that imports for more than 5 s, and starts it anew.
                [*command, "--num_workers", str(workers), "--telemetry", "False", *_PATIENT],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            _wait(process, port, log)
            yield Proxy(f"http://127.0.0.1:{port}/v1/chat/completions", {"authorization": f"Bearer {key}"})
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends_s = time.monotonic() + _UP_TIMEOUT_S
    while time.monotonic() < ends_s and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise PeerError(f"LiteLLM did not come up: …{log.read_text(errors='replace')[-500:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """It and its workers, which are a process group."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(_STOP_TIMEOUT_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(f"'{' '.join(command)}' failed: {done.stderr.strip()[-500:]}")
    return done.stdout
