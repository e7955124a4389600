"""How every room here speaks to its Redis or Valkey."""

from __future__ import annotations

from typing import Any

import redis.asyncio as redis

_CONNECT_TIMEOUT_S = 2.0


def connected(url: str) -> Any:
    """A client without a limit for an answer: each call needs one of its caller's, as by `asyncio.timeout`.

    redis-py keeps its own by `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes in the moment
    in which the command is sent: who has left would go on asking for ever. It also takes a task for each command.
    Any: its stubs cannot say that answers are bytes.
    """
    return redis.from_url(url, socket_timeout=None, socket_connect_timeout=_CONNECT_TIMEOUT_S)
