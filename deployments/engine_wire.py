"""What goes to an engine's replica."""

from __future__ import annotations

from typing import Any


class EngineRequest(dict[str, Any]):
    """The body of an OpenAI chat completion, which a router that looks at prompts can look into."""

    @property
    def messages(self) -> list[dict[str, str]]:
        messages: list[dict[str, str]] = self["messages"]
        return messages
