"""A request as our endpoints see it: Starlette's, but read once and in one go, since most are small and whole."""

from __future__ import annotations

from functools import lru_cache

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope


class IndexedHeaders(Headers):
    """Starlette's looks through all of them for each name that is asked for."""

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        super().__init__(raw=raw)
        self.size = 0  # bytes
        self._by_name: dict[bytes, list[bytes]] = {}
        for name, value in raw:
            self.size += len(name) + len(value)
            self._by_name.setdefault(name.lower(), []).append(value)

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        values = self._by_name.get(_raw(key))
        return default if values is None else values[0].decode("latin-1")

    def getlist(self, key: str) -> list[str]:
        return [value.decode("latin-1") for value in self._by_name.get(_raw(key), ())]

    def __getitem__(self, key: str) -> str:
        return self._by_name[_raw(key)][0].decode("latin-1")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _raw(key) in self._by_name

    def has_any_of(self, names: frozenset[bytes]) -> bool:
        """names: in lower case."""
        return not names.isdisjoint(self._by_name)


@lru_cache(maxsize=256)
def _raw(name: str) -> bytes:
    return name.lower().encode("latin-1")


class DeskRequest(Request):
    """Of a scope that has passed the door."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._headers = scope["state"]["headers"]

    async def body(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                return b"".join(pieces)
