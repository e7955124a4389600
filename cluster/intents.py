"""Work on intents from the command line: train and publish a head, judge it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from deployments.answering.rules_file import RulesError, load_rules
from deployments.encoder import encoder_config
from deployments.settings import AppSettings, SettingsError, load_settings
from models.embedder import ModelLoadError
from models.intent_card import confusion_lines, make_card
from models.intent_examples import Example, IntentDataError, read_examples
from models.intent_model import IntentModel
from models.intent_report import Report, report
from models.intent_training import Training, train_intent_head
from models.intent_versions import current_version, load_version, publish_version, read_card
from models.protocols import OUT_OF_SCOPE

_FAULTS = (IntentDataError, ModelLoadError, SettingsError)
_WARNINGS_SHOWN = 20
_CONFUSIONS_SHOWN = 15


@dataclass(frozen=True, slots=True)
class TrainOptions:
    target_precision: float
    oos_label: str
    strict: bool
    threads: int
    seed: int
    fine_tune: bool | None  # None: where it pays


def train_and_publish(file: Path, settings_file: Path, options: TrainOptions) -> int:
    started = time.monotonic()
    try:
        settings = load_settings(settings_file)
        examples = read_examples(file, options.oos_label)
        print(f"{len(examples)} examples in {file}", flush=True)
        embedder = replace(encoder_config(settings.encoder), threads=options.threads).load()
        training = train_intent_head(
            embedder,
            examples,
            options.target_precision,
            options.seed,
            progress=lambda line: print(line, flush=True),
            fine_tune=options.fine_tune,
        )
    except _FAULTS as error:
        return _fault(error)
    warnings = training.warnings + _unknown_to_rules(settings, training)
    _print_warnings(warnings)
    if options.strict and warnings:
        return _fault(f"{len(warnings)} warnings: nothing is published")
    card = make_card(training, file.name, options.target_precision, f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    root = Path(settings.intents.head)
    version = publish_version(root, training.head, card | {"warnings": warnings})
    _print_summary(card)
    print(
        f"intent head {version} published in {time.monotonic() - started:.0f} s; its card: {root / version / 'card.md'}"
    )
    return 0


def _unknown_to_rules(settings: AppSettings, training: Training) -> list[str]:
    """An intent that rules use and that is not trained any more: the rules stay, and never match."""
    file = Path(settings.intents.rules)
    try:
        rules = load_rules(file, settings.intents.confidence_threshold, settings.intents.margin_threshold)
    except RulesError as error:
        return [f"the rules were not compared with the intents: {error}"] if file.exists() else []
    gone = sorted(rules.intents - set(training.head.labels))
    return [f"{file} has a rule for the intent {name!r}, which has no examples: it never answers" for name in gone]


def _print_warnings(warnings: list[str]) -> None:
    for warning in warnings[:_WARNINGS_SHOWN]:
        print(f"warning: {warning}", file=sys.stderr)
    if len(warnings) > _WARNINGS_SHOWN:
        print(f"... and {len(warnings) - _WARNINGS_SHOWN} more warnings, all in the card", file=sys.stderr)


def _print_summary(card: dict[str, object]) -> None:
    held, chosen = card["held_out"], card["threshold"]
    assert isinstance(held, dict), "the card has it"
    print(
        f"held out: accuracy {held['accuracy']:.1%}, macro-F1 {held['macro_f1']:.3f}, "
        f"calibration error {held['ece']:.3f}, unrelated questions AUROC {card['unrelated_auroc']:.3f}"
    )
    if isinstance(chosen, dict):
        print(
            f"threshold {chosen['threshold']:.3f}: precision {chosen['precision']:.1%} "
            f"({chosen['low']:.1%} to {chosen['high']:.1%}), coverage {chosen['coverage']:.1%}"
        )
    else:
        print(
            f"no threshold reaches a precision of {card['target_precision']:.1%}: intents.confidence_threshold decides"
        )


def print_evaluation(file: Path, settings_file: Path, oos_label: str, as_json: bool) -> int:
    try:
        settings = load_settings(settings_file)
        examples = read_examples(file, oos_label)
        embedder = encoder_config(settings.encoder).load()
        root = Path(settings.intents.head)
        version = current_version(root)
        head = load_version(root, version, embedder.identity)
    except _FAULTS as error:
        return _fault(error)
    texts = [example.text for example in examples]
    _, predictions = IntentModel(embedder, head).understand(texts)
    result = report(texts, _truths(examples), predictions)
    unknown = sorted({example.label for example in examples} - set(head.labels))
    if unknown:
        print(f"warning: the head knows no intent {', '.join(map(repr, unknown))}", file=sys.stderr)
    if as_json:
        print(json.dumps({"version": version, **result.as_dict()}, ensure_ascii=False))
    else:
        print_report(result, f"intent head {version} on {file}")
    return 0


def _truths(examples: list[Example]) -> list[str]:
    return [example.label for example in examples]


def print_report(result: Report, title: str) -> None:
    in_scope = result.examples - result.oos_examples
    print(f"{title}: {in_scope} questions with an intent, {result.oos_examples} out of scope\n")
    print(f"accuracy {result.accuracy:.1%}   macro-F1 {result.macro_f1:.3f}   calibration error {result.ece:.3f}")
    if result.oos_auroc is not None and result.oos_recall is not None:
        print(f"{OUT_OF_SCOPE}: AUROC {result.oos_auroc:.3f}, recall {result.oos_recall:.1%}")
    print(f"\n{'confidence':>10}{'coverage':>10}{'precision':>11}{'95 % interval':>18}{'answered':>10}")
    for at in result.at:
        print(
            f"{at.threshold:>10.2f}{at.coverage:>10.1%}{at.precision:>11.1%}"
            f"{at.low:>9.1%} - {at.high:.1%}{at.answered:>10}"
        )
    width = max([len(score.label) for score in result.by_intent], default=6) + 2
    print(f"\n{'intent':<{width}}{'examples':>9}{'precision':>11}{'recall':>9}{'F1':>8}")
    for score in result.by_intent:
        print(f"{score.label:<{width}}{score.examples:>9}{score.precision:>11.1%}{score.recall:>9.1%}{score.f1:>8.3f}")
    if result.confusions:
        print("\nwhat is taken for what, most often first:")
        print("\n".join(confusion_lines(result.as_dict()["confusions"][:_CONFUSIONS_SHOWN])))


def print_card(settings_file: Path) -> int:
    try:
        root = Path(load_settings(settings_file).intents.head)
        version = current_version(root)
        if version is None:
            raise IntentDataError(f"no intent head is published in {root}: train one (raydesk intents train)")
        read_card(root, version)
        print((root / version / "card.md").read_text("utf-8"))
    except _FAULTS as error:
        return _fault(error)
    return 0


def _fault(error: object) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1
