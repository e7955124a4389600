"""`raydesk ingest`: publishes documents as a searchable collection, and shows what is published."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ingestion.embedding import EncoderConfig
from ingestion.errors import IngestionError, TooManyRejectsError
from ingestion.report import as_table, rejects_as_lines
from ingestion.store import KnowledgeStore

DEFAULT_ROOT = ".raydesk/knowledge"
_DEFAULT = EncoderConfig()

app = typer.Typer(
    name="ingest",
    help="Make documents searchable: Markdown, text, HTML, PDF, DOCX, XLSX, CSV and JSONL.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

# The environment wins over the settings file, by the same names as in the service.
Settings = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        envvar="RAYDESK_SETTINGS",
        show_envvar=False,
        help="Settings file of the service: its knowledge and encoder sections.  [dim]of the one that runs here[/dim]",
    ),
]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose knowledge it is.")]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        envvar="RAYDESK_KNOWLEDGE__ROOT",
        show_envvar=False,
        help=f"Folder of all collections.  [dim]{DEFAULT_ROOT}[/dim]",
    ),
]


def _encoder_option(field: str, **options: Any) -> Any:
    return typer.Option(envvar=f"RAYDESK_ENCODER__{field.upper()}", show_envvar=False, **options)


@app.command()
def apply(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files and folders.", show_default=False)],
    collection: Annotated[str, typer.Option("--collection", "-c", help="Name of the collection.", show_default=False)],
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
    encoder: Annotated[
        str | None, _encoder_option("model", help=f"Folder or hub id.  [dim]{_DEFAULT.model}[/dim]")
    ] = None,
    query_prefix: Annotated[
        str | None, _encoder_option("query_prefix", help="Put before questions.  [dim]'query: '[/dim]")
    ] = None,
    passage_prefix: Annotated[
        str | None, _encoder_option("passage_prefix", help="Put before passages.  [dim]'passage: '[/dim]")
    ] = None,
    pooling: Annotated[Literal["mean", "cls"] | None, _encoder_option("pooling", help="[dim]mean[/dim]")] = None,
    max_tokens: Annotated[
        int | None, _encoder_option("max_tokens", min=8, help="Longer texts are cut.  [dim]256[/dim]")
    ] = None,
    precision: Annotated[Literal["fp32", "bf16"] | None, _encoder_option("precision", help="[dim]fp32[/dim]")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one embedder.")] = os.cpu_count() or 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Embedders at work at once.")] = 1,
    gpus: Annotated[float, typer.Option(min=0.0, help="GPUs of one embedder; 0 embeds on the CPU.")] = 0.0,
    max_reject_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Publish nothing if more of the documents are rejected.")
    ] = 0.2,
) -> None:
    """Publish what PATH… hold as the collection, in place of what it held before.

    Customers are answered from the old version until the new one is complete, and from the new one a second later.
    Chunks that have not changed keep their vectors, so a run over a few changed files takes seconds. A file that
    cannot be read is reported with its reason, and the others are published.

    Questions and answers: a CSV or XLSX file with the columns question and answer, or JSONL rows with these keys.
    Markdown files may begin with front matter, and rows may have columns, for title, language, topic, url, audience,
    valid_from and valid_until.

    The encoder has to be the service's: give --settings if it does not run in this folder.

    Example: raydesk ingest apply --collection help articles/ faq.csv
    """
    given: dict[str, Any] = {
        "model": encoder,
        "query_prefix": query_prefix,
        "passage_prefix": passage_prefix,
        "pooling": pooling,
        "max_tokens": max_tokens,
        "precision": precision,
        "threads": threads,
    }
    console = Console(stderr=True)
    try:
        config = _encoder(settings, given)
        _prepare_ray()
        from ingestion.job import ingest  # Ray and torch: --help need not wait for them

        with _Stages(console) as stages:
            report = ingest(
                paths,
                root=_root(settings, root),
                tenant=tenant,
                collection=collection,
                encoder=config,
                max_reject_share=max_reject_share,
                concurrency=concurrency,
                gpus_per_embedder=gpus,
                progress=stages.tell,
            )
    except IngestionError as error:
        if isinstance(error, TooManyRejectsError):
            console.print(*rejects_as_lines(error.rejects), sep="\n", crop=False)
        console.print(f"[red]Not published:[/red] {error}", highlight=False)
        raise typer.Exit(1) from error
    Console().print(as_table(report), crop=False)


@app.command()
def status(tenant: Tenant = "demo", settings: Settings = None, root: Root = None) -> None:
    """Show the collections, their published versions and how these were made."""
    folder = _root(settings, root)
    store = KnowledgeStore(folder)
    table = Table("collection", "version", "documents", "passages", "pairs", "rejects", "made at")
    try:
        for collection in store.collections(tenant):
            version = store.current_version(tenant, collection) or ""
            report = store.report(tenant, collection, version)
            keys = ("documents", "passages", "qa_pairs", "rejects", "started_at")
            table.add_row(collection, version, *(str(report.get(key, "?")) for key in keys))
    except IngestionError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if not table.row_count:
        typer.echo(f"Nothing is published for tenant '{tenant}' in {folder}.")
        return
    Console().print(table)


def _prepare_ray() -> None:
    """Ray reads these when it is imported."""
    # Under `uv run`, Ray would send the whole folder to its workers and build an environment there.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Its core writes warnings about Ray Data's own actors between our lines.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")


def _encoder(settings: Path | None, given: dict[str, Any]) -> EncoderConfig:
    """Options, then the settings file, then the defaults."""
    section = _section(settings, "encoder")
    known = {key: section[key] for key in given if key in section and key != "threads"}  # those are the service's
    return EncoderConfig(**known | {key: value for key, value in given.items() if value is not None})


def _root(settings: Path | None, root: Path | None) -> Path:
    return root or Path(_section(settings, "knowledge").get("root", DEFAULT_ROOT))


def _section(settings: Path | None, name: str) -> dict[str, Any]:
    """The service checks the file as a whole when it starts; ingestion knows only what it needs of it."""
    if settings is None:
        return {}
    try:
        content = yaml.safe_load(settings.read_text(encoding="utf-8")) or {}
        return dict(content.get(name) or {})
    except (OSError, yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise typer.BadParameter(f"{settings} cannot be read: {error}", param_hint="--settings") from error


class _Stages:
    """Bars where somebody sits, and otherwise a line a stage: the launcher shows lines."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=console) if sys.stderr.isatty() else None
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, int] = {}

    def __enter__(self) -> _Stages:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *details: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def tell(self, stage: str, done: int, total: int | None) -> None:
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total)
            self._bars.update(self._tasks[stage], completed=done)
            return
        tenth = 10 * done // total if total else 0
        if self._told.get(stage) != tenth:
            self._told[stage] = tenth
            print(f"{stage} {done} of {total}" if total is not None else stage, file=sys.stderr, flush=True)


if __name__ == "__main__":
    app(prog_name="raydesk ingest")
