"""What each path takes and gives, for the registry: words, types, examples and errors. No behaviour."""

from __future__ import annotations

from typing import Any

from deployments.answering.errors import (
    DeadlineExceededError,
    IdempotencyConflictError,
    OverloadedError,
    RoomUnavailableError,
    TurnCancelledError,
    TurnLostError,
    UnknownModelError,
    UpgradeRequiredError,
)
from deployments.answering.types import Citation, Done, Failed, Meta
from deployments.http.embeddings import EmbeddingList, EmbeddingsBody
from deployments.http.native_wire import NativeAnswer
from deployments.http.registry import TURN_ERRORS, EventStream, Parameter, Reply, Text
from deployments.http.replies import (
    ChatCompletion,
    ChatCompletionChunk,
    Health,
    ModelCard,
    ModelList,
    Readiness,
    TextChunk,
)
from deployments.http.schemas import NativeChat, OpenAIChat

Words = dict[str, Any]  # the fields of an `Operation` but method, path and endpoint

NATIVE_EVENTS: dict[str, Any] = {"meta": Meta, "delta": TextChunk, "citation": Citation, "done": Done, "error": Failed}
_QUESTION = {"role": "user", "content": "How much does express delivery cost?"}
NATIVE_STREAM = """\
id: 1
event: meta
data: {"turn_id":"4f1c…","request_id":"9b2e…","conversation_id":"c81d…","path":"faq","language":"en",…}

id: 2
event: delta
data: {"text":"Express delivery costs 12.90 EUR."}

id: 3
event: citation
data: {"index":1,"title":"How much does express delivery cost?","url":"https://help.example/en/express",…}

: keep-alive
id: 4
event: done
data: {"path":"faq","finish_reason":"stop","grounded":true,"input_tokens":0,"output_tokens":0,…}

"""
_OPENAI_STREAM = """\
data: {"object":"chat.completion.chunk","id":"chatcmpl-4f1c…","choices":[{"index":0,"delta":{"content":"Express "},…}]}

data: [DONE]

"""

_REPEATED = Parameter(
    "Idempotency-Key",
    "header",
    "Makes the request safe to send again: the same key with the same body joins the turn that runs, or gives the "
    "answer of the one that is over. 1 to 255 visible ASCII characters, new for each question.",
    example="0f8fad5b-d9cb-469f-a165-70867728950e",
)
_REPEAT_ERRORS = (IdempotencyConflictError, TurnCancelledError, TurnLostError)

CHAT: Words = {
    "name": "createTurn",
    "asks": True,
    "tag": "Chat",
    "summary": "Ask a question",
    "description": """\
The answer is a stream of server-sent events, or with `"stream": false` one document. Events: `meta` (once, first),
`delta` and `citation` (any number), then exactly one of `done` and `error`. A request that cannot begin is an HTTP
error; what fails later is the stream's `error`. Events are numbered (`id`): a stream that breaks off goes on at
`/v1/turns/{turn_id}/events`. The first answer's `meta` gives a `conversation_id`: send it with the
next question.""",
    "body": NativeChat,
    "examples": {
        "a question": {"messages": [_QUESTION]},
        "a follow-up, as one document": {
            "messages": [{"role": "user", "content": "And to Norway?"}],
            "conversation_id": "c81d5a",
            "stream": False,
        },
        "中文": {"messages": [{"role": "user", "content": "普通快递几天能到？"}], "language": "zh"},
    },
    "replies": [Reply("The answer.", [EventStream(NATIVE_EVENTS, NATIVE_STREAM), NativeAnswer])],
    "parameters": [_REPEATED],
    "errors": (*TURN_ERRORS, *_REPEAT_ERRORS),
}

SOCKET: Words = {
    "name": "openSocket",
    "tag": "Chat",
    "summary": "Several turns over one WebSocket",
    "description": """\
Every message is a JSON object. Sent to the desk:

`{"type": "ask", "id": "q1", "messages": […], "conversation_id": …}` asks: an id of the client's own, and the fields of
`POST /v1/chat` but `stream`. `{"type": "cancel", "id": "q1"}` stops a turn. `{"type": "auth", "key": …}` says who asks,
before anything is asked. `{"type": "pong"}` answers a ping.

Sent by the desk, each as `{"id": …, "event": …, "data": …}`: `ready` (once the desk knows who asks), the events of the
turns as in the stream of `POST /v1/chat`, `cancelled`, `error` also for a message that is not valid, and `ping`.
Whoever sends nothing for 2.2 times the ping's pause (`ready` says it) is given up (1001), so answer it.

A key comes in the header, in `auth`, or for browsers as a subprotocol `raydesk.key.` followed by the key in base64url,
beside `raydesk`. Closed with 1008: a wrong key, or too many messages a second; with 1009: one that is too long.""",
    "replies": [Reply("The connection is a WebSocket now.", status=101)],
    "errors": (UpgradeRequiredError,),
}

