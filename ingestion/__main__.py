"""`raydesk ingest`: publishes documents as searchable collections, shows, changes and mends what is published."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import typer
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

# Before anything loads OpenMP: customers are answered on the same cores, and threads that spin take them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from ingestion import edit
from ingestion.document import Parsed, clean, read_details
from ingestion.errors import IngestionError, NothingToIngestError, TooManyRejectsError, UnknownVersionError
from ingestion.isolated import IsolatedParser, Limits
from ingestion.propose import propose, vllm_process, write_csv
from ingestion.reading import ReadLimits
from ingestion.report import Plan, as_table, plan_as_table, rejects_as_lines
from ingestion.sources import expand, read_url_list
from ingestion.store import KnowledgeStore
from ingestion.web import WebLimits
from models.embedder import EncoderConfig
from models.protocols import EmbedderRecipe

DEFAULT_ROOT = ".raydesk/knowledge"
_DEFAULT = EncoderConfig()
_MAX_EMBEDDERS = 8  # by default: each takes some 1 GB

app = typer.Typer(
    name="ingest",
    help="Make documents searchable: Markdown, text, HTML, PDF, Word, Excel, CSV, JSONL, Parquet, web pages.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

Settings = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        envvar="RAYDESK_SETTINGS",
        show_envvar=False,
        help="Settings file of the service, or its file for `serve deploy`: knowledge and encoder are taken from it.  "
        "[dim]of the one that runs here[/dim]",
    ),
]
Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files and folders.", show_default=False)]
Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE…",
        help="Files, folders, s3://bucket/prefix, gs://…, hf://owner/name, addresses of pages and of sitemaps.",
        show_default=False,
    ),
]
UrlLists = Annotated[
    list[Path] | None,
    typer.Option(
        "--urls",
        exists=True,
        dir_okay=False,
        help="A file with one address of a page or sitemap a line. May be repeated.",
    ),
]
OwnHosts = Annotated[
    list[str] | None,
    typer.Option("--own-host", help="A host of the company: its address may be private. May be repeated."),
]
FileTime = Annotated[
    int, typer.Option("--file-time-s", min=1, help="Seconds to read a page, or a document, of a file in, at most.")
]
FileMemory = Annotated[int, typer.Option("--file-memory-mb", min=256, help="Memory to read a file in, at most.")]
MaxPages = Annotated[int, typer.Option("--max-pages", min=1, help="Web pages fetched in one run, at most.")]
_MAX_PAGES = WebLimits().max_pages
_FILE_TIME_S, _FILE_MEMORY_MB = Limits().time_s, Limits().memory_bytes // 1_000_000
_BATCH_WORKERS = 6
Collection = Annotated[str, typer.Option("--collection", "-c", help="Name of the collection.", show_default=False)]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose knowledge it is.")]
Root = Annotated[
    str | None,
    typer.Option(
        "--root",
        help=f"Folder of all collections, or s3://bucket/prefix, gs://bucket/prefix.  [dim]{DEFAULT_ROOT}[/dim]",
    ),
]


Encoder = Annotated[
    str | None, typer.Option("--encoder", help=f"Folder or hub id.  [dim]{_DEFAULT.model}[/dim]", show_default=False)
]


@app.command()
def apply(
    collection: Collection,
    sources: Sources = None,
    urls: UrlLists = None,
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
    encoder: Encoder = None,
    query_prefix: Annotated[str | None, typer.Option(help="Put before questions.  [dim]'query: '[/dim]")] = None,
    passage_prefix: Annotated[str | None, typer.Option(help="Put before passages.  [dim]'passage: '[/dim]")] = None,
    pooling: Annotated[Literal["mean", "cls"] | None, typer.Option(help="[dim]mean[/dim]")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Longer texts are cut.  [dim]256[/dim]")] = None,
    precision: Annotated[Literal["fp32", "bf16", "auto"] | None, typer.Option(help="[dim]auto[/dim]")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one embedder.")] = 1,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Embedders at work at once.  [dim]one a core, at most 8; 1 on a GPU[/dim]")
    ] = None,
    gpus: Annotated[float, typer.Option(min=0.0, help="GPUs of one embedder; 0 embeds on the CPU.")] = 0.0,
    max_reject_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Publish nothing if more of the documents are rejected.")
    ] = 0.2,
    own_hosts: OwnHosts = None,
    max_pages: MaxPages = _MAX_PAGES,
    file_time_s: FileTime = _FILE_TIME_S,
    file_memory_mb: FileMemory = _FILE_MEMORY_MB,
) -> None:
    """Publish what SOURCE… hold as the collection, in place of what earlier runs brought.

    Customers are answered from the old version until the new one is complete, and from the new one a second later.
    Texts that have not changed keep their vectors, so a run over a few changed files takes seconds. A file that
    cannot be read is reported with its reason; what was published of it stays, and the others are published. What was
    put in by hand stays, too.

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
        if not gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # few texts are embedded here, and the GPUs may be the service's
        from ingestion.job import ingest  # Ray and torch: --help need not wait for them

        with _Stages(console) as stages:
            report = ingest(
                _named_sources(sources, urls),
                root=_root(settings, root),
                tenant=tenant,
                collection=collection,
                encoder=config.located(),
                parts=_parts(settings),
                limits=_read_limits(own_hosts, max_pages, file_time_s, file_memory_mb),
                max_reject_share=max_reject_share,
                concurrency=concurrency or (1 if gpus else min(os.cpu_count() or 1, _MAX_EMBEDDERS)),
                gpus_per_embedder=gpus,
                progress=stages.tell,
            )
    except IngestionError as error:
        if isinstance(error, TooManyRejectsError):
            console.print(*rejects_as_lines(error.rejects), sep="\n", crop=False)
        console.print(f"[red]Not published:[/red] {error}", highlight=False)
        raise typer.Exit(1) from error
    _show(as_table(report))


