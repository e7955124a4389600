from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from deployments.answering.errors import RoomUnavailableError
from deployments.http.errors import public_error

pytestmark = pytest.mark.unit
GUARD = Path(__file__).parents[3] / "cluster" / "haproxy_guard.sh"
# As Ray Serve writes it, in short.
CONFIG = """\
global
    log 127.0.0.1:514 local0 info
defaults
    log global
    option abortonclose
    option splice-request
    option splice-response
    errorfile 502 /tmp/500.http
    errorfile 503 /tmp/500.http
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind {door}:8000
    log /tmp/metrics.sock len 8192 format rfc5424 local1 debug
    mode http
{use}
    default_backend default_backend
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path \\'%[path]\\' not found. Ping …"
backend http-raydesk
    server SERVE_REPLICA_raydesk-ingress-a 127.0.0.1:27000 check observe layer4
    server SERVE_PROXY_ACTOR-fallback-b 127.0.0.1:27182 check backup
listen stats
  bind *:8404
"""
USE = "    use_backend http-raydesk if is_http-raydesk"


def guarded(folder: Path, door: str = "*", use: str = USE, *arguments: str, **variables: str) -> list[str]:
    file = folder / "node" / "haproxy.cfg"
    file.parent.mkdir(exist_ok=True)
    file.write_text(CONFIG.format(door=door, use=use))
    environment = {"RAYDESK_HAPROXY_BINARY": "/bin/echo", "PATH": "/bin:/usr/bin"} | variables
    given = ["-db", "-f", str(file), *arguments]
    done = subprocess.run(["sh", str(GUARD), *given], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == given  # HAProxy gets its arguments
    assert done.stderr == ""
    return [line.strip() for line in file.read_text().splitlines()]


@pytest.mark.parametrize("door", ["*", "127.0.0.1"])
def test_metrics_and_statistics_go_to_loopback_and_the_door_stays(tmp_path: Path, door: str) -> None:
    binds = [line for line in guarded(tmp_path, door) if line.startswith("bind")]
    assert binds == ["bind 127.0.0.1:9101", f"bind {door}:8000", "bind 127.0.0.1:8404"]


def test_headers_that_switch_off_our_limits_are_stripped_at_the_door(tmp_path: Path) -> None:
    lines = guarded(tmp_path)
    door = lines[lines.index("frontend http_frontend") : lines.index("listen stats")]
    assert "http-request del-header x-request-timeout-seconds" in door
    assert "http-request del-header x-request-disconnect-disabled" in door


@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        ({}, []),
        ({"RAY_SERVE_HAPROXY_LOG_TARGET": "127.0.0.1:514"}, ["local0"]),
        ({"RAY_SERVE_HAPROXY_METRICS_ENABLED": "1"}, ["local1"]),
        ({"RAY_SERVE_HAPROXY_METRICS_ENABLED": "0"}, []),
    ],
)
def test_requests_are_logged_one_by_one_for_who_asks_for_it(
    tmp_path: Path, variables: dict[str, str], kept: list[str]
) -> None:
    lines = guarded(tmp_path, **variables)
    assert [name for name in ("local0", "local1") if any(name in line.split() for line in lines)] == kept
    assert "log global" in lines


def test_a_customer_who_leaves_before_the_first_byte_is_noticed(tmp_path: Path) -> None:
    lines = guarded(tmp_path)
    assert "option abortonclose" in lines
    assert "option splice-request" not in lines


def test_a_door_that_is_opened_again_begins_with_the_replicas_of_before_and_a_reload_with_what_it_is_told(
    tmp_path: Path,
) -> None:
    assert USE.strip() not in guarded(tmp_path, use="")
    known = guarded(tmp_path)
    assert guarded(tmp_path, use="") == known
    assert USE.strip() not in guarded(tmp_path, "*", "", "-sf", "1")


def test_where_nobody_is_behind_the_door_it_says_so_as_the_service_does(tmp_path: Path) -> None:
    closed = GUARD.with_name("haproxy_503.http")
    lines = guarded(tmp_path)
    assert {f"errorfile 502 {closed}", f"errorfile 503 {closed}"} < set(lines)
    assert f"http-request return status 503 errorfile {closed}" in lines
    head, body = closed.read_bytes().decode().split("\r\n\r\n")
    error = public_error(RoomUnavailableError())
    assert error is not None
    assert json.loads(body) == error.body("")
    assert head.splitlines()[0].split()[1] == str(error.status)
    assert f"Retry-After: {error.retry_after_s}" in head.splitlines()


def test_few_may_be_at_the_slow_proxy_that_serve_falls_back_to(tmp_path: Path) -> None:
    lines = guarded(tmp_path)
    assert "timeout queue 1s" in lines
    assert "server SERVE_PROXY_ACTOR-fallback-b 127.0.0.1:27182 check backup maxconn 100" in lines


def test_a_crowd_waits_in_the_door_and_not_in_the_socket_of_a_replica(tmp_path: Path) -> None:
    lines = guarded(tmp_path)
    assert "server SERVE_REPLICA_raydesk-ingress-a 127.0.0.1:27000 check observe layer4 maxconn 2000" in lines
    at = lines.index("global")
    assert lines[at + 1 : at + 3] == ["tune.pool-low-fd-ratio 90", "tune.pool-high-fd-ratio 95"]