COMPLETIONS: Words = {
    "name": "createChatCompletion",
    "asks": True,
    "tag": "OpenAI-compatible",
    "summary": "Ask a question as OpenAI's clients do",
    "description": """\
The model `raydesk` leaves the path to the desk; a tier's own name (`GET /v1/models`) forces that tier. Ours are
`message.citations` and `message.raydesk`; in a stream both stand in the delta of the last, empty content chunk.
`metadata` may name `collection` and `conversation_id`. What only shades an answer and is not done here is named in the
header `x-raydesk-ignored`; what would change the reply's shape is refused.

With `tools` (or calls and results among the messages) a model answers straight away, with what the knowledge has on the
customer's last question before it: no rule, no cache and no curated answer. It may ask for calls; whoever brought the
functions along calls them, and sends the conversation with the results again: nothing of it is remembered or stored
here. A call comes whole, in a stream as one chunk. Which tiers take tools is the operator's choice; others refuse them.
Regular expressions in `parameters` are refused.""",
    "body": OpenAIChat,
    "examples": {
        "a question": {"model": "raydesk", "messages": [_QUESTION]},
        "a stream with its usage": {
            "model": "raydesk",
            "messages": [_QUESTION],
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    },
    "replies": [
        Reply(
            "The answer.",
            [ChatCompletion, EventStream({"": ChatCompletionChunk}, _OPENAI_STREAM)],
            headers={"x-raydesk-ignored": "Roles and parameters that were not heeded, separated by commas."},
        )
    ],
    "parameters": [_REPEATED],
    "errors": (UnknownModelError, *TURN_ERRORS, *_REPEAT_ERRORS),
}

EMBEDDINGS: Words = {
    "name": "createEmbedding",
    "asks": True,
    "tag": "OpenAI-compatible",
    "summary": "Vectors of texts",
    "description": """\
By the encoder that intents, cache and retrieval share: L2-normalised, so that a dot product is a cosine similarity.
Texts are embedded as questions. Up to 32 texts at once.""",
    "body": EmbeddingsBody,
    "examples": {
        "one text": {"model": "raydesk-encoder", "input": "Where is my parcel?"},
        "several": {"model": "raydesk-encoder", "input": ["Where is my parcel?", "我的包裹在哪里？"]},
    },
    "replies": [Reply("One vector a text, in their order.", [EmbeddingList])],
    "errors": (UnknownModelError, OverloadedError, RoomUnavailableError, DeadlineExceededError),
}

MODELS: Words = {
    "name": "listModels",
    "tag": "OpenAI-compatible",
    "summary": "The models that can be named",
    "replies": [Reply("The desk itself first, then its tiers.", [ModelList])],
}

MODEL: Words = {
    "name": "retrieveModel",
    "tag": "OpenAI-compatible",
    "summary": "One model",
    "parameters": [Parameter("model_id", "path", "As `GET /v1/models` has it.", example="raydesk")],
    "replies": [Reply("The model.", [ModelCard])],
    "errors": (UnknownModelError,),
}

HEALTHZ: Words = {
    "name": "health",
    "tag": "Operation",
    "summary": "Whether the process answers",
    "policy": "public",
    "replies": [Reply("It does.", [Health])],
}

READYZ: Words = {
    "name": "readiness",
    "tag": "Operation",
    "summary": "Which rooms and language models are up",
    "policy": "public",
    "replies": [
        Reply("Every room is up. Language models may still be starting.", [Readiness]),
        Reply("Some room is not up yet, or away.", [Readiness], status=503),
    ],
}

METRICS: Words = {
    "name": "metrics",
    "tag": "Operation",
    "summary": "Counters for Prometheus",
    "replies": [Reply("Prometheus' text format.", [Text("text/plain")])],
}

OPENAPI: Words = {
    "name": "openapi",
    "tag": "Operation",
    "summary": "This document",
    "policy": "public",
    "replies": [Reply("OpenAPI 3.1.", [dict[str, Any]])],
}

DOCS: Words = {
    "name": "docs",
    "tag": "Operation",
    "summary": "This document, to be read",
    "policy": "public",
    "replies": [Reply("A page that needs nothing from outside.", [Text("text/html")])],
}

WIDGET: Words = {
    "name": "widget",
    "tag": "Operation",
    "summary": "The chat for other web pages",
    "description": "A script that defines the element `<raydesk-chat>`. A page of another origin may use it where "
    "`http.allowed_origins`, or the `origins` of a key, name that.",
    "policy": "public",
    "replies": [
        Reply("The script.", [Text("text/javascript")]),
        Reply("The browser has this version.", status=304),
    ],
}

PAGE: Words = {
    "name": "page",
    "tag": "Operation",
    "summary": "The chat page",
    "policy": "public",
    "replies": [Reply("A page that needs nothing from outside.", [Text("text/html")])],
}
