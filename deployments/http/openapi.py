"""The OpenAPI 3.1 document, made from the registry of operations and the types that it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from deployments.answering.errors import (
    AuthenticationError,
    HeadersTooLargeError,
    InternalError,
    InvalidJsonError,
    InvalidRequestError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitedError,
    RaydeskError,
    UnsupportedMediaTypeError,
    UnsupportedParameterError,
    error_table,
)
from deployments.http.errors import PublicError, public_error
from deployments.http.registry import EventStream, Operation, Parameter, Reply, Text
from deployments.http.replies import ErrorReply
from deployments.settings import AppSettings

VERSION = "1"  # of the interface
JSON = "application/json"
EVENTS = "text/event-stream"
_REF = "#/components/schemas/{model}"
_BODY_ERRORS: tuple[type[RaydeskError], ...] = (
    InvalidRequestError,
    InvalidJsonError,
    UnsupportedParameterError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
# Any request can be told these: by the door, or by a fault of ours.
_COMMON_ERRORS: tuple[type[RaydeskError], ...] = (PermissionDeniedError, HeadersTooLargeError, InternalError)
_INTRODUCTION = """\
Questions of customers, answered by the cheapest path that is right, with their sources.

**Who asks.** `Authorization: Bearer <key>`; tenant and audiences come from the key alone. On a loopback address no key
is needed.

**Errors** have one shape and a stable code; all are listed at the end. `Retry-After` is in whole seconds. Every
response carries `x-request-id`, the client's own where it sent one.

**Limits.** A body of {max_body_bytes:,} bytes, {max_messages} messages of {max_message_chars:,} characters,
{max_headers} headers of {max_header_bytes:,} bytes together. Streams carry a comment at least every {heartbeat_s:g} s.
"""


def openapi(operations: Sequence[Operation], settings: AppSettings) -> dict[str, Any]:
    """The whole document, as plain values."""
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.public_path, {})[operation.method.lower()] = _operation(operation, schemas)
    tags = list(dict.fromkeys(operation.tag for operation in operations))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Raydesk",
            "version": VERSION,
            "description": _INTRODUCTION.format(**dict(settings.http)),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}},
        },
        "x-errors": [asdict(entry) for entry in error_table()],
    }


class _Schemas:
    """All types of the document as JSON schemas, each defined once."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        wanted: dict[tuple[int, JsonSchemaMode], Any] = {}
        for kind, mode in _types(operations):
            wanted[id(kind), mode] = kind
        adapters = [((key, mode), mode, TypeAdapter(kind)) for (key, mode), kind in wanted.items()]
        by_key, rest = TypeAdapter.json_schemas(adapters, ref_template=_REF)
        self._schemas = {key[0]: schema for key, schema in by_key.items()}
        self.definitions: dict[str, Any] = dict(sorted(rest.get("$defs", {}).items()))

    def of(self, kind: Any, mode: JsonSchemaMode) -> dict[str, Any]:
        schema: dict[str, Any] = self._schemas[id(kind), mode]
        return schema


def _types(operations: Sequence[Operation]) -> Iterable[tuple[Any, JsonSchemaMode]]:
    yield ErrorReply, "serialization"
    for operation in operations:
        if operation.body is not None:
            yield operation.body, "validation"
        for parameter in _parameters(operation):
            yield parameter.kind, "validation"
        for reply in operation.replies:
            for content in reply.content:
                if isinstance(content, EventStream):
                    yield from ((kind, "serialization") for kind in content.events.values())
                elif not isinstance(content, Text):
                    yield content, "serialization"


def _operation(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": _responses(operation, schemas),
        "security": [] if operation.policy == "public" else [{"key": []}, {}],
    }
    if operation.description:
        described["description"] = operation.description
    if parameters := [_parameter(one, schemas) for one in _parameters(operation)]:
        described["parameters"] = parameters
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas.of(operation.body, "validation")}
        if operation.examples:
            content["examples"] = {name: {"value": value} for name, value in operation.examples.items()}
        described["requestBody"] = {"required": True, "content": {JSON: content}}
    return described


