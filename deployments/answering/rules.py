"""Preset flows: a confident intent is answered at once, in the customer's language. Pure, but for reading its file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.answering.types import Button, Language, Link
from models.protocols import OUT_OF_SCOPE, IntentPrediction


class RulesError(ValueError):
    """The rules file is not valid; the message names file and rule."""


@dataclass(frozen=True, slots=True)
class Reply:
    text: str
    buttons: tuple[Button, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    intent: str
    replies: Mapping[Language, Reply]
    handoff_reason: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """At most one rule an intent."""

    by_intent: Mapping[str, Rule]
    fingerprint: str  # of the file, for cache scopes
    confidence_threshold: float
    margin_threshold: float

    def match(self, prediction: IntentPrediction, language: Language) -> tuple[Rule, Reply] | None:
        """The rule that may answer, or None when the classifier is not sure enough or no rule speaks the language."""
        sure = prediction.confidence >= self.confidence_threshold and prediction.margin >= self.margin_threshold
        rule = self.by_intent.get(prediction.label) if sure and prediction.label != OUT_OF_SCOPE else None
        reply = rule.replies.get(language) if rule else None
        return (rule, reply) if rule and reply else None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _ButtonEntry(_File):
    label: str = Field(min_length=1)
    message: str = Field(min_length=1)


class _LinkEntry(_File):
    label: str = Field(min_length=1)
    url: str = Field(pattern=r"^https?://")


class _ReplyEntry(_File):
    text: str = Field(min_length=1)
    buttons: tuple[_ButtonEntry, ...] = ()
    links: tuple[_LinkEntry, ...] = ()


class _HandoffEntry(_File):
    reason: str = Field(min_length=1)


class _RuleEntry(_File):
    name: str = Field(min_length=1)
    intent: str = Field(min_length=1)
    reply: dict[Language, _ReplyEntry] = Field(min_length=1)
    handoff: _HandoffEntry | None = None


class _RulesFile(_File):
    rules: tuple[_RuleEntry, ...]


def load_rules(path: Path, confidence_threshold: float, margin_threshold: float) -> Rules:
    """Raises `RulesError` that says what to correct."""
    try:
        content = path.read_bytes()
        entries = _RulesFile.model_validate(yaml.safe_load(content)).rules
    except OSError as error:
        raise RulesError(f"cannot read the rules file {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValidationError) as error:
        raise RulesError(f"{path} is not a valid rules file: {error}") from error
    by_intent: dict[str, Rule] = {}
    for entry in entries:
        if entry.intent in by_intent:
            raise RulesError(
                f"{path}: rules {by_intent[entry.intent].name} and {entry.name} share intent {entry.intent}"
            )
        by_intent[entry.intent] = _rule(entry)
    return Rules(by_intent, hashlib.sha256(content).hexdigest()[:16], confidence_threshold, margin_threshold)


def _rule(entry: _RuleEntry) -> Rule:
    replies: dict[Any, Reply] = {
        language: Reply(
            text=reply.text.strip(),
            buttons=tuple(Button(button.label, button.message) for button in reply.buttons),
            links=tuple(Link(link.label, link.url) for link in reply.links),
        )
        for language, reply in entry.reply.items()
    }
    return Rule(entry.name, entry.intent, replies, entry.handoff.reason if entry.handoff else "")
