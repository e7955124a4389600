"""What can go wrong between a document and its answer. All pickle: their only state is their arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingestion.document import Reject


class IngestionError(Exception):
    """Knowledge could not be made searchable."""


class StoreError(IngestionError):
    """The knowledge store cannot do that."""


class UnknownVersionError(StoreError):
    """There is no such version."""


class UnknownDocumentError(StoreError):
    """There is no such document in the published version."""


class CorruptVersionError(StoreError):
    """A file of a version is missing or is not what was published."""


class ParseError(IngestionError):
    """A document cannot be read; the message is the reject report's reason."""


class FetchError(IngestionError):
    """A document cannot be fetched; the message is the reject report's reason."""


class NothingToIngestError(IngestionError):
    """No document was found under the given paths."""


class TooManyRejectsError(IngestionError):
    """More documents were rejected than may be; nothing was published."""

    def __init__(self, message: str, rejects: tuple[Reject, ...] = ()) -> None:
        super().__init__(message, rejects)  # both, or it would not pickle
        self.rejects = rejects

    def __str__(self) -> str:
        return str(self.args[0])


class EmbedderError(IngestionError):
    """The encoder cannot be loaded, or failed at its work."""
