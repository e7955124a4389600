"""The room that understands a question: one encoder pass gives its intent and its embedding. Knows no Ray.

Questions that arrive while a pass is running wait for the next one and share it: a pass over sixteen questions costs
far less than sixteen passes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deployments.answering.errors import OverloadedError
from deployments.answering.types import Understanding
from deployments.encoder import encoder_config
from deployments.settings import EncoderSettings, IntentSettings
from models.intent_head import LinearIntentHead
from models.protocols import Embedder, IntentHead

MAX_WAITING = 1024  # questions; beyond, the caller is told to come back


class IntentClassifier:
    def __init__(
        self,
        encoder: EncoderSettings,
        intents: IntentSettings,
        *,
        embedder: Embedder | None = None,
        head: IntentHead | None = None,
    ) -> None:
        """Loads what the settings name, unless it is given: tests bring fakes."""
        self._embedder = embedder or encoder_config(encoder).load()
        self._head = head or LinearIntentHead.load(Path(intents.head), self._embedder.identity)
        self._max_batch = encoder.max_batch
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="encoder")  # the model uses its own threads
        self._waiting: deque[tuple[str, asyncio.Future[Understanding]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._is_warm = False

    async def warm_up(self) -> None:
        """The first pass is slow: it allocates. Done before the room says that it is ready."""
        for text in ("warm up", "你好，请问怎么退货？"):
            await self.understand(text)
        self._is_warm = True

    async def check_health(self) -> None:
        """Serve asks each replica, before it gives it work and ever again: so a new one is warm, too."""
        if not self._is_warm:
            await self.warm_up()

    async def understand(self, text: str) -> Understanding:
        if len(self._waiting) >= MAX_WAITING:
            raise OverloadedError()
        future: asyncio.Future[Understanding] = asyncio.get_running_loop().create_future()
        self._waiting.append((text, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            size = min(self._max_batch, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            batch = [(text, future) for text, future in batch if not future.done()]  # its customer may have gone
            if not batch:
                continue
            texts = [text for text, _ in batch]
            await _settle(batch, loop.run_in_executor(self._executor, self._pass, texts))

    def _pass(self, texts: list[str]) -> list[Understanding]:
        embeddings = self._embedder.embed_queries(texts)
        predictions = self._head.predict(embeddings)
        return [Understanding(prediction, row) for prediction, row in zip(predictions, embeddings, strict=True)]


async def _settle(
    batch: list[tuple[str, asyncio.Future[Understanding]]],
    running: asyncio.Future[list[Understanding]],
) -> None:
    try:
        results = await running
    except Exception as error:  # every question of the pass hears of it; the worker lives on
        for _, future in batch:
            if not future.done():
                future.set_exception(error)
        return
    for (_, future), result in zip(batch, results, strict=True):
        if not future.done():
            future.set_result(result)
