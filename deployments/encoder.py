"""The models that the settings name, for the rooms that load them or have to know which ones they are."""

from __future__ import annotations

from dataclasses import fields

from deployments.settings import EncoderSettings, RerankerSettings
from models.embedder import EncoderConfig
from models.reranker import RerankerConfig


def encoder_config(settings: EncoderSettings) -> EncoderConfig:
    return EncoderConfig(**{field.name: getattr(settings, field.name) for field in fields(EncoderConfig)})


def reranker_config(settings: RerankerSettings) -> RerankerConfig | None:
    """None where there is to be none."""
    if settings.model is None:
        return None
    return RerankerConfig(**{field.name: getattr(settings, field.name) for field in fields(RerankerConfig)})
