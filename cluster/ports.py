"""Ports on this machine: the HTTP port is the user's choice, every other one gives way by itself."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
# Below the range from which Linux hands out ports for outgoing connections (32768 and up).
_FIRST, _LAST = 20_000, 32_000
_BLOCK = 200
_REPLICA_PORTS = 90  # for each of HTTP and gRPC; one replica takes one of each


@dataclass(frozen=True, slots=True)
class ServePorts:
    """What Serve and HAProxy use besides the HTTP port. Ranges include their first port and exclude their last."""

    replica_http: tuple[int, int]
    replica_grpc: tuple[int, int]
    haproxy_metrics: int
    haproxy_stats: int
    fallback_http: int
    fallback_grpc: int


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now. Connections of an earlier one that are being closed do not count."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)  # with SO_REUSEADDR a bind alone may succeed beside another server
        except OSError:
            return False
    return True


def choose_serve_ports(instance_id: str) -> ServePorts:
    """A block of free ports. Two instances begin to look at different places, so they seldom meet."""
    blocks = (_LAST - _FIRST) // _BLOCK
    begin = int(hashlib.sha256(instance_id.encode()).hexdigest(), 16) % blocks
    for step in range(blocks):
        first = _FIRST + (begin + step) % blocks * _BLOCK
        if all(is_free(port, "") for port in range(first, first + _BLOCK)):
            return _serve_ports(first)
    raise OSError(f"there is no free block of {_BLOCK} ports between {_FIRST} and {_LAST}")


def _serve_ports(first: int) -> ServePorts:
    grpc = first + _REPLICA_PORTS
    singles = grpc + _REPLICA_PORTS
    return ServePorts(
        replica_http=(first, first + _REPLICA_PORTS),
        replica_grpc=(grpc, grpc + _REPLICA_PORTS),
        haproxy_metrics=singles,
        haproxy_stats=singles + 1,
        fallback_http=singles + 2,
        fallback_grpc=singles + 3,
    )