class CachedAnswers(Protocol):
    """What the application has stored, where it is known."""

    def count(self, plan: Plan, encoder: EmbedderRecipe, store: str | None) -> str:
        """How many answers the plan would make stale, in words. store: where they lie, as the settings say."""


@app.command()
def plan(
    context: typer.Context,
    collection: Collection,
    sources: Sources = None,
    urls: UrlLists = None,
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
    encoder: Encoder = None,
    own_hosts: OwnHosts = None,
    max_pages: MaxPages = _MAX_PAGES,
    file_time_s: FileTime = _FILE_TIME_S,
    file_memory_mb: FileMemory = _FILE_MEMORY_MB,
) -> None:
    """Show what `apply` with the same SOURCE… would change, and how long it would take. Changes nothing.

    Example: raydesk ingest plan --collection help articles/ faq.csv
    """
    console = Console(stderr=True)
    with _errors_said("Not planned"):
        config = _encoder(settings, {"model": encoder})
        _prepare_ray()
        from ingestion import job

        with _Stages(console) as stages:
            made = job.plan(
                _named_sources(sources, urls),
                root=_root(settings, root),
                tenant=tenant,
                collection=collection,
                encoder=config.located(),
                limits=_read_limits(own_hosts, max_pages, file_time_s, file_memory_mb),
                progress=stages.tell,
            )
        cached: CachedAnswers | None = context.obj
        elsewhere = "known to 'raydesk ingest plan' on the application's machine"
        stale_answers = elsewhere if cached is None else cached.count(made, config.located(), _cache_url(settings))
    _show(plan_as_table(made, stale_answers))


@app.command()
def put(
    files: Files,
    collection: Collection,
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
    name: Annotated[
        str | None, typer.Option("--as", help="Id of the document it takes the place of, if there is one file.")
    ] = None,
) -> None:
    """Put in the documents of FILE… by hand, in place of those with the same ids; all others stay.

    They are live a second later, and a later `apply` leaves them alone. `documents` shows the ids.

    Example: raydesk ingest put --collection help --as articles/returns.md returns.md
    """
    with _errors_said("Not published"):
        parsed = _parsed(files, name)
        for reject in parsed.rejects:
            typer.echo(f"Rejected: {reject.source}: {reject.reason}", err=True)
        if not parsed.documents:
            raise NothingToIngestError("there is no document in what was given")
        edited = edit.put(_store(settings, root), tenant, collection, parsed.documents, _encoder(settings, {}).load())
    _say_edit(edited)
    if parsed.rejects:
        raise typer.Exit(1)


