"""The process's log: one JSON object a line, on standard output, which Ray keeps in a file of each replica.

What a customer wrote, and what was answered, is in it at level debug alone; keys, passwords and tokens never are.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextvars import ContextVar
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from deployments.settings import LogSettings

LONGEST = 500  # characters of one value
HIDDEN = "***"
_SECRET_NAMES = frozenset({"authorization", "api_key", "key", "password", "secret", "token", "dsn", "url"})
_TEXT_NAMES = frozenset({"question", "answer", "sentence", "text", "message", "query"})
_SECRETS = re.compile(r"(?<=://)[^/\s@]*(?=@)|(?<=Bearer )\S+|\b(?:sk|hf|rd)[-_][A-Za-z0-9_-]{16,}")

Event = MutableMapping[str, Any]
_OF_THIS_TASK: ContextVar[Mapping[str, str] | None] = ContextVar("of_this_task", default=None)


class _Lines(structlog.WriteLogger):
    """A logger that knows the name of its module. It writes: Serve replaces `print` by one that prints tuples."""

    def __init__(self, name: str, out: TextIO | None) -> None:
        super().__init__(out)
        self.name = name


def name_in_log(**names: str) -> None:
    """What each line that this task writes from now on is about, in place of what was named before."""
    _OF_THIS_TASK.set(names)


def configure_logs(settings: LogSettings, out: TextIO | None = sys.__stdout__, **always: str) -> None:
    """For this process. always: what each line has, the deployment's name for instance.

    out: not `sys.stdout`, in whose place Serve puts a buffer that keeps a thousand lines back.
    """
    shows_texts = settings.level == "debug"

    def complete(logger: Any, _: str, event: Event) -> Event:
        event["logger"] = getattr(logger, "name", "")
        return {**(_OF_THIS_TASK.get() or {}), **event, **always}

    def discreet(_: Any, __: str, event: Event) -> Event:
        hidden = _SECRET_NAMES if shows_texts else _SECRET_NAMES | _TEXT_NAMES
        return {name: HIDDEN if name in hidden else _discreet(value) for name, value in event.items()}

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            complete,
            # Without the values of variables: they would have all that is hidden elsewhere.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            discreet,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        logger_factory=lambda name="", *_: _Lines(name, out),
        cache_logger_on_first_use=False,  # loggers of modules are made before this is called
    )


def _discreet(value: Any) -> Any:
    match value:
        case str():
            cut = value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
            return _SECRETS.sub(HIDDEN, cut)
        case dict():
            return {name: _discreet(each) for name, each in value.items()}
        case list() | tuple():
            return [_discreet(each) for each in value]
        case _:
            return value
