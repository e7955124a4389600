"""Run at the start of every Ray worker here: keeps the replicas' inner gRPC servers on loopback.

Ray Serve 2.60 opens one per replica on every network interface, and what it is sent it unpickles, without asking for
the token: whoever reaches the port could run code. On one machine nobody but us needs it. (A cluster of several
machines protects it with RAY_USE_TLS=1.)
"""

from __future__ import annotations

from typing import Any

from ray._common import tls_utils

# Must stay quick to import: each worker waits for it.


def keep_on_loopback() -> None:
    add_port = tls_utils.add_port_to_grpc_server

    def add_loopback_port(server: Any, address: str) -> Any:
        return add_port(server, loopback_address(address))

    tls_utils.add_port_to_grpc_server = add_loopback_port


def loopback_address(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("[::]", "0.0.0.0", "") else address  # noqa: S104  (what we refuse)
