"""Takes links and images out of a written answer, but for allowed hosts. Pure, and for text that comes in pieces.

A page that renders Markdown would fetch an image by itself, and with it whatever stands in its address; a link is one
click away from the same. So what a model writes keeps only addresses of hosts that the company named, or that its
evidence came from. Of a link the words stay, of an image its description; HTML, which no answer needs, goes altogether.
"""

from __future__ import annotations

import html
import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from urllib.parse import urlsplit

from models.protocols import GenerationEnd, TextDelta

_MOST_HELD = 2000  # characters that wait for the end of what may become a link; a longer one is none
_MOST_PASSES = 8  # one thing taken out may make another of what stood around it
_IN_URL = r"[!#-;=?-Z\\^_a-~]"  # a character of an address: printable ASCII without <, >, ", [, ] and `
_IN_RUN = r"[!#-'*-;=?-Z\\^_a-~]"  # the same without parentheses, which may be a link's
_SCHEMES = "https?|ftps?|file|wss?|mailto|javascript|vbscript|data|blob|tel|sms|intent|weixin|alipays?"
_INLINE = re.compile(r"!?\[([^\[\]]*)\]\(\s*(<[^>\n]*>|(?:[^()\s]|\([^()]*\))*)(?:[^()]|\([^()]*\))*\)")
_DEFINITION = re.compile(r"\[[^\[\]]+\]:[ \t]*\n?[ \t]*(<[^>\n]*>|\S+)")
_TAG = re.compile(r"<!--.*?(?:-->|$)|</?[A-Za-z][^<>]*>|<[!?][^<>]*>", re.DOTALL)
_MAY_BE_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_AUTOLINK = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]{1,31}:[^<>\s]*)>")
_BARE = re.compile(
    rf"(?<![A-Za-z0-9])(?:(?:{_SCHEMES}):(?=\S)|[A-Za-z][A-Za-z0-9+.-]{{1,31}}:[/\\]{{1,3}}|www\."
    rf"|(?<![:/\w])//(?=[\w-]+\.))(?:{_IN_URL}+|[^\s<>\"，。；：！？、（）《》“”]+)"
    rf"|(?<![A-Za-z0-9@./-])(?:[A-Za-z0-9-]+\.)+[A-Za-z]{{2,}}/{_IN_URL}*",
    re.IGNORECASE,
)
_REST = re.compile(  # of an address, whose beginning was said
    rf"([A-Za-z0-9+.-]*):(?:([/\\]){_IN_URL}*|\S+)|(?:[A-Za-z0-9-]*\.)+[A-Za-z]{{2,}}/{_IN_URL}*"
)
_SCHEME_WORD = re.compile(rf"(?:^|[^a-z0-9])(?:{_SCHEMES})$", re.IGNORECASE)
_ENTITY = re.compile(
    r"&#(?:\d{1,7}|[xX][0-9a-fA-F]{1,6});|&(?:colon|sol|bsol|period|commat|lbrack|lsqb|rbrack|rsqb|lpar|rpar|excl|lt|gt);"
)
_AFTER_URL = ".,;:!?'\")*_~"  # belongs to the sentence
_HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
# The end of a text that may still become one of the above.
_OPEN_TAG = re.compile(r"<(?:!--(?:(?!-->).)*|[A-Za-z/!?][^>]*)?$", re.DOTALL)
_OPEN_RUN = re.compile(
    r"(?:(?<![A-Za-z0-9])(?:h(?:t(?:t(?:ps?)?)?)?|w{1,3}|f(?:tp?)?|m(?:ailto)?|j(?:avascript)?|data)"
    rf"|{_IN_RUN}*[:/\\.@&]{_IN_RUN}*|!)$",
    re.IGNORECASE,
)
_LAST_RUN = re.compile(r"[A-Za-z0-9.-]{1,253}$")


