"""What a run did: counts, seconds and rejects; for people in the terminal and for machines beside the version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ingestion.chunk import Chunk
from ingestion.difference import Difference
from ingestion.document import Reject

_SHOWN_REJECTS = 20


@dataclass(frozen=True, slots=True)
class IngestReport:
    tenant: str
    collection: str
    version: str
    embedder_identity: str
    started_at: str  # ISO 8601, UTC
    files: int
    documents: int  # kept: without rejects and duplicates; a pair is a document
    qa_pairs: int
    passages: int
    duplicates: int  # documents that said what another one says
    new_documents: int
    changed_documents: int
    deleted_documents: int
    kept_documents: int  # that could not be read this time, and stay as they were
    reused_vectors: int  # chunks whose vectors the published version had, or another chunk of the same text
    embedded: int  # chunks whose vectors were made
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()  # what its reader should know
    seconds: dict[str, float] = field(default_factory=dict)  # by stage

    @property
    def chunks(self) -> int:
        return self.qa_pairs + self.passages

    def to_json(self) -> dict[str, Any]:
        """Without the rejects, which have a file of their own, and without the version, which it lies in."""
        content = asdict(self)
        del content["version"]
        content["rejects"] = len(self.rejects)
        content["chunks"] = self.chunks
        return content


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do."""

    tenant: str
    collection: str
    version: str | None  # that is published now
    files: int
    documents: int
    duplicates: int
    difference: Difference
    to_embed: int  # texts
    embed_s: float | None  # as fast as the last run was; None where there was none
    rebuilds: bool = False  # nothing of the published version can be kept
    gone: frozenset[tuple[str, str]] = frozenset()  # as of `VersionChange`
    came: tuple[Chunk, ...] = ()  # as `VersionChange.added`
    rejects: tuple[Reject, ...] = ()
    notes: tuple[str, ...] = ()


def plan_as_table(plan: Plan, stale_answers: str) -> RenderableType:
    """stale_answers: how many of the cached ones, in words."""
    difference = plan.difference
    table = _table(f"{plan.tenant}/{plan.collection}: what would change since {plan.version or 'nothing'}")
    rows = {
        "files": plan.files,
        "documents": plan.documents,
        "duplicates to leave out": plan.duplicates,
        "documents to add": difference.new_documents,
        "documents to change": difference.changed_documents,
        "documents to delete": difference.deleted_documents,
        "unreadable, to stay as they are": difference.kept_documents,
        "chunks to write": len(difference.added),
        "chunks to take out": len(difference.removed),
        "chunks unchanged": difference.unchanged,
        "texts to embed": plan.to_embed,
    }
    for name, count in rows.items():
        table.add_row(name, str(count))
    if plan.embed_s is not None:
        table.add_row("seconds to embed, as fast as before", f"{plan.embed_s:.0f}")
    table.add_row("cached answers that become stale", stale_answers)
    return Group(table, *(f"Note: {note}" for note in plan.notes), *rejects_as_lines(plan.rejects))


def _table(title: str) -> Table:
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    return table


def reject_share(documents: int, rejects: int) -> float:
    return rejects / (documents + rejects) if rejects else 0.0


def as_table(report: IngestReport) -> RenderableType:
    table = _table(f"{report.tenant}/{report.collection} {report.version}")
    rows = {
        "files": report.files,
        "documents": report.documents,
        "  of these question-answer pairs": report.qa_pairs,
        "passages": report.passages,
        "duplicates left out": report.duplicates,
        "documents added": report.new_documents,
        "documents changed": report.changed_documents,
        "documents deleted": report.deleted_documents,
        "unreadable, left as they were": report.kept_documents,
        "vectors reused": report.reused_vectors,
        "chunks embedded": report.embedded,
        "rejected": len(report.rejects),
    }
    for name, count in rows.items():
        table.add_row(name, str(count))
    for stage, seconds in report.seconds.items():
        table.add_row(f"seconds: {stage}", f"{seconds:.1f}")
    return Group(table, *(f"Note: {note}" for note in report.notes), *rejects_as_lines(report.rejects))


def rejects_as_lines(rejects: Sequence[Reject]) -> list[RenderableType]:
    """Lines that are not wrapped, so that they can be searched for; none where there are none."""
    if not rejects:
        return []
    lines = ["Rejected:", *(f"  {reject.source}: {reject.reason}" for reject in rejects[:_SHOWN_REJECTS])]
    more = len(rejects) - _SHOWN_REJECTS
    if more > 0:
        lines.append(f"  and {more} more")
    return [Text(line, no_wrap=True, overflow="ignore") for line in lines]
