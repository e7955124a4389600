"""Asks a running application over HTTP which of its rooms and tiers are up."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field

_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Readiness:
    ready: bool = False
    rooms: dict[str, str] = field(default_factory=dict)  # name → state
    tiers: dict[str, str] = field(default_factory=dict)  # name → state


def ask(host: str, port: int) -> Readiness | None:
    """None while nothing of ours answers."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return parse(response.status, response.read())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def parse(status: int, body: bytes) -> Readiness | None:
    try:
        content = json.loads(body)
    except ValueError:  # HAProxy's own 404 or 500, while the replica is not there yet
        return None
    if not isinstance(content, dict) or "rooms" not in content:
        return None
    tiers = {tier["name"]: tier["state"] for tier in content.get("tiers", [])}
    return Readiness(status == 200 and bool(content.get("ready")), dict(content["rooms"]), tiers)
