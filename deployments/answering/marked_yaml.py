"""YAML that remembers its lines, so that what is wrong with it can be said where it stands. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Location = tuple[int | str, ...]  # keys and positions, from the top
_CLOCK = re.compile(r"\d{1,2}:\d\d")  # YAML 1.1 reads 9:00 as the number 540
_MOST_NODES = 200_000  # aliases of aliases make a small file a huge value


class YamlError(ValueError):
    """Not YAML, or YAML that says a thing twice."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Marked:
    """A document as plain values, with the line (from 1) of each of them."""

    value: Any
    lines: Mapping[Location, int]

    def line(self, location: Sequence[int | str]) -> int:
        """Of the innermost part of `location` that is there: what is missing is wrong where it should have been."""
        for end in range(len(location), -1, -1):
            if (line := self.lines.get(tuple(location[:end]))) is not None:
                return line
        return 1


def load_marked(content: bytes) -> Marked:
    """Raises `YamlError`."""
    loader = yaml.SafeLoader(content)
    try:
        node = loader.get_single_node()
        walk = _Walk(loader)
        value = None if node is None else walk.value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise YamlError(1, f"not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise YamlError(1, "nested too deeply") from error
    except ValueError as error:
        if isinstance(error, YamlError):
            raise
        raise YamlError(1, str(error)) from error
    finally:
        loader.dispose()
    return Marked(value, walk.lines)


class _Walk:
    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self.lines: dict[Location, int] = {}

    def value(self, node: yaml.Node, here: Location) -> Any:
        self.lines.setdefault(here, node.start_mark.line + 1)
        if len(self.lines) > _MOST_NODES:
            raise YamlError(node.start_mark.line + 1, f"more than {_MOST_NODES} values")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, here)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*here, number)) for number, item in enumerate(node.value)]
        if isinstance(node.value, str) and _CLOCK.fullmatch(node.value):
            return node.value
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, here: Location) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError(line, "a key must be plain text")
            key = str(key_node.value)
            if key in found:
                raise YamlError(line, f"the key '{key}' is given twice")
            self.lines[*here, key] = line
            found[key] = self.value(value_node, (*here, key))
        return found
