"""`raydesk routing`: only reads arguments; each command imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

routing = typer.Typer(no_args_is_help=True, help="Routing: which language model writes, fitted to logged outcomes.")


@routing.command()
def fit(
    log: Annotated[
        Path,
        typer.Option(
            "--log",
            help="JSON lines: question, small_quality, large_quality (0-1), small_cost, large_cost, and features as "
            "the turn log has them (route_features).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="File of the fitted model, for routing.model.")],
    target_quality: Annotated[
        float, typer.Option("--target-quality", min=0.5, max=1.0, help="Share of the large model's quality to keep.")
    ] = 0.95,
    seed: Annotated[int, typer.Option("--seed", help="Of the cross-validation's split.")] = 0,
) -> None:
    """Fit which questions the small model answers well enough, and from which probability on it may.

    Prints weights, calibration, and what quality and cost come to, all on questions that were held out. A running
    application whose settings name the file takes it over within seconds.
    """
    from cluster.routing import fit_and_write

    raise typer.Exit(fit_and_write(log, out, target_quality, seed))


@routing.command()
def show(
    file: Annotated[
        Path | None, typer.Argument(help="A fitted model; none: that of the settings file.", show_default=False)
    ] = None,
    settings: Annotated[Path, typer.Option("--settings", help="Settings file (YAML).")] = Path("cluster/local.yaml"),
) -> None:
    """Print a routing model: its weights, its threshold, and how it was made."""
    from cluster.routing import print_model

    raise typer.Exit(print_model(file, settings))
