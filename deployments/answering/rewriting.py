"""A language model that puts a follow-up as a question of its own, held to the words of the conversation. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from deployments.answering.protocols import Tier
from deployments.answering.query import detect_language, normalize
from deployments.answering.types import Query
from deployments.answering.words import words
from models.protocols import ChatMessage, GenerationRequest, TextDelta

_CJK = re.compile(r"[\u3400-\u9fff]")
_MOST_TURNS = 4  # before the last one: what a follow-up leans on is near
_MOST_CHARS = 300  # of each
_MOST_TOKENS = 64
_INSTRUCTION = (
    "Rewrite the customer's last message as one question that can be understood without the conversation. Use only "
    "words of the conversation. If it can be understood already, repeat it as it is. Answer with the question alone, "
    "in the customer's language."
)
_EXAMPLE = (
    ChatMessage("user", "Customer: How much is shipping to France?\nDesk: 6 euros.\nCustomer: and to Germany?"),
    ChatMessage("assistant", "How much is shipping to Germany?"),
)


class Rewriter(Protocol):
    async def rewrite(self, messages: Sequence[ChatMessage]) -> str:
        """The last message as a question that stands alone. Raises `DependencyError`s."""


class TierRewriter:
    """A tier, asked for a question."""

    def __init__(self, tier: Tier, request_id: str, tenant: str = "") -> None:
        self._tier = tier
        self._request_id = request_id
        self._tenant = tenant

    async def rewrite(self, messages: Sequence[ChatMessage]) -> str:
        request = GenerationRequest(prompt_of(messages), _MOST_TOKENS, request_id=self._request_id, tenant=self._tenant)
        written = ""
        async for item in self._tier.generate(request):
            if isinstance(item, TextDelta):
                written += item.text
        return next(iter(written.strip().splitlines()), "").strip()


async def rewritten(query: Query, messages: Sequence[ChatMessage], rewriter: Rewriter) -> Query:
    """As the model puts it, where the rules are not sure and it invents nothing; else as the rules do.

    It stays unsure, so that the turn's own words are searched where nothing is found. Raises what the rewriter raises.
    """
    if query.is_sure or query.kind != "question":
        return query
    text = await rewriter.rewrite(messages)
    if not adds_only_history(text, messages):
        return query
    return replace(query, search_text=text, is_standalone=normalize(text) == query.normalized)


def prompt_of(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...]:
    who = {"user": "Customer", "assistant": "Desk"}
    said = [
        f"{who[message.role]}: {message.content.strip()[:_MOST_CHARS]}"
        for message in messages[-_MOST_TURNS - 1 :]
        if message.role in who
    ]
    return (ChatMessage("system", _INSTRUCTION), *_EXAMPLE, ChatMessage("user", "\n".join(said)))


def adds_only_history(text: str, messages: Sequence[ChatMessage]) -> bool:
    """Whether it keeps every word of the last message, and what it adds was said before in the conversation."""
    last = messages[-1].content
    said = frozenset[str]().union(*(_units(message.content) for message in messages))
    return bool(text) and detect_language(text) == detect_language(last) and _units(last) <= _units(text) <= said


def _units(text: str) -> frozenset[str]:
    """Latin words, and Chinese characters, since what is put together makes pairs that nobody said."""
    return frozenset(word for word in words(text) if word.isascii()) | frozenset(_CJK.findall(text))
