"""Pages of the web, fetched by a client that cannot be led into the company's own network.

A name is resolved once, all its addresses are checked, and the connection is made to one of these: at every redirect
anew. Environment variables for proxies are not read, because a proxy would resolve names by itself.
"""

from __future__ import annotations

import gzip
import io
import ipaddress
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.robotparser import RobotFileParser

import httpcore2
import httpx2
import lxml.etree

from ingestion.errors import FetchError

_SCHEMES = frozenset({"http", "https"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_TRIES = 3
_PAUSE_S = 2.0  # before the second try; twice that before the third
_MAX_PAUSE_S = 30.0
# That look public and are not: Azure's wire server, and what is kept for protocols, with Oracle's metadata.
_NOT_PUBLIC = (ipaddress.ip_network("168.63.129.16/32"), ipaddress.ip_network("192.0.0.0/24"))
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SITEMAP_DEPTH = 2  # an index of sitemaps, and these
_KINDS = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/csv": ".csv",
    "text/tab-separated-values": ".tsv",
    "application/pdf": ".pdf",
    "application/json": ".json",
    "application/x-ndjson": ".jsonl",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
}

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class WebLimits:
    own_hosts: frozenset[str] = frozenset()  # the company's: their addresses may be private, robots.txt does not bind
    max_pages: int = 10_000  # of one run
    max_bytes: int = 20_000_000  # of one page, unpacked
    time_s: float = 60.0  # for one page, with its redirects
    max_redirects: int = 5


@dataclass(frozen=True, slots=True)
class Page:
    url: str  # after redirects
    kind: str  # an extension: ".html"; "" where the server does not say a known one
    content: bytes
    charset: str = ""  # as the server says


Resolver = Callable[[str, int], Iterable[str]]


def resolve(host: str, port: int) -> list[str]:
    """Addresses of a name, by the machine's own means."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


# --- addresses ---


def is_public(address: str) -> bool:
    """Whether anybody's machine could have it: not this machine, its networks, a cloud's metadata or many machines."""
    try:
        ip: IpAddress = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    is_special = ip.is_multicast or ip.is_reserved or any(ip in network for network in _NOT_PUBLIC)
    return ip.is_global and not is_special


class _Guard(httpcore2.NetworkBackend):
    """Connects to addresses that were checked, and to nothing else; all waiting ends at one time."""

    def __init__(self, own_hosts: frozenset[str], resolver: Resolver, deadline_s: float) -> None:
        self._own_hosts = own_hosts
        self._resolver = resolver
        self._deadline_s = deadline_s  # monotonic
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        address = self._checked_address(host, port)
        stream = self._backend.connect_tcp(address, port, _left_s(self._deadline_s), local_address, socket_options)
        return _Stream(stream, self._deadline_s)

    def _checked_address(self, host: str, port: int) -> str:
        try:
            addresses = list(self._resolver(host, port))
        except (OSError, UnicodeError) as error:
            raise FetchError(f"the host '{host}' is not known: check the address") from error
        if host.lower() not in self._own_hosts and not (addresses and all(map(is_public, addresses))):
            raise FetchError(
                f"the host '{host}' is in a private network ({', '.join(addresses)}): if it is yours, say --own-host"
            )
        return addresses[0]


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, deadline_s: float) -> None:
        self._stream = stream
        self._deadline_s = deadline_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left_s(self._deadline_s))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left_s(self._deadline_s))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left_s(self._deadline_s))
        return _Stream(stream, self._deadline_s)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise httpcore2.ReadTimeout("the page's time is over")
    return left_s


# --- pages ---


@dataclass(slots=True)
class WebClient:
    limits: WebLimits = field(default_factory=WebLimits)
    resolver: Resolver = resolve
    ssl_context: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    pause: Callable[[float], None] = time.sleep
    _robots: dict[str, RobotFileParser | None] = field(default_factory=dict)  # origin → its rules

    @property
    def user_agent(self) -> str:
        return f"raydesk/{version('raydesk')} (knowledge ingestion)"

    def fetch(self, url: str) -> Page:
        """Raises `FetchError`, whose message says what to do."""
        url = normal(url)
        self._check_robots(url)
        for attempt in range(_TRIES):
            status, page, wait_s = self._get(url)
            if status == 200:
                return page
            if status not in _TRY_AGAIN or attempt == _TRIES - 1:
                break
            self.pause(min(wait_s or _PAUSE_S * 2**attempt, _MAX_PAUSE_S))
        raise FetchError(f"the server answered {status}: check the address, or remove it")

    def _get(self, url: str) -> tuple[int, Page, float]:
        """(status, page, seconds to wait) after redirects. A server that does not answer counts as one that is busy."""
        deadline_s = time.monotonic() + self.limits.time_s
        guard = _Guard(self.limits.own_hosts, self.resolver, deadline_s)
        try:
            with httpcore2.ConnectionPool(self.ssl_context, network_backend=guard) as pool:
                for _ in range(self.limits.max_redirects + 1):
                    with pool.stream("GET", url, headers=self._headers(url)) as response:
                        headers = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers}
                        if response.status in _REDIRECTS and headers.get("location"):
                            url = normal(urljoin(url, headers["location"]))
                            continue
                        content = self._body(response, headers) if response.status == 200 else b""
                        return response.status, _page(url, headers, content), _retry_after_s(headers)
        except httpcore2.TimeoutException as error:
            raise FetchError(f"took longer than {self.limits.time_s:.0f} s to fetch") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
            raise FetchError(f"could not be fetched: {' '.join(str(error).split())}") from error
        raise FetchError(f"leads to more than {self.limits.max_redirects} other addresses: give the last one")

    def _headers(self, url: str) -> dict[bytes | str, bytes | str]:
        return {
            "Host": urlsplit(url).netloc,
            "User-Agent": self.user_agent,
            "Accept": "text/html, application/pdf;q=0.9, */*;q=0.5",
            "Accept-Encoding": "gzip",
        }

    def _body(self, response: httpcore2.Response, headers: dict[str, str]) -> bytes:
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise FetchError(f"is packed in a way that was not asked for ({encoding})")
        content = bytearray()
        for part in _unpacked(response.iter_stream(), is_packed=encoding == "gzip", most=self.limits.max_bytes):
            content += part
            if len(content) > self.limits.max_bytes:
                raise FetchError(f"is larger than {self.limits.max_bytes // 1_000_000} MB: give a smaller page")
        return bytes(content)

    # --- robots.txt ---

    def _check_robots(self, url: str) -> None:
        parts = urlsplit(url)
        if (parts.hostname or "").lower() in self.limits.own_hosts:
            return
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._robots:
            self._robots[origin] = self._rules(origin)
        rules = self._robots[origin]
        if rules is not None and not rules.can_fetch(self.user_agent, url):
            raise FetchError("the site's robots.txt does not want it to be fetched: if it is yours, say --own-host")

    def _rules(self, origin: str) -> RobotFileParser | None:
        """A site without the file has no rules; one whose file cannot be had now is asked for its page all the same."""
        try:
            status, page, _ = self._get(f"{origin}/robots.txt")
        except FetchError:
            return None
        if status != 200:
            return None
        rules = RobotFileParser()
        rules.parse(page.content.decode("utf-8", "replace").splitlines())
        return rules


def normal(url: str) -> str:
    """An address in ASCII and without a fragment, as it is asked for. Raises `FetchError` if it may not be."""
    try:
        asked = str(httpx2.URL(urldefrag(url.strip()).url))
        parts = urlsplit(asked)
        port = parts.port
    except (httpx2.InvalidURL, ValueError) as error:
        raise FetchError(f"is no address of the web: {error}") from error
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0:
        raise FetchError("is no address of the web: it has to begin with https:// or http://")
    if parts.username is not None:
        raise FetchError("has a user or password in its address, which would be published: remove it")
    return asked


def _page(url: str, headers: dict[str, str], content: bytes) -> Page:
    media, _, options = headers.get("content-type", "").partition(";")
    charset = re.search(r"charset\s*=\s*[\"']?([\w.:-]+)", options, re.IGNORECASE)
    return Page(url, _KINDS.get(media.strip().lower(), ""), content, charset[1] if charset else "")


def _retry_after_s(headers: dict[str, str]) -> float:
    after = headers.get("retry-after", "")
    return float(after) if after.isdecimal() else 0.0


def _unpacked(parts: Iterable[bytes], is_packed: bool, most: int) -> Iterator[bytes]:
    """Never more than `most` bytes and one at once, however small they are packed."""
    if not is_packed:
        yield from parts
        return
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    for part in parts:
        try:
            yield unpacker.decompress(part, most + 1)
        except zlib.error as error:
            raise FetchError(f"is packed, but damaged: {error}") from error
        while unpacker.unconsumed_tail:
            yield unpacker.decompress(unpacker.unconsumed_tail, most + 1)


# --- sitemaps ---


def is_sitemap(url: str) -> bool:
    path = urlsplit(url).path.lower()
    return path.endswith((".xml", ".xml.gz")) or "sitemap" in path.rpartition("/")[2]


def read_sitemap(client: WebClient, url: str, depth: int = _SITEMAP_DEPTH) -> list[str]:
    """Addresses of the pages it names, each once. Those of other sites are left out, as the format's rules say."""
    site = urlsplit(url).hostname
    kind, addresses = _sitemap_addresses(client.fetch(url), client.limits.max_bytes)
    found: dict[str, None] = {}
    for address in addresses:
        if len(found) > client.limits.max_pages:  # one more than allowed says that there are too many
            break
        if urlsplit(address).hostname != site:
            continue
        if kind == "sitemapindex" and depth > 1:
            found |= dict.fromkeys(read_sitemap(client, address, depth - 1))
        elif kind == "urlset":
            found[address] = None
    return list(found)


def _sitemap_addresses(page: Page, most: int) -> tuple[str, list[str]]:
    """("urlset" or "sitemapindex", addresses)."""
    content = page.content
    if content.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(io.BytesIO(content)) as opened:
                content = opened.read(most + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise FetchError(f"is packed, but damaged: {error}") from error
    parser = lxml.etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = lxml.etree.fromstring(content, parser)
    except lxml.etree.XMLSyntaxError as error:
        raise FetchError(f"is no sitemap: {error}") from error
    kind = lxml.etree.QName(root).localname
    if kind not in ("urlset", "sitemapindex"):
        raise FetchError(f"is no sitemap, for it begins with <{kind}>")
    return kind, [str(text).strip() for text in root.xpath("./*/*[local-name()='loc']/text()")]
