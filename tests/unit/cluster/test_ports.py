from __future__ import annotations

import socket

import pytest

from cluster.ports import LOOPBACK, choose_serve_ports, is_free

pytestmark = pytest.mark.unit


def listener() -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server does
    server.bind((LOOPBACK, 0))
    server.listen()
    return server


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with listener() as server:
        port = server.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


def test_a_port_that_only_has_closing_connections_is_free() -> None:
    server = listener()
    port = server.getsockname()[1]
    client = socket.create_connection((LOOPBACK, port))
    accepted, _ = server.accept()
    accepted.close()  # the server's end closes first and stays in TIME_WAIT
    client.close()
    server.close()
    assert is_free(port)


def test_the_ports_of_one_instance_do_not_overlap() -> None:
    ports = choose_serve_ports("one")
    singles = [ports.haproxy_metrics, ports.haproxy_stats, ports.fallback_http, ports.fallback_grpc]
    everything = [*range(*ports.replica_http), *range(*ports.replica_grpc), *singles]
    assert len(set(everything)) == len(everything)
    assert max(everything) < 32_768  # from there Linux hands out ports for outgoing connections


def test_the_same_instance_finds_the_same_ports_again() -> None:
    assert choose_serve_ports("one") == choose_serve_ports("one")


def test_two_instances_begin_at_different_places() -> None:
    assert choose_serve_ports("one") != choose_serve_ports("two")


def test_a_block_with_a_taken_port_is_passed_over() -> None:
    first = choose_serve_ports("one")
    with socket.socket() as server:
        server.bind((LOOPBACK, first.haproxy_stats))
        server.listen()
        assert choose_serve_ports("one").replica_http != first.replica_http
