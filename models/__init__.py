"""Encoders, intent heads and language models behind small protocols; knows nothing of the rest."""
