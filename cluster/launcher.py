"""`raydesk serve`, from top to bottom: checks, preparations beside the start of Ray, the application, the watch.

Everything that is started here is stopped here, and nothing else: each process carries the instance's mark. Whatever
is slow to import stays out of this module, and out of this process where it can.
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cluster import environment, ports, processes
from cluster.background import Background
from cluster.checks import StartError, check_machine
from cluster.children import Children
from cluster.console import Console
from cluster.instance import MARKER, Instance, InstanceError, InstanceState
from cluster.preparation import Preparation
from cluster.processes import ProcessId
from cluster.readiness import Readiness, ask
from cluster.tiers import TierStarter
from cluster.valkey import Valkey
from deployments.settings import AppSettings, CacheSettings, SettingsError, load_settings

OBJECT_STORE_BYTES = 200 * 10**6  # requests are small; Ray would take 30% of the memory
READY_TIMEOUT_S = 180.0
_POLL_INTERVAL_S = 0.1
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WATCH_INTERVAL_S = 1.0
_SERVE_STOP_S = 12.0  # a little more than the ingress's own time for its last turns
_RAY_STOP_S = 8.0
_SWEEP_GRACE_S = 3.0
_KEPT_RAY_SESSIONS = 3  # folders of logs of earlier starts


@dataclass(frozen=True, slots=True)
class ServeOptions:
    settings_file: Path
    port: int = 8000
    state: Path = Path(".raydesk")
    sample: bool = False
    check_memory: bool = True
    verbose: bool = False


class _Stopped(BaseException):
    """Someone asked for the end, with Ctrl-C or SIGTERM."""


def serve(options: ServeOptions) -> int:
    """Runs until it is told to stop. Returns the exit status."""
    instance = Instance(options.state)
    try:
        instance.create_folders()
    except (InstanceError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if not instance.acquire():
        print(_already_running(instance), file=sys.stderr)
        return 1
    # A stdout of the console's own: Ray prints what it likes, and that goes to a log.
    shown = os.fdopen(os.dup(1), "w")
    console = Console(instance.logs / "launcher.log", options.verbose, shown)
    stop = _StopSignals()
    launcher = Launcher(options, instance, console, stop)
    try:
        with stop:
            launcher.run()
    except _Stopped:
        return 0
    except (StartError, SettingsError) as error:
        console.say(f"\n{error}\n")
        return 1
    except Exception as error:
        if stop.asked:  # a signal inside compiled code comes out as SystemError and the like
            return 0
        # The user is told in a line, and whoever looks for the fault finds everything.
        console.record(traceback.format_exc())
        console.say(f"\n{_short(error)}\n  The whole story: {_relative(instance.logs)}/launcher.log\n")
        return 1
    finally:
        with _signals_wait(shown.fileno()):
            launcher.stop()
            instance.release()
    return 0


def _already_running(instance: Instance) -> str:
    state = instance.read()
    where = f" at {state.url}" if state else ""
    return f"Raydesk is running already in this folder{where}. 'make stop' (raydesk stop) ends it."


class Launcher:
    """One start, from nothing to the watch."""

    def __init__(self, options: ServeOptions, instance: Instance, console: Console, stop_signals: _StopSignals) -> None:
        self._options = options
        self._instance = instance
        self._console = console
        self._stop_signals = stop_signals
        self._children = Children()
        self._valkey: Valkey | None = None
        self._ray_address: str | None = None
        self._app_name: str | None = None  # once it is deployed
        self._begin = time.monotonic()

    def run(self) -> None:
        settings = load_settings(self._options.settings_file)
        self._write_state(settings)
        self._check(settings)
        self._console.say(f"Raydesk starts. Details: {_relative(self._instance.logs)}/launcher.log")
        settings = self._start_beside_each_other(settings)
        tiers = TierStarter(self._options.settings_file, settings, self._instance, self._children, self._console)
        tiers.start(self._ray_client_environment())
        self._deploy(settings)
        readiness = self._wait_until_ready(settings)
        self._write_state(settings, ready=True)
        self._console.say(self._next_steps(settings))
        tiers.deploy()
        self._watch(settings, readiness)

    # --- before Ray ---------------------------------------------------------------------------------------------

    def _check(self, settings: AppSettings) -> None:
        leftovers = self._instance.processes()
        if leftovers:
            with self._console.step("Ending what an earlier start left behind"):
                processes.end(leftovers, _SWEEP_GRACE_S)
        memory = None if self._options.check_memory else (lambda: None)
        check_machine(self._instance.state, self._instance.tmp, settings.http.bind_host, self._options.port, memory)

    def _start_beside_each_other(self, settings: AppSettings) -> AppSettings:
        """Valkey, models and imports while Ray starts; returns the settings with Valkey's address."""
        environment.apply(environment.ray_environment(self._instance, ports.choose_serve_ports(self._instance.id)))
        environment.write_token(self._instance)
        settings = self._start_valkey(settings)
        preparation = Preparation(self._instance, self._children, self._console, self._options.settings_file, settings)
        beside = [
            Background(lambda: self._prepare_models(preparation)),
            Background(self._wait_for_valkey),
            Background(self._import_application),
        ]
        self._start_ray()
        self._start_serve(settings)
        for work in beside:
            work.join()
        if self._options.sample:
            preparation.sample_knowledge(self._ray_client_environment())
        return settings

    def _start_valkey(self, settings: AppSettings) -> AppSettings:
        needed = settings.cache.enabled or (settings.sessions.enabled and settings.sessions.url is None)
        if not needed or settings.cache.url != CacheSettings().url:
            return settings  # nothing to store, or a server of the user's own
        data, log = self._instance.state / "valkey", self._instance.logs / "valkey.log"
        self._valkey = Valkey(self._instance.tmp / "valkey.sock", data, log)
        self._valkey.start({MARKER: self._instance.id})
        return load_settings(self._options.settings_file, {"cache": {"url": self._valkey.url}})

    def _wait_for_valkey(self) -> None:
        if self._valkey is not None:
            with self._console.step("Valkey"):
                self._valkey.wait_until_ready()

    def _prepare_models(self, preparation: Preparation) -> None:
        with self._console.step("Models", show=False):
            preparation.encoder()
            preparation.intent_head()

    def _import_application(self) -> None:
        with self._console.step("Import of the application", show=False):
            importlib.import_module("deployments.app")

    # --- Ray and Serve ------------------------------------------------------------------------------------------

    def _start_ray(self) -> None:
        with self._console.step("Ray"):
            self._forget_old_sessions()
            _send_output_to(self._instance.logs / "ray-messages.log")
            import ray

            context = ray.init(
                address="local",
                # Shares for scheduling, not cores: room for the application and for an ingestion job beside it.
                num_cpus=max(4, (os.cpu_count() or 1) + 2),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=str(self._instance.tmp / "ray"),
            )
            self._ray_address = context.address_info["gcs_address"]
        _link(self._instance.logs / "ray", self._instance.tmp / "ray" / "session_latest" / "logs")
        self._stop_signals.install()  # Ray has put its own in their place

    def _forget_old_sessions(self) -> None:
        sessions = sorted((self._instance.tmp / "ray").glob("session_2*"))
        for folder in sessions[: -_KEPT_RAY_SESSIONS + 1]:
            shutil.rmtree(folder)

    def _ray_client_environment(self) -> dict[str, str]:
        assert self._ray_address is not None
        return environment.ray_client_environment(self._instance, self._ray_address)

    def _start_serve(self, settings: AppSettings) -> None:
        self._instance.note_processes()
        with self._console.step("Serve"):
            from ray import serve

            _send_log_to(self._instance.logs / "serve.log")
            serve.start(http_options={"host": settings.http.bind_host, "port": self._options.port})

    def _deploy(self, settings: AppSettings) -> None:
        with self._console.step("Deployment"):
            from ray import serve

            from deployments.app import build_app

            target = serve.RunTarget(build_app(settings), name=settings.app_name, route_prefix="/")
            self._app_name = settings.app_name
            serve.run_many([target], wait_for_applications_running=False)

    def _wait_until_ready(self, settings: AppSettings) -> Readiness:
        deadline = time.monotonic() + READY_TIMEOUT_S
        next_look = time.monotonic() + 2.0
        with self._console.step("Rooms") as step:
            while True:
                readiness = ask(_reachable(settings.http.bind_host), self._options.port)
                if readiness is not None and readiness.ready:
                    return readiness
                step.detail = _waiting_for(readiness)
                if time.monotonic() > next_look:  # asks the controller, which has better things to do at first
                    _raise_if_failed(settings.app_name, self._instance.logs)
                    next_look = time.monotonic() + 2.0
                if time.monotonic() > deadline:
                    raise StartError(
                        f"The rooms were not ready within {READY_TIMEOUT_S:.0f} s ({_waiting_for(readiness)}).\n"
                        f"  The logs say why: {_relative(self._instance.logs)}/ray/serve"
                    )
                time.sleep(_POLL_INTERVAL_S)

    # --- at work ------------------------------------------------------------------------------------------------

    def _watch(self, settings: AppSettings, first: Readiness) -> None:
        """One line for every change, until a signal ends it."""
        last: Readiness | None = first
        while True:
            time.sleep(_WATCH_INTERVAL_S)
            self._revive_valkey()
            self._instance.note_processes()
            now = ask(_reachable(settings.http.bind_host), self._options.port)
            for line in changes(last, now):
                self._console.say(f"  {line} (after {time.monotonic() - self._begin:.0f} s)")
            last = now

    def _revive_valkey(self) -> None:
        if self._valkey is not None and not self._valkey.is_running():
            self._console.say(f"  Valkey ended; it is started again. Its log: {self._instance.logs}/valkey.log")
            self._valkey.start({MARKER: self._instance.id})

    def _write_state(self, settings: AppSettings, ready: bool = False) -> None:
        url = _url(settings, self._options.port)
        settings_file = str(self._options.settings_file.absolute())
        self._instance.write(
            InstanceState(ProcessId.own(), url, ready, self._ray_address, settings_file, settings.app_name)
        )

    def _next_steps(self, settings: AppSettings) -> str:
        url = _url(settings, self._options.port)
        question = '{"messages": [{"role": "user", "content": "How long do I have to return something?"}]}'
        key = "" if settings.is_loopback else " -H 'Authorization: Bearer YOUR_KEY'"
        lines = [
            "",
            f"Raydesk is ready after {time.monotonic() - self._begin:.1f} s.",
            "",
            f"  Chat page   {url}/",
            f"  By hand     curl -N {url}/v1/chat{key} -H 'Content-Type: application/json' \\",
            f"                -d '{question}'",
            f"  Logs        {_relative(self._instance.logs)}",
            "  Stop        Ctrl-C here, or 'make stop'",
            "",
        ]
        if settings.tiers:
            names = ", ".join(f"{tier.model_id} ({tier.name})" for tier in settings.tiers)
            lines.append(f"  It answers rules, curated answers and cached ones now. Still starting: {names}")
        return "\n".join(lines)

    # --- the end ------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        begin = time.monotonic()
        self._instance.note_processes()
        self._children.stop()
        if "ray" in sys.modules:
            self._console.say("Stopping …")
            self._within(_SERVE_STOP_S, "Serve", self._stop_application)
            self._within(_RAY_STOP_S, "Ray", _stop_ray)
        if self._valkey is not None:
            self._valkey.stop()
        processes.end(self._instance.processes(), _SWEEP_GRACE_S)
        self._instance.token_file.unlink(missing_ok=True)
        self._console.detail(f"  Stopped in {time.monotonic() - begin:.1f} s")

    def _within(self, limit_s: float, what: str, stop: Callable[[], None]) -> None:
        """What takes longer, or fails because its start was cut short, is left to the sweep that follows."""
        try:
            if not Background(stop).join(limit_s):
                self._console.record(f"{what} was not down within {limit_s:.0f} s")
        except Exception:
            self._console.record(f"{what} did not stop in order:\n{traceback.format_exc()}")

    def _stop_application(self) -> None:
        """Lets running turns end and be recorded. The models need no such care, and a starting one would take long."""
        import ray

        if self._app_name is None or not ray.is_initialized():
            return
        from ray import serve

        serve.delete(self._app_name)


