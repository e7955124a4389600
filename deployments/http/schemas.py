"""The bodies that customers send, checked to the last field, and how they become a `ChatRequest`.

Every refusal is a `BadRequestError` that names the field. Knows nothing of responses.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, NoReturn, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError
from starlette.datastructures import Headers

from deployments.answering.errors import UnknownModelError, UnsupportedMediaTypeError
from deployments.answering.types import ChatRequest, Language, Principal, Repeatable, ToolUse
from deployments.http.errors import BadRequestError
from deployments.http.tool_schemas import MOST_FUNCTIONS, Called, CallId, Tool, ToolChoice, chosen_name
from deployments.settings import AppSettings, HttpSettings
from models.protocols import ChatMessage, Role, ToolCall, ToolCallsMessage, ToolResultMessage

ROUTED_MODEL = "raydesk"  # the model name that leaves the choice of a path to us
MOST_TIMEOUT_S = 600.0  # that a caller may wish for; the settings allow less
MAX_INT64 = 2**63 - 1
_MOST_REMEMBERED_BYTES = 512  # of a body; 2,048 of them, read, are some 10 MB
Body = TypeVar("Body", bound=BaseModel)

# --- bytes to a JSON object ---


def check_content_type(headers: Headers) -> None:
    """Raises `UnsupportedMediaTypeError` for anything but plain UTF-8 JSON."""
    if not _is_json(headers.get("content-type", "")):
        raise UnsupportedMediaTypeError
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaTypeError("The request body must not be compressed: send it without 'Content-Encoding'.")


@lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    media_type, _, parameters = content_type.partition(";")
    charset = dict(part.strip().lower().partition("=")[::2] for part in parameters.split(";")).get("charset", "utf-8")
    return media_type.strip().lower() == "application/json" and charset.strip('"') in ("utf-8", "utf8")


def parse_json(body: bytes) -> dict[str, Any]:
    """A JSON object, by the letter of the standard: no NaN, no key twice, no nesting beyond Python's stack."""
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadRequestError("The request body is not valid UTF-8.", code="invalid_json") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise BadRequestError(
            f"The request body is not valid JSON: {error.msg} at {where}.", code="invalid_json"
        ) from error
    except RecursionError as error:
        raise BadRequestError("The request body is nested too deeply.", code="invalid_json") from error
    except ValueError as error:  # a number with thousands of digits
        raise BadRequestError("The request body holds a number that is too long.", code="invalid_json") from error
    if not isinstance(value, dict):
        raise BadRequestError("The request body must be a JSON object.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequestError(f"{name} is not valid JSON.", code="invalid_json")


def _sound_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if not _is_unicode(name) or (isinstance(value, str) and not _is_unicode(value)):
            what = "holds half a character (a lone surrogate)"
            raise BadRequestError(f"The field '{_shown(name)}' {what}.", param=_shown(name), code="invalid_json")
        if name in found:
            raise BadRequestError(
                f"The field '{_shown(name)}' is given twice.", param=_shown(name), code="invalid_json"
            )
        found[name] = value
    return found


def _is_unicode(text: str) -> bool:
    """False for the lone surrogates that JSON can escape and UTF-8 cannot write."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _shown(name: str) -> str:
    """A customer's own words in a message of ours: short, and in valid Unicode."""
    return name[:80].encode("utf-8", "replace").decode("utf-8")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_sound_object)


# --- the bodies ---


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "must not contain the NUL character")
    return text


