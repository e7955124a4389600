"""The client for web pages: where it goes, where it does not, and where it stops. The server is on this machine."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ingestion.errors import FetchError, NothingToIngestError
from ingestion.fetch import fetched, list_sources
from ingestion.parse import parse
from ingestion.sources import RemoteFile
from ingestion.web import WebClient, WebLimits, is_public, read_sitemap

pytestmark = pytest.mark.unit

Answer = tuple[int, dict[str, str], bytes]


class Site:
    """Paths and what is answered there; an answer may be a function that writes to the connection by itself."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[tuple[str, str, str]] = []  # (host, path, user agent)
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                agent = self.headers.get("User-Agent", "")
                site.asked.append((self.headers.get("Host", ""), self.path, agent))
                answer = site.pages.get(self.path, (404, {}, b""))
                if not isinstance(answer, tuple):
                    answer(self)
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def html(self, path: str, text: str, **headers: str) -> None:
        self.pages[path] = (200, {"Content-Type": "text/html; charset=utf-8", **headers}, text.encode())

    def redirect(self, path: str, target: str) -> None:
        self.pages[path] = (302, {"Location": target}, b"")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def resolve_to_here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def client(*own: str, resolver: Callable[[str, int], list[str]] = resolve_to_here, **limits: float) -> WebClient:
    return WebClient(WebLimits(own_hosts=frozenset(own), **limits), resolver=resolver, pause=lambda seconds: None)  # type: ignore[arg-type]


# --- where it does not go ---


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0",  # noqa: S104
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "100.100.100.200", "192.0.0.192", "168.63.129.16", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
        "198.18.0.1", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "fe80::1",
        "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1:0:0:80ff:fffe", "2001:db8::1", "100::1",
        "", "localhost", "not an address",
    ],
)  # fmt: skip
def test_private_addresses_are_told(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]
)
def test_public_addresses_are_told(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::1]", "[::ffff:127.0.0.1]",
     "[::ffff:7f00:1]", "127.0.0.1.", "①②⑦.⓪.⓪.①"],
)  # fmt: skip
def test_no_way_of_writing_this_machine_is_let_through(site: Site, host: str) -> None:
    site.html("/", "secret")
    with pytest.raises(FetchError):
        WebClient().fetch(f"http://{host}:{site.port}/")
    assert site.asked == []


def test_a_name_that_leads_inside_is_refused(site: Site) -> None:
    site.html("/", "secret")
    with pytest.raises(FetchError, match="private network"):
        client().fetch(f"http://shop.example:{site.port}/")
    mixed = client(resolver=lambda host, port: ["93.184.216.34", "127.0.0.1"])
    with pytest.raises(FetchError, match="private network"):
        mixed.fetch(f"http://shop.example:{site.port}/")
    assert site.asked == []


def test_a_name_is_resolved_once_a_connection_and_never_behind_the_check(site: Site) -> None:
    """A resolver that answers differently the second time finds nobody who asks again."""
    site.html("/", "<p>text</p>")
    site.pages["/robots.txt"] = (404, {}, b"")
    answers = iter([["93.184.216.34"], ["127.0.0.1"], ["127.0.0.1"]])
    connected: list[str] = []

    class Backend:
        def connect_tcp(self, host: str, *rest: object) -> None:
            connected.append(host)
            raise OSError("no network here")

    import ingestion.web as web

    guard = web._Guard(frozenset(), lambda host, port: next(answers), time.monotonic() + 5)
    guard._backend = Backend()  # type: ignore[assignment]
    with pytest.raises(OSError, match="no network here"):
        guard.connect_tcp("shop.example", 443)
    assert connected == ["93.184.216.34"]  # the address that was checked, not the name
    with pytest.raises(FetchError, match="private network"):
        guard.connect_tcp("shop.example", 443)


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data", "http://inside.example/", "file:///etc/passwd", "gopher://a.example",
     "//inside.example/x", "http://[::1]/", "http://user:word@ours.example/"],
)  # fmt: skip
def test_every_redirect_is_checked_anew(site: Site, target: str) -> None:
    site.redirect("/", target)
    asking = client("ours.example", resolver=lambda host, port: [host] if host[0].isdigit() else ["127.0.0.1"])
    with pytest.raises(FetchError):
        asking.fetch(f"http://ours.example:{site.port}/")
    assert [path for _, path, _ in site.asked] == ["/"]


