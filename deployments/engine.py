"""The replica of a tier: ray.serve.llm's server with a method that takes and gives plain values.

Only this module imports ray.serve.llm's server, which imports vLLM: 600 MB and ten seconds that the ingress is
spared by speaking in dictionaries. It subclasses a Serve class, so it is the one deployment class that imports Ray.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer
from ray.serve.llm.openai_api_models import ChatCompletionRequest

from deployments.actors import is_actor_alive
from deployments.answering.errors import EngineRefusedError
from deployments.engine_streams import EngineStreams
from deployments.engine_wire import call_deltas
from deployments.settings import TierSettings
from models.protocols import FinishReason, Generated, GenerationEnd, TextDelta

_NICENESS = 5  # without a GPU, of the engine's processes: who is answered from the cache goes first, a third to it


class EngineError(RuntimeError):
    """The engine refused or broke off a generation."""


class TierServer(LLMServer):  # type: ignore[misc]  # ray ships no types for it
    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, llm_config: LLMConfig, *, tier: TierSettings, **options: Any
    ) -> None:
        self._streams = EngineStreams(tier, is_actor_alive)
        if not any(bundle.get("GPU") for bundle in llm_config.placement_group_config["bundles"]):
            os.nice(_NICENESS)  # the engine's processes are children of this one
        await super().__init__(llm_config, **options)

    async def generate(
        self, request: dict[str, Any], holder: str = "", generation: str = ""
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Batches of the fields of `TextDelta`s and `ToolCallDelta`s, and last those of the `GenerationEnd`.

        The first batch is empty, and comes at once: a replica that is alive has taken the request.
        request: the body of an OpenAI chat completion, without `model` and `stream`. holder, generation: the actor that
        reads it, and its name for it; it ends when nobody does (`deployments/lease.py`).
        """
        said = self._generate(request)
        async with aclosing(self._streams.of(said, request["max_tokens"], holder, generation)) as batches:
            async for batch in batches:
                yield batch

    async def renew(self, holder: str, generations: list[str]) -> None:
        self._streams.renew(holder, generations)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return self._streams.stats()

    async def _generate(self, request: dict[str, Any]) -> AsyncGenerator[list[Generated], None]:
        yield []
        body = ChatCompletionRequest(
            **request, model=self._llm_config.model_id, stream=True, stream_options={"include_usage": True}
        )
        finish_reason: FinishReason = "stop"
        usage = {"prompt_tokens": 0, "completion_tokens": 0}
        async with aclosing(await self.chat(body)) as batches:
            async for batch in batches:
                items: list[Generated] = []
                for chunk in _chunks(batch):
                    usage = chunk.get("usage") or usage
                    for choice in chunk["choices"]:
                        finish_reason = choice.get("finish_reason") or finish_reason
                        if text := choice["delta"].get("content"):
                            items.append(TextDelta(text))
                        items += call_deltas(choice["delta"])
                if items:
                    yield items
        yield [GenerationEnd(finish_reason, usage["prompt_tokens"], usage["completion_tokens"])]


def _chunks(batch: list[Any] | Any) -> list[dict[str, Any]]:
    """The JSON documents of a batch of server-sent event strings."""
    found = []
    for event in batch if isinstance(batch, list) else [batch]:
        if not isinstance(event, str):
            raise _failure(event.error.code, f"the engine refused the request: {event}")
        for line in event.splitlines():
            data = line.removeprefix("data: ").strip()
            if data and data != "[DONE]":
                document = json.loads(data)
                if (error := document.get("error")) is not None:
                    raise _failure(error.get("code"), f"the engine broke off: {error}")
                found.append(document)
    return found


def _failure(code: Any, message: str) -> Exception:
    """code: as of HTTP. What one caller sends must not look like an engine that is not well."""
    return EngineRefusedError(message) if isinstance(code, int) and 400 <= code < 500 else EngineError(message)
