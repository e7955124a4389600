"""A strict reader of as much PromQL as dashboard and rules use: refuses what Prometheus would, names the metrics."""

from __future__ import annotations

import re

FUNCTIONS = frozenset({"rate", "increase", "histogram_quantile", "absent", "scalar"})
AGGREGATIONS = frozenset({"sum", "min", "max", "avg", "count"})
_OVER_TIME = frozenset({"rate", "increase"})
_OPERATORS = frozenset({"+", "-", "*", "/", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless"})
_TOKEN = re.compile(
    r"\s*(?:(?P<range>\[(?:\d+[smhd]|\$__rate_interval|\$__range)\])|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<labels>\{[^{}]*\})|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<mark>==|!=|>=|<=|[-+*/<>(),]))"
)
_LABELS = re.compile(r'\{(?:[a-zA-Z_]\w*(?:=~|!~|!=|=)"[^"]*"(?:,(?!\})|(?=\})))*\}')


def metrics_of(query: str) -> set[str]:
    """Names of the metrics in it. Raises `ValueError` for what is not PromQL."""
    reader = _Reader(query)
    reader.expression()
    if reader.kind:
        raise reader.wrong()
    return reader.metrics


class _Reader:
    def __init__(self, query: str) -> None:
        self.metrics: set[str] = set()
        self._query = query
        self._end = 0
        self.kind = self.text = ""
        self._next()

    def wrong(self) -> ValueError:
        return ValueError(f"not PromQL, from {self.text or self._query[self._end :]!r} on: {self._query}")

    def _next(self) -> None:
        if not self._query[self._end :].strip():
            self.kind = self.text = ""
            return
        found = _TOKEN.match(self._query, self._end)
        if found is None:
            raise self.wrong()
        self._end = found.end()
        self.kind = str(found.lastgroup)
        self.text = found.group(self.kind)

    def _take(self, text: str) -> None:
        if self.text != text:
            raise self.wrong()
        self._next()

    def expression(self) -> bool:
        """Whether it is a range of time."""
        is_range = self._operand()
        while self.text in _OPERATORS:
            self._next()
            if self._operand() or is_range:
                raise self.wrong()
        return is_range

    def _operand(self) -> bool:
        name = self.text
        match self.kind:
            case "number":
                self._next()
            case "mark" if name == "(":
                self._next()
                self.expression()
                self._take(")")
            case "name" if name in AGGREGATIONS:
                self._next()
                if self.text == "by":
                    self._next()
                    self._names()
                self._arguments(False)
            case "name" if name in FUNCTIONS:
                self._next()
                self._arguments(name in _OVER_TIME)
            case "name" if name not in _OPERATORS:
                return self._series()
            case _:
                raise self.wrong()
        return False

    def _series(self) -> bool:
        self.metrics.add(self.text)
        self._next()
        if self.text == "(":
            raise self.wrong()  # a function that is not known
        if self.kind == "labels":
            if not _LABELS.fullmatch(self.text):
                raise self.wrong()
            self._next()
        if self.kind == "range":
            self._next()
            return True
        return False

    def _names(self) -> None:
        self._take("(")
        while self.kind == "name":
            self._next()
            if self.text == ",":
                self._next()
        self._take(")")

    def _arguments(self, over_time: bool) -> None:
        self._take("(")
        while True:
            if self.expression() != over_time:
                raise self.wrong()
            if self.text != ",":
                break
            self._next()
        self._take(")")
