"""Serve's choice among the replicas of a tier, without those that are stuck (`deployments/replicas.py`).

Serve makes a router in each process that holds a handle of the tier, from a copy of this module: whatever has to be the
same for others in the process is not here.
"""

from __future__ import annotations

import random
import time
from typing import Any

from ray.serve.request_router import FIFOMixin, MultiplexMixin, PendingRequest, RequestRouter, RunningReplica

from deployments.lease import request_of
from deployments.replicas import replicas_of

_METHOD = "generate"


class SoundReplicaRouter(FIFOMixin, MultiplexMixin, RequestRouter):  # type: ignore[misc]  # ray ships no types for it
    """Of two sound replicas by chance the one with the shorter queue."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        if pending_request is not None:
            # Where both are full; Serve's own routers do so, too.
            pending_request.routing_context.should_backoff = True
        by_name = {_name(replica): replica for replica in candidate_replicas}
        names = self._to_choose_from(by_name, _asker(pending_request))
        return [[by_name[name] for name in random.sample(names, min(2, len(names)))]]

    def create_replica_wrapper(self, replica_info: Any) -> RunningReplica:
        return _Noted(replica_info, self.app_name)

    def _to_choose_from(self, names: dict[str, RunningReplica], asker: str) -> list[str]:
        known = replicas_of(self.app_name)
        return list(names if known is None else known.to_choose_from(names, asker, time.monotonic()))


class _Noted(RunningReplica):  # type: ignore[misc]
    """Notes what it is sent before it has taken it, which one that is stuck never does."""

    def __init__(self, replica_info: Any, app_name: str) -> None:
        super().__init__(replica_info)
        self._app_name = app_name

    def try_send_request(self, pr: PendingRequest, with_rejection: bool) -> Any:
        known, asker = replicas_of(self._app_name), _asker(pr)
        if known is not None and asker:
            known.sent(asker, _name(self))
        return super().try_send_request(pr, with_rejection)


def _name(replica: RunningReplica) -> str:
    return str(replica.replica_id.unique_id)


def _asker(pending: PendingRequest | None) -> str:
    """The id of the request that a generation is for, as `RemoteLLM` names it; of other calls nothing."""
    if pending is None or pending.metadata.call_method != _METHOD or len(pending.args) < 3:
        return ""
    return request_of(pending.args[2])
