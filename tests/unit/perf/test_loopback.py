from __future__ import annotations

import argparse

import pytest

from perf.loopback import loopback_url

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.9.9.9", "http://127.9.9.9:80"),
        ("http://[::1]:8001", "http://[::1]:8001"),
        ("http://LOCALHOST:8000", "http://localhost:8000"),
    ],
)
def test_loopback_addresses_are_accepted(url: str, base: str) -> None:
    assert loopback_url(url) == base


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "http://10.0.0.1:8000",
        "http://0.0.0.0:8000",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com:8000",
        "http://[2001:db8::1]:8000",
        "http://2130706433",  # 127.0.0.1 as one number: to some, not to all
    ],
)
def test_other_machines_are_refused(url: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="only a desk on this machine"):
        loopback_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://127.0.0.1",
        "https://127.0.0.1",
        "http://",
        "http://127.0.0.1/v1/chat",
        "http://127.0.0.1@example.com",
        "http://127.0.0.1:x",
        "http://[::1",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not an address"):
        loopback_url(url)
