"""What the fakes promise beyond the contracts, which tests/conformance/ covers."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest

from models.fakes import HashEmbedder, KeywordIntentHead, ScriptedError, ScriptedLLM
from models.protocols import ChatMessage, GenerationEnd, GenerationRequest, TextDelta

pytestmark = pytest.mark.unit


def request(text: str = "hello there", max_output_tokens: int = 50, stop: tuple[str, ...] = ()) -> GenerationRequest:
    return GenerationRequest((ChatMessage("user", text),), max_output_tokens, stop=stop)


async def answer(llm: ScriptedLLM, asked: GenerationRequest) -> tuple[str, GenerationEnd]:
    items = [item async for item in llm.generate(asked)]
    assert isinstance(items[-1], GenerationEnd)
    return "".join(item.text for item in items if isinstance(item, TextDelta)), items[-1]


def test_texts_that_share_words_are_near() -> None:
    query, same_words, other = HashEmbedder(256).embed_queries(["refund my order", "refund order", "reset password"])
    assert query @ same_words > 0.7
    assert abs(query @ other) < 0.2


def test_chinese_texts_that_share_bigrams_are_near() -> None:
    query, near, far = HashEmbedder(256).embed_queries(["怎么申请退款", "退款怎么申请", "忘记密码了"])
    assert query @ near > 0.4
    assert abs(query @ far) < 0.2


def test_hash_vectors_are_the_same_in_another_process() -> None:
    program = "from models.fakes import HashEmbedder as H; print(H(8).embed_queries(['where is my parcel']).tolist())"
    # A random hash seed for the other process: what depends on hash() would differ.
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str(HashEmbedder(8).embed_queries(["where is my parcel"]).tolist())


def test_hash_embedder_needs_two_dimensions() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        HashEmbedder(1)


def test_keyword_head_recognises_its_examples_words() -> None:
    embedder = HashEmbedder(256)
    head = KeywordIntentHead(embedder, {"refund": ["refund my order", "money back"], "password": ["reset password"]})
    (prediction,) = head.predict(["reset my password please"], embedder.embed_queries(["reset my password please"]))
    assert prediction.label == "password"
    assert prediction.runner_up == "refund"
    assert prediction.confidence > 0.9


def test_keyword_head_is_unsure_about_unknown_words() -> None:
    embedder = HashEmbedder(256)
    head = KeywordIntentHead(embedder, {"refund": ["refund my order"], "password": ["reset password"]})
    (prediction,) = head.predict(["sunny weather"], embedder.embed_queries(["sunny weather"]))
    assert prediction.confidence < 0.7


@pytest.mark.parametrize("script", ["", []])
def test_an_empty_script_is_refused(script: str | list[str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        ScriptedLLM(script)


async def test_script_of_several_answers_repeats_the_last() -> None:
    llm = ScriptedLLM(["first", "second"])
    assert [(await answer(llm, request()))[0] for _ in range(3)] == ["first", "second", "second"]


async def test_script_may_be_a_function_of_the_request() -> None:
    llm = ScriptedLLM(lambda asked: asked.messages[-1].content.upper())
    assert (await answer(llm, request("hi")))[0] == "HI"


async def test_requests_are_recorded() -> None:
    llm, asked = ScriptedLLM("ok"), request("remember me")
    await answer(llm, asked)
    assert llm.requests == [asked]


async def test_length_and_stop_words_end_an_answer() -> None:
    llm = ScriptedLLM("one two three END four")
    text, end = await answer(llm, request(max_output_tokens=2))
    assert (text, end.finish_reason, end.output_tokens) == ("one two ", "length", 2)
    text, end = await answer(llm, request(stop=("END",)))
    assert (text, end.finish_reason) == ("one two three ", "stop")


@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_failure_comes_after_that_many_pieces(pieces: int) -> None:
    llm = ScriptedLLM("one two three", fail_after=pieces)
    stream = llm.generate(request())
    for _ in range(pieces):
        assert isinstance(await anext(stream), TextDelta)
    with pytest.raises(ScriptedError, match=f"after {pieces} pieces"):
        await anext(stream)
    assert llm.in_flight == 0


async def test_closing_early_is_recorded_as_cancelled() -> None:
    llm, asked = ScriptedLLM("one two three"), request()
    stream = llm.generate(asked)
    await anext(stream)
    assert llm.in_flight == 1
    await stream.aclose()
    assert (llm.cancelled, llm.in_flight) == ([asked], 0)


async def test_closing_after_the_end_cancels_nothing() -> None:
    llm = ScriptedLLM("one")
    stream = llm.generate(request())
    while not isinstance(await anext(stream), GenerationEnd):
        pass
    await stream.aclose()
    assert llm.cancelled == []


async def test_speed_is_kept() -> None:
    started = time.perf_counter()
    await answer(ScriptedLLM("one two three", ttft_s=0.02, tokens_per_s=100), request())
    assert time.perf_counter() - started >= 0.02 + 2 / 100  # two gaps between three pieces


def test_vectors_of_texts_without_words_are_units_too() -> None:
    assert np.linalg.norm(HashEmbedder().embed_queries(["", "?!"]), axis=1) == pytest.approx([1.0, 1.0])