class LinkFilter:
    """Of one answer: `feed` gives what can be said of what has come, `rest` what was waited for."""

    def __init__(self, hosts: Iterable[str]) -> None:
        """hosts: allowed ones; their subdomains are, too."""
        self._hosts = frozenset(host.lower().strip(".") for host in hosts if host)
        self._waiting = ""
        self._said = ""  # the letters that the last text ended with: a host may have begun there
        self.removed = 0  # links, images, tags

    def feed(self, piece: str) -> str:
        text = self._waiting + piece
        end = _settled(text)
        if len(text) - end > _MOST_HELD:
            end = len(text)
        self._waiting = text[end:]
        return self._say(text[:end])

    def rest(self) -> str:
        text, self._waiting = self._waiting, ""
        return self._say(text)

    def _say(self, text: str) -> str:
        clean = self._clean(text)
        if run := _LAST_RUN.search(self._said + clean):
            self._said = run[0]
        elif clean:
            self._said = ""
        return clean

    def _clean(self, text: str) -> str:
        if not any(mark in text for mark in "<[&/:.\\"):
            return text
        if self._said and (rest := _REST.match(text)) and self._is_foreign(rest):
            self._gone()
            text = text[rest.end() :]
        for _ in range(_MOST_PASSES):
            before = text
            text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
            text = _AUTOLINK.sub(lambda match: match[1] if self._is_allowed(match[1]) else self._gone(), text)
            text = _TAG.sub(lambda _: self._gone(), text)
            text = _INLINE.sub(lambda match: match[0] if self._is_allowed(match[2]) else self._gone(match[1]), text)
            text = _DEFINITION.sub(lambda match: match[0] if self._is_allowed(match[1]) else self._gone(), text)
            text = _BARE.sub(self._bare, text)
            if text == before:
                return _MAY_BE_TAG.sub("< ", text)
        return re.sub(r"[\[\]<>:/\\]", " ", text)  # made to outlast the filter

    def _is_foreign(self, rest: re.Match[str]) -> bool:
        word, slash = rest[1], rest[2]
        if word is not None and slash is None and not _SCHEME_WORD.search(self._said + word):
            return False  # a colon in a sentence
        return not self._is_allowed(self._said + rest[0])

    def _bare(self, match: re.Match[str]) -> str:
        address = match[0].rstrip(_AFTER_URL)
        return match[0] if self._is_allowed(address) else self._gone(match[0][len(address) :])

    def _gone(self, left: str = "") -> str:
        self.removed += 1
        return left

    def _is_allowed(self, address: str) -> bool:
        host = host_of(address.strip("<>").rstrip(_AFTER_URL))
        return host is not None and any(host == one or host.endswith(f".{one}") for one in self._hosts)


def host_of(address: str) -> str | None:
    """Of a web address, in lower case; None for anything that two programs could read differently."""
    if not re.match(r"https?://", address, re.IGNORECASE):
        address = f"http://{address}"
    if any(letter <= " " or letter in "\\\x7f" for letter in address):
        return None
    try:
        parts = urlsplit(address)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return None
    return host if "@" not in parts.netloc and _HOST.fullmatch(host) else None


async def without_links(
    generated: AsyncGenerator[TextDelta | GenerationEnd, None], links: LinkFilter
) -> AsyncGenerator[TextDelta | GenerationEnd, None]:
    """What is generated, filtered."""
    async with aclosing(generated):
        async for item in generated:
            text = links.feed(item.text) if isinstance(item, TextDelta) else links.rest()
            if text:
                yield TextDelta(text)
            if isinstance(item, GenerationEnd):
                yield item


def filtered(text: str, hosts: Iterable[str]) -> str:
    links = LinkFilter(hosts)
    return links.feed(text) + links.rest()


def _settled(text: str) -> int:
    """Up to where nothing that comes can make a link or a tag of it."""
    ends = [match.start() for pattern in (_OPEN_TAG, _OPEN_RUN) if (match := pattern.search(text))]
    return min([len(text), _open_bracket(text), *ends])


def _open_bracket(text: str) -> int:
    """Where the first `[` stands whose link, image or definition is not complete; the text's end without one."""
    at = text.find("[")
    while at >= 0:
        end = _end_of_bracket(text, at)
        if end is None:
            return at - 1 if text[at - 1 : at] == "!" else at
        at = text.find("[", end)
    return len(text)


def _end_of_bracket(text: str, start: int) -> int | None:
    """The end of what begins with this `[`; None while that is not known. A paragraph's end ends everything."""
    paragraph = text.find("\n\n", start)
    closing = _closing(text, start, "[", "]")
    if paragraph >= 0 and (closing is None or closing > paragraph):
        return paragraph
    if closing is None or closing == len(text):
        return None
    if text[closing] == "(":
        end = _closing(text, closing, "(", ")")
        return end if end is not None or paragraph < 0 else paragraph
    if text[closing] == ":":
        word = re.compile(r":[ \t]*\n?[ \t]*\S+(?=\s)").match(text, closing)
        return word.end() if word else (paragraph if paragraph >= 0 else None)
    return closing


def _closing(text: str, start: int, opens: str, closes: str) -> int | None:
    """Behind the bracket that closes the one at `start`."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == opens) - (text[at] == closes)
        if depth == 0:
            return at + 1
    return None
