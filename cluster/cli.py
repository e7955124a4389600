"""The console command `raydesk`. Only reads arguments: each command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cluster.intents_cli import intents
from cluster.routing_cli import routing

app = typer.Typer(
    name="raydesk",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="""Raydesk: self-hosted customer-service answering on Ray Serve.

    \b
    raydesk serve --sample            start here, with the sample company, and open http://127.0.0.1:8000/
    raydesk status                    what runs in this folder
    raydesk turns                     the newest turns of the log; --rated down: those that did not help, and why
    raydesk ingest apply ...          publish documents as a collection
    raydesk intents train ...         train the intent classifier on your own examples
    raydesk routing fit ...           fit which questions the small model answers well enough
    raydesk cache report              what the cache holds and has saved; 'explain' and 'evict' beside it
    raydesk keys create ...           make an API key, for other machines to use
    raydesk stop                      end what `raydesk serve` started

    All commands work on the current folder: its settings file, and its .raydesk folder with models, knowledge, the
    turn log and logs. `make serve` sets everything up first.""",
)
keys = typer.Typer(no_args_is_help=True, help="API keys: needed as soon as others than this machine may ask.")
app.add_typer(keys, name="keys")
cache = typer.Typer(no_args_is_help=True, help="The cache of the running application: what is in it, and why.")
app.add_typer(cache, name="cache")
app.add_typer(intents, name="intents")
app.add_typer(routing, name="routing")
rules = typer.Typer(no_args_is_help=True, help="Rules and flows: what sure intents are answered with.")
app.add_typer(rules, name="rules")

STATE_VARIABLE = "RAYDESK_STATE"
StateOption = Annotated[
    Path,
    typer.Option("--state", envvar=STATE_VARIABLE, show_envvar=False, help="Folder of logs, cache and process state."),
]
DEFAULT_STATE = Path(".raydesk")


@app.command()
def serve(
    settings: Annotated[Path, typer.Option("--settings", help="Settings file (YAML).")] = Path("cluster/local.yaml"),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="HTTP port; all others are chosen.")] = 8000,
    sample: Annotated[bool, typer.Option("--sample", help="Publish the sample company's knowledge first.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready; 'raydesk stop' ends it.")] = False,
    state: StateOption = DEFAULT_STATE,
    memory_check: Annotated[bool, typer.Option(help="Refuse to start when memory is short.")] = True,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show how long every step takes.")] = False,
) -> None:
    """Start Ray, Valkey and the application, and keep watch until Ctrl-C.

    Missing models and a missing intent head are built first. It is ready when rules, curated answers and cached
    answers work; language models follow, and a line tells when each writes. Logs are in .raydesk/logs.
    """
    from cluster.launcher import ServeOptions
    from cluster.launcher import serve as launch

    if detach:
        from cluster.detached import serve_detached

        arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
        raise typer.Exit(serve_detached(state, arguments))
    raise typer.Exit(launch(ServeOptions(settings, port, state, sample, memory_check, verbose)))


@app.command()
def stop(state: StateOption = DEFAULT_STATE) -> None:
    """End what 'raydesk serve' started in this folder, and only that."""
    from cluster.detached import stop_running

    raise typer.Exit(stop_running(state))


@app.command()
def status(state: StateOption = DEFAULT_STATE) -> None:
    """Say what runs in this folder: rooms, language models, addresses. Status 1 when nothing does."""
    from cluster.detached import print_status

    raise typer.Exit(print_status(state))


@app.command()
def turns(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose turns.")] = "demo",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many of the newest.")] = 20,
    rated: Annotated[
        Literal["up", "down"] | None,
        typer.Option("--rated", help="Only turns that customers rated so, the latest rated, with their comments."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line, with every column.")] = False,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Show the newest turns of the running application's log: what was asked, which path answered, how long it took."""
    from cluster.turns import print_turns

    raise typer.Exit(print_turns(state, tenant, limit, as_json, rated))


