"""The model card of a trained head: what it was trained on, how good it is, and where it is sure enough to answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from models.intent_report import at_threshold_of, auroc, report, scope_scores
from models.intent_training import Training
from models.protocols import OUT_OF_SCOPE

_CONFUSIONS = 20  # of the card; there may be thousands


def make_card(training: Training, source: str, target_precision: float, trained_at: str) -> dict[str, Any]:
    """All numbers are of held-out examples."""
    held = training.held_out
    whole = report(held.texts, held.truths, held.predictions).as_dict()
    meant = [p for p, truth in zip(held.predictions, held.truths, strict=True) if truth != OUT_OF_SCOPE]
    chosen = None if training.threshold is None else at_threshold_of(training.threshold, held.truths, held.predictions)
    return {
        "trained_at": trained_at,
        "source": source,
        "encoder": training.head.embedder_identity,
        "intents": dict(sorted(Counter(held.truths).items())),
        "target_precision": target_precision,
        "threshold": chosen,
        "own_thresholds": training.own_thresholds,
        "held_out": whole | {"confusions": whole["confusions"][:_CONFUSIONS]},
        "unrelated_auroc": auroc(scope_scores(meant), scope_scores(training.unrelated)),
        "warnings": training.warnings,
    }


def markdown(card: Mapping[str, Any]) -> str:
    held = card["held_out"]
    lines = [
        f"# Intent head {card['version']}",
        "",
        f"Trained {card['trained_at']} from {card['source']}: {sum(card['intents'].values())} examples of "
        f"{len(card['intents'])} intents. Encoder: {card['encoder']}.",
        "Every number is of examples that were held out when they were predicted (cross-validation).",
        "",
        f"- accuracy {held['accuracy']:.1%}, macro-F1 {held['macro_f1']:.3f}, "
        f"expected calibration error {held['ece']:.3f}",
        f"- told from unrelated questions: AUROC {card['unrelated_auroc']:.3f}",
    ]
    if held["oos_auroc"] is not None:
        lines.append(
            f"- told from the out-of-scope examples: AUROC {held['oos_auroc']:.3f}, recall {held['oos_recall']:.1%}"
        )
    lines += ["", "## Threshold", "", *_threshold(card), "", *_at(held["at"])]
    lines += ["", "## Intents, the worst first", "", "| intent | examples | precision | recall | F1 | own threshold |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for each in held["by_intent"]:
        own = card["own_thresholds"].get(each["label"])
        lines.append(
            f"| {each['label']} | {each['examples']} | {each['precision']:.1%} | {each['recall']:.1%} | "
            f"{each['f1']:.3f} | {'' if own is None else f'{own:.3f}'} |"
        )
    lines += ["", "## What is taken for what", "", *confusion_lines(held["confusions"])]
    if card["warnings"]:
        lines += ["", "## Warnings", "", *(f"- {warning}" for warning in card["warnings"])]
    return "\n".join(lines) + "\n"


def _threshold(card: Mapping[str, Any]) -> list[str]:
    chosen, target = card["threshold"], card["target_precision"]
    if chosen is None:
        return [
            f"No confidence reaches a precision of {target:.1%}: the setting `intents.confidence_threshold` decides."
        ]
    return [
        f"From a confidence of {chosen['threshold']:.3f} on {chosen['precision']:.1%} are right (95 % interval "
        f"{chosen['low']:.1%} to {chosen['high']:.1%}; wanted {target:.1%}), which answers {chosen['coverage']:.1%} "
        "of the questions that an intent is meant for."
    ]


def _at(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = ["| confidence | coverage | precision | 95 % interval |", "| --- | --- | --- | --- |"]
    return lines + [
        f"| {row['threshold']:.2f} | {row['coverage']:.1%} | {row['precision']:.1%} | "
        f"{row['low']:.1%} - {row['high']:.1%} |"
        for row in rows
    ]


def confusion_lines(confusions: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"- {each['count']} x {each['truth']} taken for {each['predicted']}: "
        + "; ".join(f'"{" ".join(text.split())[:80]}"' for text in each["texts"])
        for each in confusions
    ]