def changes(before: Readiness | None, after: Readiness | None) -> list[str]:
    """What to tell about two looks at the application."""
    if after is None:
        return ["The application does not answer"] if before is not None else []
    if before is None:
        return ["The application answers again", *changes(Readiness(), after)]
    lines = [f"Room {name}: {state}" for name, state in after.rooms.items() if before.rooms.get(name, state) != state]
    for name, state in after.tiers.items():
        if before.tiers.get(name, "starting") != state:
            lines.append(f"Tier {name}: {state}" + (", it writes answers now" if state == "ready" else ""))
    return lines


def _waiting_for(readiness: Readiness | None) -> str:
    if readiness is None:
        return "waiting for the ingress"
    return ", ".join(f"{name} {state}" for name, state in readiness.rooms.items() if state != "ready")


def _raise_if_failed(app_name: str, logs: Path) -> None:
    from ray import serve

    application = serve.status().applications.get(app_name)
    if application is not None and application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
        details = [application.message, *(d.message for d in application.deployments.values() if d.message)]
        text = "\n".join(details).strip()[-3000:]
        raise StartError(f"The application could not be started.\n{text}\n  The logs: {_relative(logs)}/ray/serve")


def _stop_ray() -> None:
    import ray

    if ray.is_initialized():
        ray.shutdown()


