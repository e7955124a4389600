"""Puts one language model on the running Ray: `python -m cluster.tier SETTINGS NAME`, then a line on stdin to deploy.

A process of its own: importing vLLM takes ten seconds and a gigabyte that the launcher need not carry. It imports
first and deploys when told, so that the model does not take the cores from the rooms that can answer without it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import ray
from ray import serve

from deployments.app import TierArguments, build_tier, tier_app_name
from deployments.settings import load_settings


def main(settings_file: str, name: str) -> int:
    settings = load_settings(Path(settings_file))
    if any(tier.name == name and tier.script is None for tier in settings.tiers):
        importlib.import_module("ray.serve.llm")  # what takes long, before the signal
    if not sys.stdin.readline():  # closed: the launcher has ended
        return 0
    # The address is in the environment, and the namespace is Serve's own choice.
    ray.init(log_to_driver=False, configure_logging=False)
    target = serve.RunTarget(
        build_tier(TierArguments(settings=settings, tier=name)),
        name=tier_app_name(settings.app_name, name),
        route_prefix=None,
    )
    serve.run_many([target], wait_for_applications_running=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