def _text_of_parts(content: Any) -> Any:
    """OpenAI's content parts as one text; anything but text parts is refused."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text":
            raise PydanticCustomError("unsupported_parameter", "only parts of type 'text' are supported")
        if part.keys() != {"type", "text"} or not isinstance(part["text"], str):
            raise PydanticCustomError("text_part", "a text part has exactly the fields 'type' and 'text'")
        texts.append(part["text"])
    return "\n".join(texts)


def _absent(value: Any) -> Any:
    if value:
        raise PydanticCustomError("unsupported_parameter", "is not supported")
    return value


Text = Annotated[str, AfterValidator(_without_nul)]
Absent = Annotated[Any, AfterValidator(_absent)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
ConversationId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NativeMessage(_Body):
    role: Literal["user", "assistant", "system"]
    content: Text


class NativeChat(_Body):
    """The body of `POST /v1/chat`."""

    messages: Annotated[list[NativeMessage], FailFast()]
    collection: Name | None = None
    conversation_id: ConversationId | None = None
    stream: bool = True
    language: Language | None = None
    timeout_s: Annotated[float, Field(gt=0, le=MOST_TIMEOUT_S)] | None = None


TurnId = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class Cancel(_Body):
    """The body of `POST /v1/cancel`."""

    turn_id: TurnId


class Feedback(_Body):
    """The body of `POST /v1/feedback`."""

    turn_id: TurnId
    rating: Literal["up", "down"]
    comment: Annotated[Text, Field(max_length=2000)] = ""


class TextPart(_Body):
    type: Literal["text"]
    text: str


class OpenAIMessage(_Body):
    """A message as OpenAI's clients send it, an answer of ours that is sent back included."""

    role: Literal["user", "assistant", "system", "developer", "tool"]
    content: Annotated[
        Text | None, BeforeValidator(_text_of_parts, json_schema_input_type=str | list[TextPart] | None)
    ] = None
    tool_calls: Annotated[list[Called], Field(min_length=1, max_length=MOST_FUNCTIONS)] | None = None
    tool_call_id: CallId | None = None
    name: str | None = None
    refusal: Absent = None
    annotations: Absent = None
    audio: Absent = None
    function_call: Absent = None
    citations: Any = None  # ours, ignored on the way back
    raydesk: Any = None
    parsed: Any = None  # the stock client's own


class StreamOptions(_Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None  # never done here


def _only(*allowed: Any) -> Any:
    """A parameter that may be given with the values that change nothing, and is refused by name with any other."""

    def check(value: Any) -> Any:
        if value not in allowed:
            raise PydanticCustomError("unsupported_parameter", "is not supported with this value")
        return value

    return Annotated[Any, AfterValidator(check), WithJsonSchema({"enum": list(allowed)})]


Number = float | None  # of a parameter that is not heeded
StopText = Annotated[Text, Field(min_length=1, max_length=256)]
StopTexts = Annotated[list[StopText], Field(max_length=4)]


def as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class OpenAIChat(_Body):
    """The body of `POST /v1/chat/completions`.

    What only shades an answer is accepted, and named in `x-raydesk-ignored`; what would give the reply another shape
    (several choices, JSON, audio) is refused.
    """

    model: str
    messages: Annotated[list[OpenAIMessage], FailFast()]
    max_tokens: Annotated[int, Field(ge=1, le=MAX_INT64)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_INT64)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    seed: Annotated[int, Field(ge=-MAX_INT64, le=MAX_INT64)] | None = None
    stop: Annotated[StopTexts | None, BeforeValidator(as_list, json_schema_input_type=StopText | StopTexts | None)] = (
        None
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=512)] | None = None  # which of the client's customers; grants nothing
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    metadata: dict[str, str] | None = None
    tools: Annotated[list[Tool], Field(max_length=MOST_FUNCTIONS)] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    # refused with any other value
    audio: _only(None) = None  # type: ignore[valid-type]
    function_call: _only(None, "none", "auto") = None  # type: ignore[valid-type]
    logprobs: _only(None, False) = None  # type: ignore[valid-type]
    modalities: _only(None, ["text"]) = None  # type: ignore[valid-type]
    n: _only(None, 1) = None  # type: ignore[valid-type]
    response_format: _only(None, {"type": "text"}) = None  # type: ignore[valid-type]
    top_logprobs: _only(None, 0) = None  # type: ignore[valid-type]
    # not heeded
    frequency_penalty: Number = None
    functions: list[dict[str, Any]] | None = None
    ignore_eos: bool | None = None
    logit_bias: dict[str, Any] | None = None
    min_p: Number = None
    min_tokens: Number = None
    prediction: dict[str, Any] | None = None
    presence_penalty: Number = None
    prompt_cache_key: str | None = None
    reasoning_effort: str | None = None
    repetition_penalty: Number = None
    service_tier: str | None = None
    store: bool | None = None
    top_k: Number = None
    top_p: Number = None
    verbosity: str | None = None
    web_search_options: dict[str, Any] | None = None

    @property
    def max_output_tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def uses_tools(self) -> bool:
        """Whether something can be called, or was."""
        offers = bool(self.tools) and self.tool_choice != "none"
        return offers or any(message.tool_calls or message.role == "tool" for message in self.messages)

    @property
    def includes_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def ignored(self) -> list[str]:
        """Roles and parameters of this body that are not heeded, sorted."""
        roles = {message.role for message in self.messages} & {"system", "developer"}
        given = {name for name in NOT_HEEDED & self.model_fields_set if getattr(self, name) not in NEUTRAL[name]}
        return sorted(roles | given)