@pytest.mark.parametrize("url", ["ftp://a.example/", "https:///x", "a.example", "http://a.example:0/", "http://a:b@c.d/",
                                 "http://[::1", "javascript:alert(1)", ""])  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(FetchError):
        client().fetch(url)


def test_a_company_can_allow_its_own_hosts_by_name(site: Site) -> None:
    site.html("/a", "<p>text</p>")
    assert b"text" in client("wiki.example").fetch(f"http://wiki.example:{site.port}/a").content
    with pytest.raises(FetchError):
        client("wiki.example").fetch(f"http://other.wiki.example:{site.port}/a")


# --- where it stops ---


def test_redirects_are_counted(site: Site) -> None:
    site.redirect("/", "/")
    with pytest.raises(FetchError, match="more than 5 other addresses"):
        client("a.example").fetch(f"http://a.example:{site.port}/")
    assert len(site.asked) == 6


def test_size_is_limited_packed_or_not(site: Site) -> None:
    site.pages["/plain"] = (200, {}, b"x" * 2_000_001)
    site.pages["/packed"] = (200, {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 50_000_000))
    for path in ("/plain", "/packed"):
        with pytest.raises(FetchError, match="larger than 2 MB"):
            client("a.example", max_bytes=2_000_000).fetch(f"http://a.example:{site.port}{path}")
    site.pages["/odd"] = (200, {"Content-Encoding": "br"}, b"x")
    with pytest.raises(FetchError, match="not asked for"):
        client("a.example").fetch(f"http://a.example:{site.port}/odd")


def test_a_server_that_drips_is_left(site: Site) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            handler.wfile.flush()
            time.sleep(0.1)

    site.pages["/"] = drip
    with pytest.raises(FetchError, match="took longer than"):
        client("a.example", time_s=0.5).fetch(f"http://a.example:{site.port}/")


def test_a_busy_server_is_asked_again_and_a_missing_page_is_not(site: Site) -> None:
    site.pages["/busy"] = (503, {"Retry-After": "1"}, b"")
    waited: list[float] = []
    asking = client("a.example")
    asking.pause = waited.append
    with pytest.raises(FetchError, match="answered 503"):
        asking.fetch(f"http://a.example:{site.port}/busy")
    assert waited == [1.0, 1.0]
    with pytest.raises(FetchError, match="answered 404"):
        asking.fetch(f"http://a.example:{site.port}/gone")
    assert len(site.asked) == 4


def test_robots_txt_is_respected_but_for_own_hosts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.web.is_public", lambda address: True)
    site.pages["/robots.txt"] = (200, {}, b"User-agent: *\nDisallow: /private\n")
    site.html("/private/a", "<p>a</p>")
    site.html("/open", "<p>b</p>")
    asking = client()
    assert asking.fetch(f"http://a.example:{site.port}/open").kind == ".html"
    with pytest.raises(FetchError, match=r"robots\.txt"):
        asking.fetch(f"http://a.example:{site.port}/private/a")
    assert client("a.example").fetch(f"http://a.example:{site.port}/private/a").content == b"<p>a</p>"
    assert [path for _, path, _ in site.asked] == ["/robots.txt", "/open", "/private/a"]
    assert all(agent.startswith("raydesk/") for _, _, agent in site.asked)


# --- from an address to a document ---


def read_all(url: str, asking: WebClient, folder: Path) -> list[object]:
    found: list[object] = []
    for source in list_sources([url], asking):
        with fetched(source, asking) as files:
            for file in files:
                found.append(file.reason or parse(file.path, file.name, file.kind, file.url).documents[0])
    return found


def test_a_page_is_read_in_its_encoding_and_cited_by_where_it_is_now(site: Site, tmp_path: Path) -> None:
    url = f"http://a.example:{site.port}"
    site.pages["/new"] = (
        200, {"Content-Type": "text/html; charset=GBK"}, "<h1>退货政策</h1><p>七天内可以退货。</p>".encode("gbk"),
    )  # fmt: skip
    site.redirect("/old", "/new")
    (document,) = read_all(f"{url}/old#part", client("a.example"), tmp_path)
    assert (document.title, document.blocks[0].text) == ("退货政策", "七天内可以退货。")  # type: ignore[attr-defined]
    assert (document.source, document.details.url) == (f"{url}/old", f"{url}/new")  # type: ignore[attr-defined]


