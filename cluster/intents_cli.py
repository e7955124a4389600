"""`raydesk intents`: only reads arguments; each command imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

intents = typer.Typer(no_args_is_help=True, help="Intents: train the classifier, judge it, find what it lacks.")

FileArgument = Annotated[
    Path, typer.Argument(help="YAML (intents: [{name, examples}]) or CSV (columns text,category).", show_default=False)
]
SettingsOption = Annotated[Path, typer.Option("--settings", help="Settings file (YAML): encoder, head, rules.")]
OosOption = Annotated[str, typer.Option("--oos-label", help="The file's name for questions that no intent covers.")]
DEFAULT_SETTINGS = Path("cluster/local.yaml")


@intents.command()
def train(
    file: FileArgument,
    target_precision: Annotated[
        float, typer.Option("--target-precision", min=0.5, max=1.0, help="Share of answers that must be right.")
    ] = 0.99,
    settings: SettingsOption = DEFAULT_SETTINGS,
    oos_label: OosOption = "out_of_scope",
    strict: Annotated[bool, typer.Option("--strict", help="Publish nothing when there are warnings.")] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 2,
    fine_tune: Annotated[
        bool | None,
        typer.Option(
            "--fine-tune/--no-fine-tune", help="Tune the encoder's top layers, too.  [default: where it pays]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the cross-validation's split.")] = 0,
) -> None:
    """Train a new version of the intent head and publish it; a running application takes it over by itself.

    Its model card (card.md beside it) says how good it is and from which confidence on it reaches the target
    precision. Files that cannot be trained from are refused by line, and the version at work stays.
    """
    from cluster.intents import TrainOptions, train_and_publish

    options = TrainOptions(target_precision, oos_label, strict, threads, seed, fine_tune)
    raise typer.Exit(train_and_publish(file, settings, options))


@intents.command()
def evaluate(
    file: FileArgument,
    settings: SettingsOption = DEFAULT_SETTINGS,
    oos_label: OosOption = "out_of_scope",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Judge the published head on questions that it was not trained on."""
    from cluster.intents import print_evaluation

    raise typer.Exit(print_evaluation(file, settings, oos_label, as_json))


@intents.command()
def suggest(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose turns.")] = "demo",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many of the newest turns.")] = 2000,
    least: Annotated[int, typer.Option("--least", min=2, help="Different questions that make a candidate.")] = 3,
    settings: SettingsOption = DEFAULT_SETTINGS,
    state: Annotated[
        Path, typer.Option("--state", envvar="RAYDESK_STATE", show_envvar=False, help="Folder of the running process.")
    ] = Path(".raydesk"),
) -> None:
    """Find candidates for new intents: questions of the running application's turn log that no intent covers.

    Prints them in groups of like meaning, with how often they were asked, as YAML for intents.yaml.
    """
    from cluster.intent_suggestions import print_suggestions

    raise typer.Exit(print_suggestions(state, settings, tenant, limit, least))


@intents.command()
def show(settings: SettingsOption = DEFAULT_SETTINGS) -> None:
    """Print the model card of the published head."""
    from cluster.intents import print_card

    raise typer.Exit(print_card(settings))