@rules.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="The rules file (YAML).")],
    head: Annotated[
        Path | None,
        typer.Option("--head", help="Folder of the trained intent head; none: the one of the state folder."),
    ] = None,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Say what is wrong with a rules file, each problem with its line and key. Status 1 when something is.

    Warnings are about what is valid and has no effect: an intent that the trained head does not know, a slot that no
    rule asks for.
    """
    from cluster.rules_check import check_rules

    raise typer.Exit(check_rules(file, head or state / "models" / "intent-head"))


@cache.command("explain")
def explain_cached(
    question: Annotated[str, typer.Argument(help="As a customer would ask it.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Whose answers.")] = "demo",
    collection: Annotated[str, typer.Option("--collection", help="From which collection.")] = "help",
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Show the stored questions nearest to this one: what the verifier says of each, and whether it would be a hit."""
    from cluster.cache import explain

    raise typer.Exit(explain(state, question, tenant, collection))


@cache.command("evict")
def evict_cached(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose answers.")] = "demo",
    answer_id: Annotated[str | None, typer.Option("--id", help="The answer of this id.")] = None,
    question: Annotated[str | None, typer.Option("--question", help="What is stored for this very question.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All answers of the tenant.")] = False,
    block: Annotated[bool, typer.Option("--block", help="And store none for the question for a while.")] = False,
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Take answers out of the cache; all replicas forget them within a second."""
    from cluster.cache import evict

    raise typer.Exit(evict(state, tenant, answer_id, question, everything, block))


@cache.command("report")
def report_cached(state: StateOption = DEFAULT_STATE) -> None:
    """Count what the cache holds, its hits by tier, what it refused and evicted and why, and what it saved."""
    from cluster.cache import report

    raise typer.Exit(report(state))


@keys.command("create")
def create(
    key_id: Annotated[str, typer.Option("--id", help="Name of the key, shown in logs.")],
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant that the key speaks for.")],
    audience: Annotated[list[str], typer.Option("--audience", help="May be given more than once.")] = ["public"],  # noqa: B006
    origin: Annotated[
        list[str],
        typer.Option("--origin", help="For a key in web pages: theirs, e.g. https://shop.example. More than once."),
    ] = [],  # noqa: B006
    file: Annotated[Path | None, typer.Option("--file", help="The file of auth.keys_file, to be added to.")] = None,
) -> None:
    """Make an API key: it is shown once, and only its hash goes into the settings, or a file."""
    from pydantic import ValidationError

    from cluster.keys import add_key, create_key
    from deployments.http.key_file import KeyFileError

    try:
        new = create_key(key_id, tenant, audience, origin)
        if file is not None:
            add_key(file, new.entry)
    except ValidationError as error:
        for item in error.errors():
            typer.echo(f"{'.'.join(map(str, item['loc']))}: {item['msg']}", err=True)
        raise typer.Exit(2) from error
    except (KeyFileError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"The key, shown only now:\n\n  {new.secret}\n")
    if file is None:
        typer.echo(f"Add this to the settings file and start again:\n\n{new.yaml}")
    else:
        typer.echo(f"Its hash is in {file}; an application with that auth.keys_file takes it within seconds.")
    typer.echo("Clients send it as the header 'Authorization: Bearer <key>'.")


@keys.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Option("--id", help="Name of the key.")],
    file: Annotated[Path, typer.Option("--file", help="The file of auth.keys_file.")],
) -> None:
    """Take a key out of a key file: within seconds nobody comes in by it."""
    from cluster.keys import revoke_key
    from deployments.http.key_file import KeyFileError

    try:
        revoke_key(file, key_id)
    except (KeyFileError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"The key '{key_id}' is revoked.")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    short_help="Publish documents as a collection (raydesk ingest --help).",
)
def ingest(context: typer.Context) -> None:
    """Passed on as it is: reading documents has a command line of its own, which is slow to import."""
    from cluster.detached import join_running

    state = Path(os.environ.get(STATE_VARIABLE, DEFAULT_STATE))
    join_running(state)
    from cluster.stale_answers import StaleAnswers
    from ingestion.__main__ import app as ingestion_app

    ingestion_app(args=context.args, prog_name="raydesk ingest", obj=StaleAnswers(state))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
