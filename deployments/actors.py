"""Whether another process of the cluster is still there."""

from __future__ import annotations

import asyncio

import ray

_NAMESPACE = "serve"  # Serve names its replicas' actors in it


async def is_actor_alive(name: str) -> bool:
    """Of a Serve replica's actor. Raises what Ray raises where it cannot tell: its head may be away."""
    try:
        await asyncio.to_thread(ray.get_actor, name, namespace=_NAMESPACE)
    except ValueError:  # Ray's way to say that no living actor has this name
        return False
    return True
