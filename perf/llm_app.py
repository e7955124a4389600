"""ray.serve.llm's own OpenAI application, the peer of `perf.stream`: on the desk's Ray, with a tier's model.

A file of its own for its imports: Ray is joined, and left, in the process that measures. It needs as much memory as the
tier itself.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.detached import join_running
from deployments.settings import TierSettings

NAME = "perf-llm"
PREFIX = "/perf-llm"
# For scheduling alone: a desk's Ray has no room for a second engine of its tier's size. It takes turns with that one.
_SHARE = {"CPU": 0.3}


@contextmanager
def running_llm(state: Path, tier: TierSettings) -> Iterator[str]:
    """The path under which it answers beside the desk of `state`; it goes with the block.

    Raises `RuntimeError` when no desk is running there.
    """
    if join_running(state) is None:
        raise RuntimeError(f"No desk is running in {state}: start it with 'raydesk serve --detach'.")
    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig, LLMServingArgs, build_openai_app

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    ray.init(log_to_driver=False, logging_level="ERROR")
    config = LLMConfig(
        model_loading_config={"model_id": tier.model_id, "model_source": tier.model_source},
        accelerator_type=tier.accelerator_type,
        placement_group_config={"bundles": [_SHARE]},
        engine_kwargs=tier.engine_kwargs,
        runtime_env={"env_vars": tier.env},
        deployment_config={
            "num_replicas": tier.replicas.min_replicas,
            "max_ongoing_requests": tier.replicas.max_ongoing_requests,
            "ray_actor_options": {"num_cpus": _SHARE["CPU"]},
        },
    )
    ingress = {"ray_actor_options": {"num_cpus": _SHARE["CPU"]}}
    arguments = LLMServingArgs(llm_configs=[config], ingress_deployment_config=ingress)
    try:
        serve.run(build_openai_app(arguments), name=NAME, route_prefix=PREFIX)
        yield PREFIX
    finally:
        serve.delete(NAME)
        ray.shutdown()