def test_other_kinds_of_pages_are_told_by_what_the_server_says(site: Site, tmp_path: Path) -> None:
    site.pages["/faq"] = (200, {"Content-Type": "text/csv"}, "问题,答案\n如何退货？,七天内。\n".encode())
    site.pages["/a.md"] = (200, {"Content-Type": "application/octet-stream"}, b"# Title\n\nText.")
    url = f"http://a.example:{site.port}"
    (pair,) = read_all(f"{url}/faq", client("a.example"), tmp_path)
    assert pair.answer == "七天内。"  # type: ignore[attr-defined]
    (article,) = read_all(f"{url}/a.md", client("a.example"), tmp_path)
    assert article.title == "Title"  # type: ignore[attr-defined]


def test_a_page_that_cannot_be_fetched_says_why(site: Site, tmp_path: Path) -> None:
    assert read_all(f"http://a.example:{site.port}/gone", client("a.example"), tmp_path) == [
        "the server answered 404: check the address, or remove it"
    ]
    (source,) = list_sources(["http://user:word@a.example/"], client("a.example"))
    with fetched(source, client("a.example")) as (file,):
        assert (file.name, "would be published" in file.reason) == ("http://a.example/", True)


def sitemap(*addresses: str, kind: str = "urlset") -> bytes:
    item = "url" if kind == "urlset" else "sitemap"
    entries = "".join(f"<{item}><loc> {address} </loc></{item}>" for address in addresses)
    return (
        f"<?xml version='1.0'?><{kind} xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'>{entries}</{kind}>".encode()
    )


def test_a_sitemap_names_pages_of_its_own_site(site: Site) -> None:
    url = f"http://a.example:{site.port}"
    site.pages["/sitemap.xml"] = (200, {}, sitemap(f"{url}/one.xml", f"{url}/two.xml.gz", kind="sitemapindex"))
    site.pages["/one.xml"] = (200, {}, sitemap(f"{url}/1", f"{url}/2", f"{url}/1", "http://b.example/3"))
    site.pages["/two.xml.gz"] = (200, {}, gzip.compress(sitemap(f"{url}/4", f"{url}/5")))
    asking = client("a.example")
    assert read_sitemap(asking, f"{url}/sitemap.xml") == [f"{url}/{page}" for page in (1, 2, 4, 5)]
    four = client("a.example", max_pages=4)
    assert list_sources([f"{url}/sitemap.xml"], four) == [RemoteFile(f"{url}/{n}", f"{url}/{n}") for n in (1, 2, 4, 5)]
    with pytest.raises(NothingToIngestError, match="more than 3 web pages"):
        list_sources([f"{url}/sitemap.xml"], client("a.example", max_pages=3))


@pytest.mark.parametrize(
    "content",
    [
        b"<html></html>",
        b"no xml",
        b"\x1f\x8bbroken",
        b"<!DOCTYPE a [<!ENTITY b 'x'><!ENTITY c '&b;&b;&b;'>]><urlset",
        b"<?xml version='1.0'?><!DOCTYPE l [" + b"".join(
            b"<!ENTITY l%d '%s'>" % (n, b"&l%d;" % (n - 1) * 10 if n else b"lol") for n in range(12)
        ) + b"]><urlset><url><loc>&l11;</loc></url>",
    ],
)  # fmt: skip
def test_what_is_no_sitemap_ends_the_run_with_a_reason(site: Site, content: bytes) -> None:
    site.pages["/sitemap.xml"] = (200, {}, content)
    with pytest.raises(NothingToIngestError, match=r"is no sitemap|damaged"):
        list_sources([f"http://a.example:{site.port}/sitemap.xml"], client("a.example"))


def test_entities_of_a_sitemap_read_no_files(site: Site) -> None:
    url = f"http://a.example:{site.port}"
    stolen = f"<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/hostname'>]><urlset><url><loc>{url}/&f;</loc></url></urlset>"
    site.pages["/sitemap.xml"] = (200, {}, stolen.encode())
    assert read_sitemap(client("a.example"), f"{url}/sitemap.xml") in ([], [f"{url}/"])