# What is not heeded, and the values with which that is no loss.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0),
    "functions": (None, []),
    "ignore_eos": (None, False),
    "logit_bias": (None, {}),
    "min_p": (None, 0),
    "min_tokens": (None, 0),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "prompt_cache_key": (None,),
    "reasoning_effort": (None,),
    "repetition_penalty": (None, 1),
    "service_tier": (None, "auto", "default"),
    "store": (None, False),
    "top_k": (None, -1, 0),
    "top_p": (None, 1),
    "verbosity": (None,),
    "web_search_options": (None,),
}
NOT_HEEDED = NEUTRAL.keys()


def parse_body(cls: type[Body], body: bytes) -> Body:
    """The body as `cls`. Raises `BadRequestError`."""
    return _parsed_before(cls, body) if len(body) <= _MOST_REMEMBERED_BYTES else _parsed(cls, body)


def _parsed(cls: type[Body], body: bytes) -> Body:
    return validated(cls, parse_json(body))


# Read once: what many customers ask first is the same to the last byte.
_parsed_before = lru_cache(maxsize=2048)(_parsed)


def validated(cls: type[Body], values: dict[str, Any]) -> Body:
    """Raises a `BadRequestError` that names the first field at fault."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = _shown(_dotted(first["loc"]))
    if first["type"] == "extra_forbidden":
        raise BadRequestError(f"The field '{path}' is unknown.", param=path)
    if first["type"] == "missing":
        raise BadRequestError(f"The field '{path}' is required.", param=path)
    if first["type"] == "unsupported_parameter":
        raise BadRequestError(f"The field '{path}': {first['msg']}.", param=path, code="unsupported_parameter")
    raise BadRequestError(f"The field '{path}': {first['msg']}.", param=path)


def _dotted(location: Sequence[int | str]) -> str:
    """('messages', 0, 'content') to 'messages[0].content'."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


# --- what may be asked again ---


def repeatable(headers: Headers, path: str, body: bytes) -> Repeatable | None:
    """What makes a repetition of this request known; None where it has no Idempotency-Key.

    The same body is one with the same values, however it is written. body: as `parse_json` takes it.
    """
    keys = headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not _IDEMPOTENCY_KEY.fullmatch(keys[0]):
        raise BadRequestError(
            "An Idempotency-Key has 1 to 255 visible ASCII characters, and is given once.", param="Idempotency-Key"
        )
    canonical = json.dumps([path, parse_json(body)], sort_keys=True)
    return Repeatable(keys[0], hashlib.sha256(canonical.encode()).hexdigest())


_IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,255}")


def after_number(headers: Headers, query: Mapping[str, str]) -> int:
    """The number of the last event that a client has; the header wins, which an EventSource keeps up to date."""
    for name, value in (("Last-Event-ID", headers.get("last-event-id")), ("after", query.get("after"))):
        if value:
            if not (value.isascii() and value.isdecimal() and len(value) <= 9):
                raise BadRequestError("The number of an event is a whole number from 0 on.", param=name)
            return int(value)
    return 0


