"""Many new values in Redis or Valkey by one command: a `SET` each would cost this process ten times as much."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

# ARGV: time to live in s, then name, value, name, value, … A name that is there already keeps its value. The names are
# of different slots of a cluster, so they are no KEYS.
_SET_NEW = """#!lua flags=allow-cross-slot-keys
for at = 2, #ARGV, 2 do redis.call('SET', ARGV[at], ARGV[at + 1], 'EX', ARGV[1], 'NX') end
"""


class NewValues:
    def __init__(self, client: Any) -> None:
        self._script = client.register_script(_SET_NEW)

    def write(self, values: Mapping[str, bytes], ttl_s: int) -> Awaitable[Any]:
        """values: by name."""
        arguments: list[str | bytes | int] = [ttl_s]
        for item in values.items():
            arguments += item
        written: Awaitable[Any] = self._script(args=arguments)
        return written
