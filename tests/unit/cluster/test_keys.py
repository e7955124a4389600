from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from cluster.cli import app
from cluster.keys import create_key
from deployments.http.key_file import read_keys
from deployments.settings import load_settings

pytestmark = pytest.mark.unit


def test_a_key_is_recognisable_long_and_new_each_time() -> None:
    one, two = (create_key("shop", "acme", ["public"]).secret for _ in range(2))
    assert re.fullmatch(r"rd_[A-Za-z0-9_-]{43}", one)
    assert one != two


def test_only_the_hash_is_for_the_settings_file() -> None:
    key = create_key("shop", "acme", ["public", "staff"], random_text=lambda _: "x" * 43)
    digest = hashlib.sha256(b"rd_" + b"x" * 43).hexdigest()
    assert yaml.safe_load(key.yaml) == {
        "auth": {"keys": [{"id": "shop", "sha256": digest, "tenant": "acme", "audiences": ["public", "staff"]}]}
    }
    assert key.secret not in key.yaml


def test_the_printed_entry_is_valid_in_a_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(create_key("shop", "acme", ["public"]).yaml)
    assert load_settings(file).auth.keys[0].tenant == "acme"


def test_a_tenant_that_the_settings_would_refuse_gets_no_key() -> None:
    with pytest.raises(ValidationError):
        create_key("shop", "No Spaces", ["public"])


def test_the_command_prints_key_and_entry() -> None:
    result = CliRunner().invoke(app, ["keys", "create", "--id", "shop", "--tenant", "acme", "--audience", "staff"])
    assert result.exit_code == 0
    secret = re.search(r"rd_\S{43}", result.output)
    assert secret is not None
    assert hashlib.sha256(secret[0].encode()).hexdigest() in result.output
    assert "staff" in result.output


def test_the_command_says_what_is_wrong() -> None:
    result = CliRunner().invoke(app, ["keys", "create", "--id", "shop", "--tenant", "A B"])
    assert result.exit_code == 2
    assert "tenant" in result.output


def test_keys_are_added_to_a_file_and_revoked_from_it(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    command = ["keys", "create", "--tenant", "acme", "--file", str(file)]
    secrets = []
    for name in ("old", "new"):
        result = CliRunner().invoke(app, [*command, "--id", name])
        assert result.exit_code == 0, result.output
        found = re.search(r"rd_\S{43}", result.output)
        assert found is not None
        secrets.append(found[0])
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(secret in file.read_text() for secret in secrets)
    assert CliRunner().invoke(app, [*command, "--id", "old"]).exit_code == 1
    revoke = ["keys", "revoke", "--file", str(file), "--id", "old"]
    assert CliRunner().invoke(app, revoke).exit_code == 0
    assert [key.id for key in read_keys(file)] == ["new"]
    again = CliRunner().invoke(app, revoke)
    assert again.exit_code == 1
    assert "there are: new" in again.output
