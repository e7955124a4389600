"""The Dockerfile and the compose file, as far as can be told without Docker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.settings import AppSettings

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "cluster/Dockerfile").read_text("utf-8")


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "cluster/compose.yaml").read_text("utf-8"))["services"]
    return found


def test_all_that_is_copied_into_an_image_is_there() -> None:
    copied = [line.split()[2:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY --chown")]
    assert copied
    assert all((ROOT / source).exists() for sources in copied for source in sources)


def test_compose_builds_targets_that_the_dockerfile_has() -> None:
    targets = set(re.findall(r"^FROM .* AS (\w+)$", DOCKERFILE, re.MULTILINE))
    built = [service["build"] for service in services().values() if "build" in service]
    assert {each["target"] for each in built} == targets
    assert all((ROOT / "cluster" / each["context"] / each["dockerfile"]).is_file() for each in built)


def test_settings_in_the_environment_are_settings_that_exist() -> None:
    for service in services().values():
        for name in service.get("environment", {}):
            if name.startswith("RAYDESK_") and "__" in name:  # the others are the scripts'
                branch, _, field = name.removeprefix("RAYDESK_").lower().partition("__")
                assert field in AppSettings.model_fields[branch].annotation.model_fields, name  # type: ignore[union-attr]


def test_no_store_is_reachable_from_outside_and_no_door_but_on_loopback() -> None:
    for name, service in services().items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    assert not any("ports" in services()[store] for store in ("redis", "clickhouse"))


def test_every_volume_that_is_mounted_is_declared() -> None:
    document = yaml.safe_load((ROOT / "cluster/compose.yaml").read_text("utf-8"))
    mounted = {volume.split(":")[0] for service in services().values() for volume in service.get("volumes", ())}
    files = {each for each in mounted if each.startswith("./")}
    assert all((ROOT / "cluster" / each).is_file() for each in files)
    assert mounted - files == set(document["volumes"])


def test_the_image_says_what_the_environment_file_says() -> None:
    """KubeRay starts Ray itself, and reads no shell file."""
    of_file = _assigned((ROOT / "cluster/ray.env").read_text("utf-8"))
    of_image = _assigned(DOCKERFILE)
    assert of_file
    assert of_file.keys() - {"RAY_AUTH_MODE"} <= of_image.keys()  # KubeRay sets that one
    assert all(of_image[name] == value for name, value in of_file.items() if value.isdigit())


def _assigned(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\s*([A-Z_]+)=([^\s\\]+)", text, re.MULTILINE))