# --- bodies to a request ---


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from, and the ids that it was given."""

    principal: Principal
    request_id: str
    turn_id: str
    new_conversation_id: str  # used when the body names no conversation
    repeatable: Repeatable | None = None
    can_return: bool = False  # as of a `ChatRequest`


def native_request(body: NativeChat, caller: Caller, settings: AppSettings) -> ChatRequest:
    if any(message.role == "system" for message in body.messages):
        where = next(index for index, message in enumerate(body.messages) if message.role == "system")
        raise BadRequestError(
            "Instructions are the operator's: messages are of role 'user' or 'assistant'.",
            param=f"messages[{where}].role",
        )
    messages = tuple(ChatMessage(message.role, message.content) for message in body.messages)
    _check_messages(messages, settings.http)
    return ChatRequest(
        principal=caller.principal,
        messages=messages,
        collection=body.collection or settings.knowledge.default_collection,
        request_id=caller.request_id,
        turn_id=caller.turn_id,
        conversation_id=body.conversation_id or caller.new_conversation_id,
        is_new_conversation=body.conversation_id is None,
        language=body.language,
        timeout_s=body.timeout_s,
        repeatable=caller.repeatable,
        can_return=caller.can_return,
    )


class _Metadata(_Body):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)  # other keys are the caller's own
    collection: Name | None = None
    conversation_id: ConversationId | None = None
    timeout_s: Annotated[float, Field(gt=0, le=MOST_TIMEOUT_S), BeforeValidator(float)] | None = None  # a text there


_NO_METADATA = _Metadata()


def openai_request(body: OpenAIChat, caller: Caller, settings: AppSettings) -> ChatRequest:
    """System and developer messages are dropped: their authors are customers too."""
    try:
        metadata = validated(_Metadata, dict(body.metadata)) if body.metadata else _NO_METADATA
    except BadRequestError as error:
        raise BadRequestError(error.message, param=f"metadata.{error.param}") from error
    every = [_as_said(place, message) for place, message in enumerate(body.messages)]
    said = [message for message in every if message.role in ("user", "assistant", "tool")]
    tool_use: ToolUse | None = None
    _check_choice(body)
    if body.uses_tools:
        tool_use = _tool_use(body, said, settings.http)
        said = [message for message in said[: _place_of_last_word(said) + 1] if type(message) is ChatMessage]
    messages = tuple(said)
    _check_messages(messages, settings.http)
    model = _tier_of(body.model, settings)
    if tool_use is not None:
        _check_takes_tools(model, caller.principal.tenant, settings)
    return ChatRequest(
        principal=caller.principal,
        messages=messages,
        collection=metadata.collection or settings.knowledge.default_collection,
        request_id=caller.request_id,
        turn_id=caller.turn_id,
        conversation_id=metadata.conversation_id or caller.new_conversation_id,
        is_new_conversation=metadata.conversation_id is None,
        model=model,
        max_output_tokens=body.max_output_tokens,
        temperature=body.temperature or 0.0,
        seed=body.seed,
        end_user=body.safety_identifier or body.user or "",
        timeout_s=metadata.timeout_s,
        channel="openai",
        repeatable=caller.repeatable,
        tool_use=tool_use,
    )


def _as_said(place: int, message: OpenAIMessage) -> ChatMessage:
    where = f"messages[{place}]"
    if message.content is None and message.tool_calls is None:
        raise BadRequestError(f"The field '{where}.content' is required.", param=f"{where}.content")
    if message.tool_calls is not None and message.role != "assistant":
        raise BadRequestError("Only a message of role 'assistant' has 'tool_calls'.", param=f"{where}.tool_calls")
    if (message.tool_call_id is not None) != (message.role == "tool"):
        raise BadRequestError(
            "A message of role 'tool' has a 'tool_call_id', and no other one does.", param=f"{where}.tool_call_id"
        )
    content = message.content or ""
    if message.tool_calls is not None:
        calls = (ToolCall(call.id, call.function.name, call.function.arguments) for call in message.tool_calls)
        return ToolCallsMessage("assistant", content, tuple(calls))
    if message.tool_call_id is not None:
        return ToolResultMessage("tool", content, message.tool_call_id)
    return ChatMessage(cast(Role, message.role), content)


def _place_of_last_word(messages: Sequence[ChatMessage]) -> int:
    """The customer's."""
    places = [place for place, message in enumerate(messages) if message.role == "user"]
    if not places:
        raise BadRequestError("At least one message of role 'user' is required.", param="messages")
    return places[-1]