def _parameters(operation: Operation) -> list[Parameter]:
    known = {one.name: one for one in operation.parameters if one.place == "path"}
    of_path = [
        known.get(name) or Parameter(name, "path", name.replace("_", " ").capitalize() + ".")
        for name in operation.path_names
    ]
    return of_path + [one for one in operation.parameters if one.place != "path"]


def _parameter(parameter: Parameter, schemas: _Schemas) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.required or parameter.place == "path",
        "description": parameter.description,
        "schema": schemas.of(parameter.kind, "validation"),
    }
    return described if parameter.example is None else described | {"example": parameter.example}


def _responses(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    responses = {str(reply.status): _reply(reply, schemas) for reply in operation.replies}
    by_status: dict[int, list[type[RaydeskError]]] = {}
    for error in dict.fromkeys((*operation.errors, *_implied_errors(operation))):
        by_status.setdefault(error.status, []).append(error)
    for status, errors in sorted(by_status.items()):
        failure = _failure(errors, schemas)
        if success := responses.get(str(status)):  # e.g. a readiness report that is a 503
            failure["description"] = f"{success['description']} Or: {failure['description']}"
            failure["content"][JSON]["schema"] = {
                "anyOf": [success["content"][JSON]["schema"], failure["content"][JSON]["schema"]]
            }
        responses[str(status)] = failure
    return dict(sorted(responses.items()))


def _implied_errors(operation: Operation) -> tuple[type[RaydeskError], ...]:
    errors = _COMMON_ERRORS
    if operation.policy == "key":
        errors = (AuthenticationError, RateLimitedError, *errors)
    if operation.body is not None:
        errors = (*_BODY_ERRORS, *errors)
    elif any(parameter.place != "path" for parameter in operation.parameters):  # an id that is none is not found
        errors = (InvalidRequestError, *errors)
    return errors


def _reply(reply: Reply, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": reply.description}
    if reply.headers:
        described["headers"] = {
            name: {"description": words, "schema": {"type": "string"}} for name, words in reply.headers.items()
        }
    content: dict[str, Any] = {}
    for kind in reply.content:
        if isinstance(kind, EventStream):
            content[EVENTS] = _stream(kind, schemas)
        elif isinstance(kind, Text):
            content[kind.media_type] = {"schema": {"type": "string"}}
        else:
            content[JSON] = {"schema": schemas.of(kind, "serialization")}
            if reply.example is not None:
                content[JSON]["example"] = reply.example
    if content:
        described["content"] = content
    return described


def _stream(stream: EventStream, schemas: _Schemas) -> dict[str, Any]:
    """OpenAPI 3.1 has no word for events: `x-events` says what stands in each. No type, since tools differ on it."""
    names: Mapping[str, Any] = {
        name or "message": schemas.of(kind, "serialization") for name, kind in stream.events.items()
    }
    return {"schema": {"x-events": names}, "example": stream.example}


def _failure(errors: Sequence[type[RaydeskError]], schemas: _Schemas) -> dict[str, Any]:
    examples = {error.code: {"value": _public(error).body("7f3c…")} for error in errors}
    sentences = dict.fromkeys(f"`{error.code}`: {error().message}" for error in errors)
    described: dict[str, Any] = {
        "description": " ".join(sentences),
        "content": {JSON: {"schema": schemas.of(ErrorReply, "serialization"), "examples": examples}},
    }
    if any(error.retry_after_s is not None for error in errors):
        described["headers"] = {
            "Retry-After": {"description": "When to ask again, seconds.", "schema": {"type": "integer"}}
        }
    return described


def _public(error: type[RaydeskError]) -> PublicError:
    public = public_error(error())
    assert public is not None
    return public
