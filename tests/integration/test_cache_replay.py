"""A stream through the pipeline and the real room, on a Valkey server of its own."""

import pytest

from models.fakes import HashEmbedder
from perf.quality.replay import Line, Outcome, Replay

pytestmark = pytest.mark.integration


async def test_repeats_are_hit_paraphrases_verified_and_other_questions_made_anew() -> None:
    lines = [
        Line(0.0, "How long does a refund take?", "refund", ""),
        Line(1.0, "How long does a refund take", "refund", ""),
        Line(2.0, "Hello, how long does a refund take?", "refund", ""),  # near-exact: a courtesy changes nothing
        Line(2.5, "How long does it take to get a refund?", "refund", ""),
        Line(3.0, "How long does an exchange take?", "exchange", ""),
    ]
    embedder = HashEmbedder(256)
    same = embedder.embed_queries(["refund"])[0]
    replay = Replay(lines, {line.question: same for line in lines})
    await replay.run()
    assert replay.paths == ["faq", "exact_cache", "exact_cache", "semantic_cache", "faq"]
    assert replay.given == ["refund", "refund", "refund", "refund", "exchange"]
    assert replay.outcome() == Outcome(3, 0)
