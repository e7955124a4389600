"""Tells what each replica of the scripted tier writes: a process that has joined the cluster's Ray, at its address.

Twice a second one line of JSON, process id → answers, of those replicas that a new question may go to. A replica that
goes, or begins, while it is asked may leave a question without an answer: it is asked again, and stderr says so.
"""

from __future__ import annotations

import asyncio
import json
import sys

import ray
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.app import TIER_DEPLOYMENT, tier_app_name


async def tell() -> None:
    handle = DeploymentHandle(TIER_DEPLOYMENT, tier_app_name("raydesk", "small"))
    while True:
        try:
            told = await handle.broadcast("running").results_async(timeout_s=5)
            print(json.dumps(dict(told)), flush=True)
        except (RayError, RayServeException, TimeoutError) as error:
            print(f"not told: {error!r}", file=sys.stderr, flush=True)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
    asyncio.run(tell())
