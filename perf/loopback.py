"""Addresses that a measurement may send its requests to: this machine's, and no others."""

from __future__ import annotations

import argparse
import ipaddress
from urllib.parse import urlsplit


def loopback_url(text: str) -> str:
    """`http://host:port` of a server on this machine. Raises `ArgumentTypeError` for anything else."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address: {error}") from error
    is_plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    if parts.scheme != "http" or not host or not is_plain:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as http://127.0.0.1:8000")
    if not _is_loopback(host):
        raise argparse.ArgumentTypeError(f"only a desk on this machine (loopback) is asked, and {host!r} is not on it")
    # Put together afresh: nobody downstream can read another host out of it.
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # any other name
        return False
