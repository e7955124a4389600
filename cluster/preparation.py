"""What has to be made before questions can be answered: models, the intent head, the sample company's knowledge.

Each is made once, and again when what it is made from has changed; then a start costs a few milliseconds here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.children import Children
from cluster.console import Console, Step
from cluster.instance import Instance
from cluster.stamps import Stamp, fingerprint
from deployments.settings import AppSettings
from models.bundled import ENCODER_FOLDER, SMALL_LLM_FOLDER
from models.intent_head import FORMAT

SAMPLE_COMPANY = Path("cluster/sample_company")
INGESTION = Path("ingestion")
_LOG_LINE = re.compile(r"\[?\d{4}-\d\d-\d\d|(DEBUG|INFO|WARNING|ERROR)\b|[┌├└│╭╰─]|.*\d%\|")  # or a bar's frame
_SAMPLE_SOURCES = ("articles", "faq", "documents")


@dataclass(frozen=True, slots=True)
class Preparation:
    """How things are made: who runs the work, who hears of it, where its stamps lie."""

    instance: Instance
    children: Children
    console: Console
    settings_file: Path
    settings: AppSettings

    def encoder(self) -> None:
        self._bundled("Encoder", "encoder", Path(self.settings.encoder.model), ENCODER_FOLDER)

    def small_llm(self) -> None:
        for tier in self.settings.tiers:
            if tier.openai is not None:
                continue
            self._bundled("Small language model", "small-llm", Path(tier.model_source), SMALL_LLM_FOLDER)

    def _bundled(self, title: str, name: str, folder: Path, bundled_folder: str) -> None:
        """Builds the model if the settings point to the bundled one; others are the user's own affair."""
        if folder.name != bundled_folder or folder.is_absolute():
            return
        recipe = fingerprint([Path("models/bundled.py"), Path("requirements/models.lock")])
        stamp = Stamp(folder.with_name(f".{folder.name}.stamp"))
        if folder.is_dir() and stamp.is_current(recipe):
            return
        self._run(title, [sys.executable, "-m", "cluster.build_model", name, str(folder.parent)], {})
        stamp.set(recipe)

    def intent_head(self) -> None:
        intents = Path(self.settings.intents.rules).with_name("intents.yaml")
        head = Path(self.settings.intents.head)
        if not intents.is_file():
            return  # a head that the user has trained from something else
        encoder = self.settings.encoder
        made_by = [encoder.model_dump_json(exclude={"threads", "max_batch", "batch_wait_ms"}), f"head {FORMAT}"]
        wanted = fingerprint([intents, *_description_of(encoder.model)], made_by)
        stamp = Stamp(head.with_name(head.name + ".stamp"))
        if head.is_dir() and stamp.is_current(wanted):
            return
        command = [sys.executable, "-m", "cluster.cli", "intents", "train", str(intents)]
        # A first head must answer something, and soon: 0.99 takes more examples than a company begins with.
        command += ["--settings", str(self.settings_file), "--target-precision", "0.95", "--no-fine-tune"]
        self._run("Intent head", command, {})
        stamp.set(wanted)

    def sample_knowledge(self, environment: Mapping[str, str]) -> None:
        """The environment leads the job to the Ray that is running already."""
        sources = [SAMPLE_COMPANY / name for name in _SAMPLE_SOURCES if (SAMPLE_COMPANY / name).exists()]
        if not sources:
            return
        knowledge = self.settings.knowledge
        collection = Path(knowledge.root) / self.settings.auth.loopback_tenant / knowledge.default_collection
        wanted = fingerprint(
            # A new release may read, split or store the same documents in another way.
            [*sources, *sorted(INGESTION.glob("*.py")), *_description_of(self.settings.encoder.model)],
            [self.settings.encoder.model_dump_json()],
        )
        stamp = Stamp(Path(knowledge.root) / f".sample-{knowledge.default_collection}.stamp")
        if (collection / "CURRENT").is_file() and stamp.is_current(wanted):
            return
        command = [sys.executable, "-m", "ingestion", "apply"]
        command += ["--settings", str(self.settings_file), "--root", knowledge.root]
        command += ["--tenant", self.settings.auth.loopback_tenant, "--collection", knowledge.default_collection]
        command += map(str, sources)
        self._run("Sample knowledge", command, environment)
        stamp.set(wanted)

    def _run(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        log = self.instance.logs / f"{name.lower().replace(' ', '-')}.log"
        with self.console.step(name) as step:
            self.children.run(command, log, environment, _teller(step))


def _teller(step: Step) -> Callable[[str], None]:
    def tell(line: str) -> None:
        if not _LOG_LINE.match(line):  # warnings of libraries are for the log alone
            step.detail = line[:100]

    return tell


def _description_of(model: str) -> list[Path]:
    """The small files of a local model that tell two builds of it apart; its weights would take long to hash."""
    return sorted(Path(model).glob("*.json")) if Path(model).is_dir() else []
