"""`/widget.js`: the chat for other people's pages, one script that needs nothing beside it.

It is put together here of the files of `deployments/web`, which are written as modules: the host page has no build
step, and neither have we. The chat page uses the same script.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

# Each one after those that it imports from.
PARTS = ("words.js", "render.js", "stream.js", "answer.js", "element.css", "element.js")
WIDGET_PATH = "/widget.js"
_IMPORT = re.compile(r"^import [^;]+;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


def widget_source(web: Path) -> str:
    """The parts in one scope of their own; a sheet `element.css` becomes the constant `ELEMENT_CSS`."""
    return '(() => {\n"use strict";\n' + "\n".join(_part(web / name) for name in PARTS) + "})();\n"


def _part(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return f"const {path.name.replace('.', '_').upper()} = {json.dumps(text, ensure_ascii=False)};\n"
    return _EXPORT.sub("", _IMPORT.sub("", text))


class Widget:
    """Serves the script; a browser that has this version already is told so."""

    def __init__(self, web: Path) -> None:
        self._body = widget_source(web).encode()
        self._etag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'

    async def respond(self, request: Request) -> Response:
        headers = {"etag": self._etag}
        if self._etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self._body, headers=headers, media_type="text/javascript")
