"""The encoder that the settings name, for the rooms that load it or have to know which one it is."""

from __future__ import annotations

from dataclasses import fields

from deployments.settings import EncoderSettings
from models.embedder import EncoderConfig


def encoder_config(settings: EncoderSettings) -> EncoderConfig:
    return EncoderConfig(**{field.name: getattr(settings, field.name) for field in fields(EncoderConfig)})
