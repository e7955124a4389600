"""From where documents are said to be to files on this machine: folders, object storage, the web, the hub."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from ingestion import hub, object_store
from ingestion.encodings import decode
from ingestion.errors import FetchError, NothingToIngestError, ParseError
from ingestion.parse import KINDS
from ingestion.sources import RemoteFile, Source, SourceFile, expand, shown
from ingestion.web import Page, WebClient, is_sitemap, normal, read_sitemap

_WEB = frozenset({"http", "https"})
_TEXT_KINDS = frozenset({".html", ".txt", ".md", ".csv", ".tsv", ".json", ".jsonl"})


def list_sources(locations: Sequence[str | Path], client: WebClient) -> list[Source]:
    """Paths, s3:// gs:// file:// and hf:// URIs, addresses of pages and of sitemaps: everything under them, each once.

    Raises `NothingToIngestError` where there is nothing, or it cannot be listed.
    """
    paths = [Path(location) for location in locations if not _scheme(location)]
    found: dict[str, Source] = {file.name: file for file in expand(paths)}
    for location in locations:
        if _scheme(location):
            found |= {file.name: file for file in _list_remote(str(location), client)}
    pages = sum(isinstance(source, RemoteFile) and _scheme(source.location) in _WEB for source in found.values())
    if pages > client.limits.max_pages:  # to leave some out would take them out of what is published
        raise NothingToIngestError(f"there are more than {client.limits.max_pages} web pages: say --max-pages")
    return list(found.values())


def _scheme(location: str | Path) -> str:
    """ "" of a path; Windows' drives have one letter."""
    scheme = urlsplit(location).scheme if isinstance(location, str) else ""
    return scheme.lower() if len(scheme) > 1 and "://" in str(location) else ""


def _list_remote(location: str, client: WebClient) -> list[RemoteFile]:
    scheme = _scheme(location)
    if scheme in object_store.SCHEMES:
        return object_store.list_objects(location)
    if scheme == hub.SCHEME:
        return [RemoteFile(location, shown(location))]
    if scheme not in _WEB:
        raise NothingToIngestError(
            f"{shown(location)}: there is no way to {scheme}://, only to s3, gs, file, hf, https, http"
        )
    if not is_sitemap(location):
        return [_page(location)]
    try:
        return [_page(page) for page in read_sitemap(client, location)]
    except FetchError as error:
        raise NothingToIngestError(f"{shown(location)} {error}") from error


def _page(url: str) -> RemoteFile:
    """One that is no address is listed like others: fetching it says what is wrong."""
    try:
        return RemoteFile(url, normal(url))
    except FetchError:
        return RemoteFile(url, shown(url))


@contextmanager
def fetched(source: Source, client: WebClient) -> Iterator[list[SourceFile]]:
    """The files that a source is, on this machine; what was fetched is gone afterwards."""
    if isinstance(source, SourceFile):
        yield [source]
        return
    with tempfile.TemporaryDirectory(prefix="raydesk-source-") as name:
        folder = Path(name)
        try:
            files = _fetch(source, folder, client)
        except FetchError as error:
            files = [SourceFile(folder, source.name, reason=str(error))]
        yield files


def _fetch(source: RemoteFile, folder: Path, client: WebClient) -> list[SourceFile]:
    scheme = _scheme(source.location)
    if scheme in _WEB:
        return [_write(client.fetch(source.location), source.name, folder)]
    if scheme == hub.SCHEME:
        return hub.fetch_splits(source)
    return [SourceFile(object_store.download(source, folder), source.name)]


def _write(page: Page, name: str, folder: Path) -> SourceFile:
    """As UTF-8, where the server says what else it is: its word is not in the page."""
    suffix = PurePosixPath(urlsplit(page.url).path).suffix.lower()
    kind = page.kind or (suffix if suffix in KINDS else ".html")
    content = page.content
    if page.charset and kind in _TEXT_KINDS:
        try:
            content = decode(content, page.charset).encode()
        except ParseError:
            content = page.content  # reading it says what is wrong
    path = folder / f"page{kind}"
    path.write_bytes(content)
    return SourceFile(path, name, kind, page.url)
