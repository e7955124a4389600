"""Work on routing from the command line: fit a model to logged outcomes, show one."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from deployments.answering.routing import BUILT_IN, RoutingModel, RoutingModelError, load_routing
from deployments.routing_outcomes import OutcomesError, Tally, read_outcomes
from deployments.settings import SettingsError, load_settings


def fit_and_write(log: Path, out: Path, target_quality: float, seed: int) -> int:
    from deployments.routing_fit import Report, fit  # scikit-learn takes a second to import

    def print_report(report: Report) -> None:
        print(
            f"held out: AUC {report.auc:.3f}, Brier score {report.brier:.3f}, calibration error {report.ece:.3f}; "
            f"the small model is good enough for {report.good_enough:.1%}"
        )
        print(f"\n{'said':>8}{'seen':>8}{'n':>6}")
        for part in report.calibration:
            print(f"{part.predicted:>8.2f}{part.seen:>8.2f}{part.n:>6}")
        print(f"\n{'':<16}{'quality':>9}{'cost':>10}{'small writes':>14}")
        for name, each in (
            ("always small", report.always_small),
            ("always large", report.always_large),
            ("routed", report.routed),
        ):
            print(f"{name:<16}{_cells(each)}")

    try:
        outcomes = read_outcomes(log)
        fitted = fit(outcomes, target_quality, seed)
    except OutcomesError as error:
        return _fault(error)
    about = {"log": log.name, "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "target_quality": target_quality}
    model = replace(fitted.model, about=about | {"held_out": asdict(fitted.report)})
    print(f"{len(outcomes)} outcomes in {log}\n")
    _print_weights(model)
    print()
    print_report(fitted.report)
    kept = fitted.report.routed.quality / max(fitted.report.always_large.quality, 1e-9)
    saved = 1 - fitted.report.routed.cost / max(fitted.report.always_large.cost, 1e-9)
    print(
        f"\nfrom {model.threshold:.3f} on the small model writes: {kept:.1%} of the large model's quality (wanted: "
        f"{target_quality:.0%}), {saved:.1%} of its cost saved"
    )
    draft = out.with_name(f"{out.name}.draft")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(model.to_json(), encoding="utf-8")
        os.replace(draft, out)  # who reads it sees the old model or the new one
    except OSError as error:
        return _fault(f"cannot write {out}: {error.strerror}")
    print(f"it is in {out}; settings: routing: {{model: {out}}}")
    return 0


def print_model(file: Path | None, settings_file: Path) -> int:
    try:
        if file is None and (named := load_settings(settings_file).routing.model) is not None:
            file = Path(named)
        model = BUILT_IN if file is None else load_routing(file)
    except (RoutingModelError, SettingsError) as error:
        return _fault(error)
    print("the weights set by hand" if file is None else f"{file} ({model.fingerprint})")
    for name, value in model.about.items():
        if not isinstance(value, dict):
            print(f"{name}: {value}")
    print(f"the small model writes from a probability of {model.threshold:.3f} that it is good enough\n")
    _print_weights(model)
    return 0


def _print_weights(model: RoutingModel) -> None:
    print(f"{'feature':<20}{'weight':>8}{'mean':>9}{'scale':>9}   (bias {model.bias:+.3f})")
    for name, term in sorted(model.terms.items(), key=lambda item: -abs(item[1].weight)):
        print(f"{name:<20}{term.weight:>+8.3f}{term.mean:>9.3f}{term.scale:>9.3f}")


def _cells(each: Tally) -> str:
    return f"{each.quality:>9.3f}{each.cost:>10.4g}{each.small_share:>13.1%} "


def _fault(error: object) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1
