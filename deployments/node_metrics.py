"""Hands what a replica counts to the metrics agent of its node, which Prometheus scrapes for all of Ray.

A load balancer would answer a scrape from one replica of many. Each node's agent has those of all its replicas, and
Ray, Serve and vLLM besides. They go there as gauges, counts included: an agent forgets a gauge seconds after its
replica has gone, and would keep the last count of a dead replica for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from ray.serve.metrics import Gauge


class NodeMetrics:
    """Serve adds application, deployment and replica to the labels, and Ray the prefix `ray_` to the names."""

    def __init__(self) -> None:
        self._gauges: dict[str, Gauge] = {}

    def publish(self, families: Iterable[Metric]) -> None:
        """2 µs a sample, of which a replica has some hundreds."""
        for family in families:
            for sample in family.samples:
                if sample.name.endswith("_created"):
                    continue
                gauge = self._gauges.get(sample.name)
                if gauge is None:
                    gauge = Gauge(sample.name, description=family.documentation, tag_keys=tuple(sample.labels))
                    self._gauges[sample.name] = gauge
                gauge.set(sample.value, tags=dict(sample.labels))
