from __future__ import annotations

import asyncio

import pytest

from deployments.redis_client import connected

pytestmark = pytest.mark.conformance


async def test_who_is_cancelled_at_any_moment_of_a_command_ends_with_it(valkey_url: str) -> None:
    client = connected(valkey_url)
    await client.ping()
    lost = []
    for rounds_of_the_loop in range(50):
        asks = asyncio.create_task(client.ping())
        for _ in range(rounds_of_the_loop):
            await asyncio.sleep(0)
        if asks.cancel():
            await asyncio.wait([asks])
            if not asks.cancelled():
                lost.append(rounds_of_the_loop)
    await client.aclose()
    assert lost == []
