from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.instance import Instance, InstanceError, InstanceState
from cluster.processes import ProcessId

pytestmark = pytest.mark.unit


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setattr("cluster.instance._short_tmp", lambda: tmp_path)
    instance = Instance(tmp_path / "state")
    instance.create_folders()
    return instance


def state() -> InstanceState:
    return InstanceState(ProcessId.own(), "http://127.0.0.1:8000", ready=True, ray_address="127.0.0.1:1")


def test_only_one_launcher_holds_an_instance(instance: Instance) -> None:
    assert instance.acquire()
    other = Instance(instance.state)
    assert not other.acquire()
    instance.release()
    assert other.acquire()


def test_state_is_read_while_it_is_held(instance: Instance) -> None:
    assert instance.acquire()
    instance.write(state())
    assert Instance(instance.state).read() == state()


def test_the_state_of_a_killed_launcher_means_nothing(instance: Instance) -> None:
    """`kill -9`: the file stays, the kernel drops the lock."""
    program = (
        "import os, sys, pathlib; from cluster import instance as i; i._short_tmp = lambda: pathlib.Path(sys.argv[2]);"
        "x = i.Instance(pathlib.Path(sys.argv[1])); x.acquire();"
        "x.write(i.InstanceState(i.ProcessId.own(), 'http://x', True)); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, str(instance.state), str(instance.tmp.parent)]
    assert subprocess.run(command, check=False).returncode == -9
    assert (instance.run / "instance.json").exists()
    assert instance.read() is None
    assert not instance.is_held()
    assert instance.acquire()


def test_a_state_file_of_an_earlier_process_with_this_pid_means_nothing(instance: Instance) -> None:
    assert instance.acquire()
    own = ProcessId.own()
    instance.write(replace(state(), launcher=replace(own, start_ticks=own.start_ticks - 1)))
    assert instance.read() is None


def test_nothing_runs_where_nothing_was_started(tmp_path: Path) -> None:
    assert Instance(tmp_path / "nowhere").read() is None


def test_a_folder_that_others_may_enter_is_refused(instance: Instance) -> None:
    instance.tmp.chmod(0o755)
    with pytest.raises(InstanceError, match="only you can enter"):
        instance.create_folders()


def test_folders_have_instances_of_their_own(tmp_path: Path) -> None:
    assert Instance(tmp_path / "a").id != Instance(tmp_path / "b").id
    assert Instance(tmp_path / "a").id == Instance(tmp_path / "a").id


def test_sockets_of_ray_serve_and_haproxy_fit_into_the_path(tmp_path: Path) -> None:
    instance = Instance(tmp_path / ("long" * 50))
    node_id = "x" * 56
    assert len(str(instance.tmp / node_id / "metrics.sock")) <= 97  # HAProxy's limit
    session = "session_2026-11-24_12-29-05_123456_1234567"
    assert len(str(instance.tmp / "ray" / session / "sockets" / "plasma_store")) <= 107  # the kernel's


def test_state_of_another_release_can_be_read(tmp_path: Path) -> None:
    text = '{"launcher": {"pid": 7, "start_ticks": 8}, "url": "http://x", "ready": true, "colour": "blue"}'
    assert InstanceState.parse(text) == InstanceState(ProcessId(7, 8), "http://x", True)


def test_processes_are_found_after_their_launcher_is_gone(instance: Instance) -> None:
    with subprocess.Popen(["sleep", "60"]) as unmarked:
        instance.note_processes()
        later = Instance(instance.state)
        assert unmarked.pid in [process.pid for process in later.processes()]
        unmarked.kill()
        unmarked.wait()
        # The run of the tests may have other children.
        assert unmarked.pid not in [process.pid for process in later.processes()]
