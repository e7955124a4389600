from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
GUARD = Path(__file__).parents[3] / "cluster" / "haproxy_guard.sh"
# As Ray Serve writes it, in short.
CONFIG = """\
defaults
    option abortonclose
    option splice-request
    option splice-response
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind {door}:8000
    mode http
listen stats
  bind *:8404
"""


def guarded(folder: Path, door: str) -> list[str]:
    file = folder / "haproxy.cfg"
    file.write_text(CONFIG.format(door=door))
    environment = {"RAYDESK_HAPROXY_BINARY": "/bin/echo", "PATH": "/bin:/usr/bin"}
    done = subprocess.run(
        ["sh", str(GUARD), "-db", "-f", str(file)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["-db", "-f", str(file)]  # HAProxy gets its arguments
    return [line.strip() for line in file.read_text().splitlines()]


@pytest.mark.parametrize("door", ["*", "127.0.0.1"])
def test_metrics_and_statistics_go_to_loopback_and_the_door_stays(tmp_path: Path, door: str) -> None:
    binds = [line for line in guarded(tmp_path, door) if line.startswith("bind")]
    assert binds == ["bind 127.0.0.1:9101", f"bind {door}:8000", "bind 127.0.0.1:8404"]


def test_headers_that_switch_off_our_limits_are_stripped_at_the_door(tmp_path: Path) -> None:
    lines = guarded(tmp_path, "*")
    door = lines[lines.index("frontend http_frontend") : lines.index("listen stats")]
    assert "http-request del-header x-request-timeout-seconds" in door
    assert "http-request del-header x-request-disconnect-disabled" in door


def test_a_customer_who_leaves_before_the_first_byte_is_noticed(tmp_path: Path) -> None:
    lines = guarded(tmp_path, "*")
    assert "option abortonclose" in lines
    assert "option splice-request" not in lines