@app.command()
def pair(
    question: Annotated[str, typer.Option(help="As a customer asks it.", show_default=False)],
    answer: Annotated[str, typer.Option(help="Given word for word.", show_default=False)],
    collection: Collection,
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
    language: Annotated[str, typer.Option(help="en or zh.  [dim]found out[/dim]")] = "",
    audience: Annotated[str, typer.Option(help="Who may see it.")] = "public",
) -> None:
    """Put in one curated question-answer pair by hand; the same question again takes the new answer.

    Example: raydesk ingest pair -c help --question "Do you gift-wrap?" --answer "Yes, for 3 euros."
    """
    with _errors_said("Not published"):
        details = read_details({"language": language, "audience": audience})
        document = edit.pair_document(clean(question), clean(answer), details)
        if not (document.question and document.answer):
            raise NothingToIngestError("a pair needs a question and an answer")
        edited = edit.put(_store(settings, root), tenant, collection, [document], _encoder(settings, {}).load())
    _say_edit(edited)


@app.command()
def delete(
    documents: Annotated[list[str], typer.Argument(metavar="DOCUMENT…", help="Ids, as `documents` shows them.")],
    collection: Collection,
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
) -> None:
    """Take documents out. A later `apply` of files that hold them brings them back.

    Example: raydesk ingest delete -c help articles/old-promotion.md
    """
    with _errors_said("Nothing was deleted"):
        edited = edit.delete(_store(settings, root), tenant, collection, documents)
    _say_edit(edited)


@app.command("documents")
def list_documents(
    collection: Collection,
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
    match: Annotated[str, typer.Option(help="Only those whose id, title or source has this in it.")] = "",
) -> None:
    """Show the documents of the published version: their ids, titles, and how they came in."""
    with _errors_said("Not shown"):
        store = _store(settings, root)
        found = store.documents(tenant, collection, _current(store, tenant, collection))
    table = _columns("document", "title", "source", "audience", "chunks", "by")
    for info in found:
        if match.casefold() in f"{info.id} {info.title} {info.source}".casefold():
            table.add_row(info.id, info.title, info.source, info.audience, str(info.chunks), info.origin)
    _show(table)


@app.command()
def status(tenant: Tenant = "demo", settings: Settings = None, root: Root = None) -> None:
    """Show the collections, their published versions and how these were made."""
    folder = _root(settings, root)
    table = _columns("collection", "version", "documents", "passages", "pairs", "rejects", "made by", "made at")
    with _errors_said("Not shown"):
        store = KnowledgeStore(folder)
        for collection in store.collections(tenant):
            version = store.current_version(tenant, collection) or ""
            manifest = store.manifest(tenant, collection, version)
            documents = len(store.documents(tenant, collection, version))
            counts = (documents, manifest.chunks - manifest.pairs, manifest.pairs)
            rejects = store.report(tenant, collection, version).get("rejects", 0)
            table.add_row(collection, version, *map(str, counts), str(rejects), manifest.made_by, manifest.made_at[:19])
    if not table.row_count:
        typer.echo(f"Nothing is published for tenant '{tenant}' in {folder}.")
        return
    _show(table)


@app.command()
def versions(collection: Collection, tenant: Tenant = "demo", settings: Settings = None, root: Root = None) -> None:
    """Show the kept versions of a collection, the oldest first; * is the published one.

    delta: chunks that were added since the base. gone: stored chunks that are no longer found, until `compact`.
    """
    table = _columns("", "version", "from", "by", "made at", "chunks", "pairs", "delta", "gone", "MB")
    with _errors_said("Not shown"):
        store = _store(settings, root)
        current = _current(store, tenant, collection)
        for version in store.versions(tenant, collection):
            made = store.manifest(tenant, collection, version)
            counts = (made.chunks, made.pairs, made.delta_rows, made.rows - made.chunks)
            table.add_row(
                "*" if version == current else "", version, made.parent or "", made.made_by, made.made_at[:16],
                *map(str, counts), f"{made.bytes / 1e6:.1f}",
            )  # fmt: skip
    _show(table)


@app.command()
def rollback(
    collection: Collection,
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
    to: Annotated[str | None, typer.Option(help="A kept version.  [dim]the one it was made from[/dim]")] = None,
) -> None:
    """Publish an earlier version again; customers are answered from it within two seconds."""
    with _errors_said("Not rolled back"):
        version = _store(settings, root).rollback(tenant, collection, to)
    typer.echo(f"{tenant}/{collection} is {version} again.")


@app.command()
def compact(collection: Collection, tenant: Tenant = "demo", settings: Settings = None, root: Root = None) -> None:
    """Fold small changes into a new base, and build its indexes anew from the stored chunks.

    Also mends a version whose indexes were damaged on the disk.
    """
    with _errors_said("Not compacted"):
        version = _store(settings, root).compact(tenant, collection)
    typer.echo(f"{tenant}/{collection} is {version}.")


