"""What every model takes and gives.

The seams behind which the real models and the shipped fakes (`models/fakes.py`) are interchangeable; one
conformance suite (`tests/conformance/`) runs over both. Pure Python and numpy: no torch, no Ray.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

# (n, dim) float32, each row L2-normalised, so that a dot product is a cosine similarity.
Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """Text to vectors. Queries and passages may be prefixed differently (E5: "query: " and "passage: ")."""

    @property
    def identity(self) -> str:
        """Name and revision of weights, pooling and prefixes: two equal identities give comparable vectors."""

    @property
    def dim(self) -> int:
        """Length of one vector."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """(n,) questions to (n, dim) float32, L2-normalised. Empty input gives shape (0, dim)."""

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """(n,) passages to (n, dim) float32, L2-normalised. Empty input gives shape (0, dim)."""


class EmbedderRecipe(Protocol):
    """An embedder that is not loaded yet. It is a value: pickled, it makes the same embedder in another process."""

    def identity(self) -> str:
        """Of the embedder that `load` gives, without loading it."""

    def load(self) -> Embedder:
        """May take seconds."""


class Reranker(Protocol):
    """Question and passages to how well each answers it."""

    def scores(self, question: str, passages: Sequence[str], until_s: float) -> list[float] | None:
        """One score a passage, higher is better; they compare only within one call.

        None when there is not time enough for all of them: `until_s` is of `time.monotonic`.
        """


class RerankerRecipe(Protocol):
    """A reranker that is not loaded yet."""

    def load(self) -> Reranker:
        """May take seconds."""


@dataclass(frozen=True, slots=True)
class IntentPrediction:
    """What the customer wants, with a calibrated probability."""

    label: str
    confidence: float  # calibrated probability of `label`, 0-1
    margin: float  # probability of `label` minus that of `runner_up`, 0-1
    runner_up: str
    threshold: float | None = None  # confidence from which `label` is right often enough, where training found one


OUT_OF_SCOPE = "out_of_scope"  # the label of questions that no intent covers


class IntentHead(Protocol):
    """Questions to intents; trained on a company's own examples."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels the head knows, sorted."""

    def predict(self, texts: Sequence[str], embeddings: Vectors) -> list[IntentPrediction]:
        """(n,) questions and their (n, dim) query embeddings to n predictions."""


Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that a model wants called. Who offered it calls it."""

    id: str
    name: str
    arguments: str  # JSON, as the model wrote it: it may be anything


@dataclass(frozen=True, slots=True)
class ToolCallsMessage(ChatMessage):
    """An assistant's, who wanted these called; its content may be empty."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class ToolResultMessage(ChatMessage):
    """A tool's: what a call gave."""

    call_id: str


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One call of a language model."""

    messages: tuple[ChatMessage, ...]
    max_output_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    request_id: str = ""
    tenant: str = ""  # whose question it is; decides which engines it may reach
    private: tuple[str, ...] = ()  # what in the messages is one customer's, as written: order numbers and the like
    continuation: str = ""  # the beginning of the answer, said already: only what follows it is generated
    # `tools`, `tool_choice` and `parallel_tool_calls`, as OpenAI has them; without `tools` nothing can be called.
    tools: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of the answer; never empty."""

    text: str
    tokens: int = 1  # that it was written with, as far as that is known


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The next piece of a call: its id and name come once, its arguments in pieces."""

    index: int  # which of the answer's calls, from 0
    id: str = ""
    name: str = ""
    arguments: str = ""


FinishReason = Literal["stop", "length", "tool_calls", "error", "cancelled"]


@dataclass(frozen=True, slots=True)
class GenerationEnd:
    """The last item of every complete generation."""

    finish_reason: FinishReason
    input_tokens: int
    output_tokens: int


Generated = TextDelta | ToolCallDelta | GenerationEnd


class LLM(Protocol):
    """A language model that streams."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[Generated]:
        """Yields `TextDelta`s, and `ToolCallDelta`s where tools are offered, then exactly one `GenerationEnd`.

        A failure raises (never a silent end). Closing the iterator early cancels the generation in the engine.
        """
