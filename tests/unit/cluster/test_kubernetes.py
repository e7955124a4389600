"""The manifests as Kubernetes gets them: rendered by kubectl, held against KubeRay's schema and against each other."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which renders the manifests, is not there"),
]
ROOT = Path(__file__).parents[3]
CRD = ROOT.parent / "shared" / "data" / "kuberay" / "ray.io_rayservices.yaml.gz"
LABELS_OF_KUBERAY = {"ray.io/is-ray-node", "ray.io/node-type", "ray.io/group"}  # it puts them on the pods it makes


@cache
def rendered(folder: str) -> list[dict[str, Any]]:
    command = [
        "kubectl",
        "kustomize",
        "--load-restrictor",
        "LoadRestrictionsNone",
        str(ROOT / "cluster/kubernetes" / folder),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def only(kind: str, folder: str = "production") -> dict[str, Any]:
    (found,) = (each for each in rendered(folder) if each["kind"] == kind)
    return found


def all_of(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in rendered("production") if each["kind"] == kind}


def schema() -> dict[str, Any]:
    if not CRD.is_file():
        pytest.skip(f"KubeRay's resource definition is not there ({CRD})")
    with gzip.open(CRD) as file:
        definition = yaml.safe_load(file)
    (version,) = (each for each in definition["spec"]["versions"] if each["name"] == "v1")
    closed: dict[str, Any] = _closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    return closed


def _closed(schema: Any) -> Any:
    """Kubernetes drops keys that it does not know without a word; here they are mistakes."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if "properties" in schema and isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def test_rayservice_is_valid_by_kuberays_schema() -> None:
    jsonschema.validate(only("RayService")["spec"], schema())


def test_rayjobs_cluster_is_valid_by_kuberays_schema() -> None:
    jsonschema.validate(only("RayJob", "reindex")["spec"]["rayClusterSpec"], schema()["properties"]["rayClusterConfig"])


def test_kubernetes_serves_the_very_file_of_serve_deploy() -> None:
    assert only("RayService")["spec"]["serveConfigV2"] == (ROOT / "serve_config.yaml").read_text("utf-8")


def test_there_are_enough_pods_for_the_replicas_of_the_file() -> None:
    spec = only("RayService")["spec"]
    groups = {group["groupName"]: group for group in spec["rayClusterConfig"]["workerGroupSpecs"]}
    arguments = yaml.safe_load(spec["serveConfigV2"])["applications"][0]["args"]
    tiers = [tier["replicas"] for tier in arguments["tiers"]]
    assert groups["gpu"]["minReplicas"] >= sum(tier["min_replicas"] for tier in tiers)
    assert groups["gpu"]["maxReplicas"] >= sum(tier["max_replicas"] for tier in tiers)

    rooms = [arguments[room]["replicas"] for room in ("http", "intents", "retriever", "turn_log")]
    cpus = int(groups["rooms"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"])
    at_rest = sum(room["num_cpus"] * room.get("min_replicas", 1) for room in rooms)
    under_load = sum(room["num_cpus"] * (room.get("max_replicas") or room.get("min_replicas", 1)) for room in rooms)
    assert groups["rooms"]["minReplicas"] * cpus >= at_rest
    assert groups["rooms"]["maxReplicas"] * cpus >= under_load


def test_no_pod_is_ended_before_its_streams() -> None:
    config = only("RayService")["spec"]["rayClusterConfig"]
    for group in config["workerGroupSpecs"]:
        assert group["template"]["spec"]["terminationGracePeriodSeconds"] > 60  # deadlines.turn_s


def test_policies_and_budgets_select_pods_that_exist() -> None:
    stores = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in all_of("StatefulSet").items()}
    apps = {labels["app"] for labels in stores.values()}
    for each in [*all_of("NetworkPolicy").values(), *all_of("PodDisruptionBudget").values()]:
        selector = each["spec"].get("podSelector", each["spec"].get("selector"))
        for label in selector.get("matchLabels", {}):
            assert label in LABELS_OF_KUBERAY
        for expression in selector.get("matchExpressions", ()):
            assert set(expression["values"]) == apps


def test_every_door_is_shut_but_those_that_are_named() -> None:
    policies = all_of("NetworkPolicy")
    assert policies["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    from_outside = [
        port["port"]
        for policy in policies.values()
        for rule in policy["spec"].get("ingress", ())
        if any("namespaceSelector" in peer for peer in rule["from"])
        for port in rule["ports"]
    ]
    assert sorted(from_outside) == [8000, 8265]


def test_every_secret_is_in_the_command_that_makes_them() -> None:
    text = "\n---\n".join(yaml.safe_dump(each) for each in rendered("production"))
    wanted = {
        line.split("key: ", 1)[1].strip()
        for line in text.splitlines()
        if line.strip().startswith("key: ") and "PASSWORD" in line
    }
    told = (ROOT / "cluster/kubernetes/production/kustomization.yaml").read_text("utf-8")
    assert wanted
    assert all(f"--from-literal={name}=" in told for name in wanted)


def test_every_image_has_a_version() -> None:
    text = "\n".join(yaml.safe_dump(each) for folder in ("production", "reindex") for each in rendered(folder))
    images = {line.split("image:")[1].strip() for line in text.splitlines() if "image:" in line}
    assert images
    assert all("/" in image and ":" in image.rsplit("/", 1)[1] for image in images), images