@app.command()
def verify(
    collection: Collection,
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
    version: Annotated[str | None, typer.Option(help="[dim]all that are kept[/dim]")] = None,
) -> None:
    """Compare every file of the kept versions with its checksum. Exit status 1 if one differs."""
    store, damaged = _store(settings, root), False
    with _errors_said("Not verified"):
        named = [version] if version else store.versions(tenant, collection)
        current = _current(store, tenant, collection)
    for name in named:
        try:
            made = store.verify(tenant, collection, name)
            mark = " (published)" if name == current else ""
            typer.echo(f"{name}{mark}: {made.chunks} chunks, {made.bytes / 1e6:.1f} MB, as published")
        except IngestionError as error:
            damaged = True
            typer.echo(f"{name}: {error}", err=True)
    if damaged:
        raise typer.Exit(1)


@app.command("propose")
def propose_pairs(
    collection: Collection,
    out: Annotated[Path, typer.Option(help="CSV file to write, for reviewing.")] = Path("proposed-pairs.csv"),
    tenant: Tenant = "demo",
    settings: Settings = None,
    root: Root = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or hub id.  [dim]of the service's largest language model[/dim]")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Passages to ask about, at most.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Passages in one batch.")] = 32,
    concurrency: Annotated[int, typer.Option(min=1, help="Copies of the model at work at once.")] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs of each copy; 0: a CPU.  [dim]as the service's[/dim]")
    ] = None,
) -> None:
    """Let a language model propose question-answer pairs from the published passages. Changes nothing.

    Only what its passage bears out is kept, with that passage beside it. Review the file, delete what is not right, and
    put the rest in: raydesk ingest put -c COLLECTION proposed-pairs.csv
    """
    console = Console(stderr=True)
    with _errors_said("Nothing was proposed"):
        store = _store(settings, root)
        version = _current(store, tenant, collection)
        tier = _largest_tier(settings)
        source = model or tier.get("model_source")
        if source is None:
            raise typer.BadParameter("name one: the settings have no language model", param_hint="--model")
        stored = store.chunks(tenant, collection, version)
        asked = [chunk for chunk in stored if chunk.kind == "passage"][:limit]
        known = [chunk.question for chunk in stored if chunk.kind == "qa"]
        _prepare_ray()
        from ingestion.ray_session import quiet_data, ray_session

        folder = Path(source)
        # Templates, tokens and text have workers of their own beside the model.
        with ray_session(concurrency + _BATCH_WORKERS), quiet_data(show_bars=sys.stderr.isatty()):
            process = vllm_process(
                str(folder.resolve()) if folder.is_dir() else source,
                {} if model else tier.get("engine_kwargs", {}),
                gpus=int(tier.get("replicas", {}).get("num_gpus", 0)) if gpus is None else gpus,
                concurrency=concurrency,
                batch_size=batch,
                env=tier.get("env", {}),
            )
            console.print(f"Asking {source} about {len(asked)} passages; loading it may take minutes.", highlight=False)
            count = write_csv(out, propose(asked, known, process))
    typer.echo(f"{count} pairs proposed in {out}. Review it, then: raydesk ingest put -c {collection} {out}")


def _store(settings: Path | None, root: str | None) -> KnowledgeStore:
    return KnowledgeStore(_root(settings, root), parts=_parts(settings))


def _parts(settings: Path | None) -> int:
    return int(_section(settings, "knowledge").get("parts", 1))


def _cache_url(settings: Path | None) -> str | None:
    return _section(settings, "cache").get("url")


def _current(store: KnowledgeStore, tenant: str, collection: str) -> str:
    version = store.current_version(tenant, collection)
    if version is None:
        raise UnknownVersionError(f"there is no published collection '{collection}' for tenant '{tenant}'")
    return version


def _named_sources(sources: list[str] | None, urls: list[Path] | None) -> list[str]:
    named = [*(sources or ()), *(url for file in urls or () for url in read_url_list(file))]
    if not named:
        raise NothingToIngestError("name files, folders or addresses")
    return named


def _read_limits(own_hosts: list[str] | None, max_pages: int, file_time_s: int, file_memory_mb: int) -> ReadLimits:
    usual = Limits()
    file = replace(
        usual,
        time_s=file_time_s,
        total_s=max(usual.total_s, file_time_s),
        memory_bytes=file_memory_mb * 1_000_000,
    )
    own = frozenset(host.lower() for host in own_hosts or ())
    return ReadLimits(file, WebLimits(own_hosts=own, max_pages=max_pages))