def _tool_use(body: OpenAIChat, messages: Sequence[ChatMessage], limits: HttpSettings) -> ToolUse:
    _check_sizes(messages, limits)
    if messages[-1:] and messages[-1].role == "assistant":
        raise BadRequestError(
            "The last message must be of role 'user' or 'tool'.", param=f"messages[{len(body.messages) - 1}].role"
        )
    wanted: set[str] = set()
    for place, message in enumerate(messages):
        match message:
            case ToolCallsMessage(calls=calls):
                wanted |= {call.id for call in calls}
            case ToolResultMessage(call_id=call_id) if call_id not in wanted:
                raise BadRequestError(
                    f"A tool's message answers a call that was made before it: {_shown(call_id)} was not.",
                    param=f"messages[{place}].tool_call_id",
                )
            case _:
                pass
    fields = {"tools", "tool_choice", "parallel_tool_calls"} if body.tools else set()
    return ToolUse(body.model_dump(include=fields, exclude_none=True), tuple(messages))


def _check_choice(body: OpenAIChat) -> None:
    names = {tool.function.name for tool in body.tools or ()}
    chosen = chosen_name(body.tool_choice)
    if (body.tool_choice == "required" and not names) or (chosen is not None and chosen not in names):
        raise BadRequestError("What has to be called is not among 'tools'.", param="tool_choice")


def _check_takes_tools(model: str | None, tenant: str, settings: AppSettings) -> None:
    """model: the tier's name that is forced. One that this tenant may not use is unknown to it, and said so later."""
    named = [tier for tier in settings.tiers if model in (None, tier.name) and tier.may_use(tenant)]
    if not any(tier.takes_tools for tier in named) and (named or model is None):
        raise BadRequestError(
            "No model here takes tools." if model is None else "This model takes no tools.",
            param="tools",
            code="unsupported_parameter",
        )


def _tier_of(model: str, settings: AppSettings) -> str | None:
    """The tier that this model name forces; None leaves the choice to the router."""
    if model == ROUTED_MODEL:
        return None
    for tier in settings.tiers:
        if tier.model_id == model:
            return tier.name
    raise UnknownModelError


def _check_messages(messages: Sequence[ChatMessage], limits: HttpSettings) -> None:
    if not messages:
        raise BadRequestError("At least one message of role 'user' is required.", param="messages")
    _check_sizes(messages, limits)
    if messages[-1].role != "user":
        raise BadRequestError("The last message must be of role 'user'.", param=f"messages[{len(messages) - 1}].role")
    if not _is_visible(messages[-1].content):
        raise BadRequestError("The last message is empty.", param=f"messages[{len(messages) - 1}].content")


def _check_sizes(messages: Sequence[ChatMessage], limits: HttpSettings) -> None:
    if len(messages) > limits.max_messages:
        raise BadRequestError(f"At most {limits.max_messages} messages are accepted.", param="messages")
    for index, message in enumerate(messages):
        if len(message.content) > limits.max_message_chars:
            raise BadRequestError(
                f"A message has at most {limits.max_message_chars} characters; this one has {len(message.content)}.",
                param=f"messages[{index}].content",
            )


def _is_visible(text: str) -> bool:
    """Whether there is anything to read: spaces and zero-width characters alone are no question."""
    return any(character.isprintable() and not character.isspace() for character in text)
