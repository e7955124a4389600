"""Functions that a caller brings along, and their calls, as OpenAI writes them.

They go to an engine as they are, so everything about them is checked here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
CallId = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]
MOST_FUNCTIONS = 128


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _schema(value: Any) -> Any:
    """A JSON schema without regular expressions: an engine would compile them, and some take for ever."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise PydanticCustomError("unicode", "holds half a character (a lone surrogate)") from error
    if _has_pattern(value):
        raise PydanticCustomError("unsupported_parameter", "regular expressions are not supported")
    return value


def _has_pattern(value: Any) -> bool:
    if isinstance(value, list):
        return any(_has_pattern(one) for one in value)
    if not isinstance(value, dict):
        return False
    # A property may be called "pattern": then a schema stands there.
    has_own = isinstance(value.get("pattern"), str) or "patternProperties" in value
    return has_own or any(_has_pattern(one) for one in value.values())


def _arguments(value: str) -> str:
    """A model's template reads them."""
    try:
        arguments = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise PydanticCustomError("arguments", "must be a JSON object") from error
    if not isinstance(arguments, dict):
        raise PydanticCustomError("arguments", "must be a JSON object")
    return value


def _choice(value: Any) -> Any:
    match value:
        case None | "none" | "auto" | "required":
            return value
        case {"type": "function", "function": {"name": str()} as function} if len(value) == 2 and len(function) == 1:
            return value
    form = '{"type": "function", "function": {"name": …}}'
    raise PydanticCustomError("tool_choice", "is 'none', 'auto', 'required' or {form}", {"form": form})


class Function(_Body):
    name: FunctionName
    description: str | None = None
    parameters: Annotated[dict[str, Any] | None, AfterValidator(_schema)] = None
    strict: bool | None = None


class Tool(_Body):
    type: Literal["function"]
    function: Function


class _SentBack(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)  # clients keep things of their own on it


class FunctionCall(_SentBack):
    name: FunctionName
    arguments: Annotated[str, AfterValidator(_arguments)]


class Called(_SentBack):
    """A call that a model wanted, as it is sent back."""

    id: CallId
    type: Literal["function"]
    function: FunctionCall


class ChosenFunction(_Body):
    name: FunctionName


class Chosen(_Body):
    type: Literal["function"]
    function: ChosenFunction


ToolChoice = Annotated[
    Any, PlainValidator(_choice, json_schema_input_type=Literal["none", "auto", "required"] | Chosen | None)
]


def chosen_name(choice: Any) -> str | None:
    """Of the one function that has to be called."""
    return choice["function"]["name"] if isinstance(choice, Mapping) else None
