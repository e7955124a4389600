"""Small changes by hand: a document or a question-answer pair is put in or taken out, and is live in a moment.

Needs no Ray: a few chunks are embedded by the embedder that the caller has, and published as a delta.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ingestion.difference import compare
from ingestion.document import Details, Document, digest
from ingestion.embedding import embed_texts, embedding_text, question_text, vector_key
from ingestion.errors import UnknownDocumentError, UnknownVersionError
from ingestion.split import split
from ingestion.store import Changes, KnowledgeStore
from models.protocols import Embedder, Vectors

SOURCE = "by hand"


@dataclass(frozen=True, slots=True)
class Edit:
    version: str  # that has it
    added: int  # chunks, with those that changed
    removed: int  # chunks
    embedded: int  # chunks; the others' texts were there before


def pair_document(question: str, answer: str, details: Details | None = None, document_id: str = "") -> Document:
    """A curated pair. Its id is made of the question, so that a better answer takes the place of the old one."""
    key = document_id or f"pair-{digest(question.strip().casefold())[:12]}"
    return Document(key, SOURCE, details or Details(), question=question, answer=answer)


def put(
    store: KnowledgeStore, tenant: str, collection: str, documents: Sequence[Document], embedder: Embedder
) -> Edit | None:
    """Adds documents, in place of those with their ids; a later bulk run leaves them alone. None: nothing changes.

    Raises `StoreError`, also when the published version has the vectors of another embedder.
    """
    chunks = [replace(chunk, origin="edit") for document in documents for chunk in split(document, collection)]
    version = store.current_version(tenant, collection)
    stored = [] if version is None else store.stored_chunks(tenant, collection, version)
    ids = {document.id for document in documents}
    difference = compare(chunks, stored, lambda chunk: chunk.document_id in ids)
    if difference.is_empty:
        return None
    known = {vector_key(chunk) for chunk in difference.added} & {chunk.vector_key for chunk in stored}
    vectors = {} if version is None else store.stored_vectors(tenant, collection, version, known)
    missing = [chunk for chunk in difference.added if vector_key(chunk) not in vectors]
    made = embed_texts(
        embedder, [embedding_text(chunk) for chunk in missing], [question_text(chunk) for chunk in missing]
    )
    for chunk, vector, question_vector in zip(missing, *made, strict=True):
        vectors[vector_key(chunk)] = (vector, question_vector)
    pairs = [chunk for chunk in difference.added if chunk.kind == "qa"]
    changes = Changes(
        embedder_identity=embedder.identity,
        added=difference.added,
        vectors=_rows(embedder.dim, [vectors[vector_key(chunk)][0] for chunk in difference.added]),
        question_vectors=_rows(embedder.dim, [vectors[vector_key(chunk)][1] for chunk in pairs]),
        removed=difference.removed,
        made_by="edit",
        report={"put": sorted(ids)},
    )
    published = store.publish(tenant, collection, changes)
    return Edit(published, len(difference.added), len(difference.removed), len(missing))


def delete(store: KnowledgeStore, tenant: str, collection: str, document_ids: Iterable[str]) -> Edit:
    """Takes documents out; a later bulk run over files that hold them brings them back.

    Raises `UnknownDocumentError` (then nothing is taken out) or another `StoreError`.
    """
    version = store.current_version(tenant, collection)
    if version is None:
        raise UnknownVersionError(f"there is no published collection '{collection}'")
    stored = store.stored_chunks(tenant, collection, version)
    wanted = set(document_ids)
    unknown = wanted - {chunk.document_id for chunk in stored}
    if unknown:
        raise UnknownDocumentError(
            f"'{collection}' has no document {', '.join(repr(name) for name in sorted(unknown))}"
        )
    removed = frozenset(chunk.id for chunk in stored if chunk.document_id in wanted)
    manifest = store.manifest(tenant, collection, version)
    none = np.empty((0, manifest.dim), np.float32)
    changes = Changes(
        manifest.embedder_identity, (), none, none, removed=removed, made_by="edit", report={"deleted": sorted(wanted)}
    )
    return Edit(store.publish(tenant, collection, changes), 0, len(removed), 0)


def _rows(dim: int, vectors: Sequence[Vectors]) -> Vectors:
    """(n, dim), of any number of vectors."""
    matrix: Vectors = np.array(vectors, dtype=np.float32).reshape(-1, dim)
    return matrix
