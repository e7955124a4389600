"""The least that a Serve application can do on a desk's own Ray: the same HAProxy, replica and settings, no desk.

A file of its own for its imports: Ray is joined, and left, in the process that measures.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.detached import join_running
from deployments.settings import ReplicaSettings
from perf.peer import Recording

NAME = "perf-noop"
PREFIX = "/perf-noop"
REPLICA = f"{NAME}:noop"  # application and deployment


@contextmanager
def running_noop(state: Path, recording: Recording, replicas: ReplicaSettings) -> Iterator[str]:
    """The path under which the desk of `state` answers with `recording`; the application goes with the block.

    replicas: as those of that desk's ingress.

    Raises `RuntimeError` when no desk is running there.
    """
    if join_running(state) is None:
        raise RuntimeError(f"No desk is running in {state}: start it with 'raydesk serve --detach'.")
    import ray
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(log_to_driver=False, logging_level="ERROR")
    try:
        application = _application(recording.content_type, recording.parts[0].encode(), replicas)
        serve.run(application, name=NAME, route_prefix=PREFIX)
        yield PREFIX
    finally:
        serve.delete(NAME)
        ray.shutdown()


def _application(content_type: str, body: bytes, replicas: ReplicaSettings):  # type: ignore[no-untyped-def]
    """Classes made here travel by value: the replica need not know this package."""
    from ray import serve

    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]

    async def answer(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    class Noop:
        def __serve_build_asgi_app__(self):  # type: ignore[no-untyped-def]
            return answer

    deployment = serve.deployment(
        serve.ingress()(Noop),
        name="noop",
        num_replicas=replicas.min_replicas,
        max_ongoing_requests=replicas.max_ongoing_requests,
        max_queued_requests=replicas.max_queued_requests,
        ray_actor_options={"num_cpus": replicas.num_cpus},
        logging_config={"enable_access_log": False},
    )
    return deployment.bind()
