"""`POST /v1/embeddings`: the encoder's vectors, as OpenAI's clients ask for them."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from deployments.answering.errors import UnknownModelError
from deployments.http.errors import BadRequestError
from deployments.http.schemas import Text, as_list, parse_body
from deployments.settings import HttpSettings
from models.protocols import Vectors

ENCODER_MODEL = "raydesk-encoder"
MOST_TEXTS = 32  # in one request: the encoder is also what every customer's question waits for
Texts = Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
Embed = Callable[[str], Awaitable[Vectors]]  # one text → (dim,) float32, L2-normalised


class EmbeddingsBody(BaseModel):
    """The body of `POST /v1/embeddings`. Texts, not token numbers: those are another tokenizer's."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str
    input: Annotated[Texts, BeforeValidator(as_list, json_schema_input_type=Text | Texts)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None


class Embedding(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(BaseModel):
    """A vector as numbers, or with `"encoding_format": "base64"` as its little-endian float32 bytes."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage


def parse(content: bytes, limits: HttpSettings) -> EmbeddingsBody:
    body = parse_body(EmbeddingsBody, content)
    if body.model != ENCODER_MODEL:
        raise UnknownModelError
    for index, text in enumerate(body.input):
        where = f"input[{index}]"
        if not text.strip():
            raise BadRequestError("A text must not be empty.", param=where)
        if len(text) > limits.max_message_chars:
            raise BadRequestError(f"A text has at most {limits.max_message_chars} characters.", param=where)
    return body


def document(body: EmbeddingsBody, vectors: Sequence[Vectors]) -> dict[str, Any]:
    """Raises `BadRequestError` for a number of dimensions that the encoder has not."""
    dim = len(vectors[0])
    if body.dimensions not in (None, dim):
        raise BadRequestError(
            f"This model's vectors have {dim} dimensions.", param="dimensions", code="unsupported_parameter"
        )
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    # Tokens are not counted: nothing is charged by them.
    return {
        "object": "list",
        "model": ENCODER_MODEL,
        "data": data,
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }


def _encoded(vector: Vectors, encoding: str | None) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    numbers: list[float] = vector.tolist()
    return numbers
