"""Starts the language models of a start: each in a process of its own (`cluster/tier.py`), beside everything else."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from cluster.checks import StartError
from cluster.children import Children
from cluster.console import Console
from cluster.instance import Instance
from cluster.preparation import Preparation
from deployments.settings import AppSettings

# The rooms that answer first have the cores first.
_NICENESS = 10


class TierStarter:
    def __init__(
        self,
        settings_file: Path,
        settings: AppSettings,
        instance: Instance,
        children: Children,
        console: Console,
    ) -> None:
        self._settings_file = settings_file
        self._settings = settings
        self._instance = instance
        self._children = children
        self._console = console
        self._may_deploy = threading.Event()

    def start(self, ray_environment: Mapping[str, str]) -> None:
        """Returns at once. A tier that fails takes nothing else down: it is told, and the rest goes on."""
        for tier in self._settings.tiers:
            if tier.openai is not None:  # it runs elsewhere
                continue
            work = threading.Thread(target=self._run, args=(tier.name, dict(ray_environment)), daemon=True)
            work.start()

    def deploy(self) -> None:
        self._may_deploy.set()

    def _run(self, name: str, ray_environment: dict[str, str]) -> None:
        log = self._instance.logs / f"tier-{name}.log"
        command = [sys.executable, "-m", "cluster.tier", str(self._settings_file), name]
        try:
            Preparation(self._instance, self._children, self._console, self._settings_file, self._settings).small_llm()
            with self._console.step(f"Tier {name} handed to Serve", show=False):
                self._children.run(
                    command, log, ray_environment, lambda _: None, niceness=_NICENESS, go=self._may_deploy
                )
        except StartError as error:
            self._console.say(f"\nThe {name} tier could not be started; everything else works.\n{error}\n")