def _send_log_to(file: Path) -> None:
    """Serve's own lines: for those who look for a fault, not for the terminal."""
    import logging

    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("ray.serve")
    logger.handlers = [handler]
    logger.propagate = False


def _send_output_to(file: Path) -> None:
    """Ray's core writes to both on its own account, mostly while it is being stopped."""
    sys.stdout.flush()
    sys.stderr.flush()
    with file.open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


def _short(error: Exception) -> str:
    """An error of a Ray task has a traceback as its text; its end says what happened."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"Raydesk could not be started: {type(error).__name__}\n" + "\n".join(f"    {line}" for line in lines[-8:])


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _url(settings: AppSettings, port: int) -> str:
    host = _reachable(settings.http.bind_host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _reachable(bind_host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind_host, bind_host)  # noqa: S104  (compared, not bound)


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


# --- signals ----------------------------------------------------------------------------------------------------


class _StopSignals:
    """Inside it a signal raises `_Stopped`, in the middle of whatever is being done."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> None:
        self.install()

    def install(self) -> None:
        for number in _STOP_SIGNALS:
            signal.signal(number, self._raise_stopped)

    def _raise_stopped(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        raise _Stopped

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):  # from Ray's own handlers, while it starts
            raise _Stopped from error


@contextmanager
def _signals_wait(shown: int) -> Iterator[None]:
    """While things are being stopped, another Ctrl-C must not leave half of them running."""

    def say_so(number: int, frame: FrameType | None) -> Any:
        os.write(shown, b" still stopping, a few seconds more\n")  # not print: it may be in the middle of one

    for number in _STOP_SIGNALS:
        signal.signal(number, say_so)
    yield