def _parsed(paths: list[Path], name: str | None) -> Parsed:
    """All that the files hold, read as `apply` reads them."""
    files = expand(paths)
    if name is not None and len(files) != 1:
        raise typer.BadParameter(f"names one document, but there are {len(files)} files", param_hint="--as")
    parsed = Parsed()
    with IsolatedParser(Limits()) as parser:
        for file in files:
            of_it = parser.parse(file if name is None else replace(file, name=name))
            parsed.documents += of_it.documents
            parsed.rejects += of_it.rejects
    return parsed


def _say_edit(edited: edit.Edit | None) -> None:
    if edited is None:
        typer.echo("That is what is published already; nothing has changed.")
        return
    typer.echo(
        f"{edited.version}: {edited.added} chunks put in ({edited.embedded} embedded), {edited.removed} taken out."
    )


def _columns(*names: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _show(shown: RenderableType) -> None:
    """In full where nobody looks at it: a pipe has no width."""
    Console(width=None if sys.stdout.isatty() else 200).print(shown, crop=False)


@contextmanager
def _errors_said(what: str) -> Iterator[None]:
    """An error of ours is a line, not a traceback."""
    try:
        yield
    except IngestionError as error:
        Console(stderr=True).print(f"[red]{what}:[/red] {error}", highlight=False)
        raise typer.Exit(1) from error


def _prepare_ray() -> None:
    """Ray reads these when it is imported."""
    # Under `uv run`, Ray would send the whole folder to its workers and build an environment there.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Its core writes warnings about Ray Data's own actors between our lines.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")


def _encoder(settings: Path | None, given: dict[str, Any]) -> EncoderConfig:
    """Options, then the service's settings, then the defaults."""
    section = _section(settings, "encoder")
    known = {field.name: section[field.name] for field in fields(EncoderConfig) if field.name in section}
    known.pop("threads", None)  # those are the service's
    if "max_tokens" in known:
        known["max_tokens"] = int(known["max_tokens"])
    return EncoderConfig(**known | {key: value for key, value in given.items() if value is not None})


def _root(settings: Path | None, root: str | None) -> str:
    return root or str(_section(settings, "knowledge").get("root", DEFAULT_ROOT))


def _section(settings: Path | None, name: str) -> dict[str, Any]:
    """Of the settings file; the environment wins over it, by the same names as in the service."""
    prefix = f"RAYDESK_{name.upper()}__"
    environment = {key.removeprefix(prefix).lower(): os.environ[key] for key in os.environ if key.startswith(prefix)}
    return dict(_content(settings).get(name) or {}) | environment


def _largest_tier(settings: Path | None) -> dict[str, Any]:
    return dict((_content(settings).get("tiers") or [{}])[-1])


def _content(settings: Path | None) -> dict[str, Any]:
    """The service checks the file as a whole when it starts; ingestion knows only what it needs of it.

    In a file for `serve deploy` the settings are the arguments of the first application; the others are its models.
    """
    try:
        content = dict(yaml.safe_load(settings.read_text(encoding="utf-8")) or {}) if settings else {}
        return dict(content["applications"][0]["args"]) if "applications" in content else content
    except (OSError, yaml.YAMLError, TypeError, ValueError, LookupError) as error:
        raise typer.BadParameter(f"{settings} cannot be read: {error}", param_hint="--settings") from error


class _Stages:
    """Bars where somebody sits, and otherwise a line a stage: the launcher shows lines."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description:8}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[speed]}"),
        )
        self._bars = Progress(*columns, console=console) if sys.stderr.isatty() else None
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, int] = {}
        self._began_s: dict[str, float] = {}

    def __enter__(self) -> _Stages:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *details: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def tell(self, stage: str, done: int, total: int | None) -> None:
        elapsed_s = time.monotonic() - self._began_s.setdefault(stage, time.monotonic())
        speed = f"{done / elapsed_s:.0f}/s" if done and elapsed_s >= 1.0 else ""
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, speed="")
            self._bars.update(self._tasks[stage], completed=done, speed=speed)
            return
        tenth = 10 * done // total if total else 0
        if self._told.get(stage) != tenth:
            self._told[stage] = tenth
            counted = "" if total is None else f" {done} of {total}{f' ({speed})' if speed else ''}"
            print(f"{stage}{counted}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    app(prog_name="raydesk ingest")
