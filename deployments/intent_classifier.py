"""The room that understands a question: one encoder pass gives its intent and its embedding. Knows no Ray.

Questions that arrive while a pass is running wait for the next one and share it: a pass over sixteen questions costs
far less than sixteen passes. Customers ask the same again, and many at once: such a question is encoded once, and what
came of it remembered. A newly trained head takes the place of the old one between two passes.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from deployments.answering.errors import OverloadedError
from deployments.answering.types import Understanding
from deployments.encoder import encoder_config
from deployments.settings import EncoderSettings, IntentSettings
from models.intent_examples import IntentDataError
from models.intent_model import IntentModel
from models.intent_versions import current_version, load_version
from models.protocols import Embedder, IntentHead

log = structlog.get_logger(__name__)

MAX_WAITING = 1024  # different questions; beyond, the caller is told to come back
MAX_REMEMBERED = 4096  # 2 kB each
_LONGEST_REMEMBERED = 400  # characters: what is longer is hardly asked twice
_Asked = tuple[str, str]  # tenant, question: how fast one is understood tells no tenant what another has asked
_Waiting = list[asyncio.Future[Understanding]]


class IntentClassifier:
    def __init__(
        self,
        encoder: EncoderSettings,
        intents: IntentSettings,
        *,
        embedder: Embedder | None = None,
        head: IntentHead | None = None,
    ) -> None:
        """Loads what the settings name, unless it is given: tests bring fakes. A given head is never replaced."""
        self._embedder = embedder or encoder_config(encoder).load()
        self._max_batch = encoder.max_batch
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="encoder")  # the model uses its own threads
        self._waiting: dict[_Asked, _Waiting] = {}  # in the order in which they came
        self._remembered: OrderedDict[_Asked, Understanding] = OrderedDict()  # of `_model`, the latest asked last
        self._remembers: IntentModel | None = None  # whose these are
        self._worker: asyncio.Task[None] | None = None
        self._is_warm = False
        self._stop = threading.Event()
        self._following: _HeadFollower | None = None
        if head is None:
            self._following = _HeadFollower(Path(intents.head), self._embedder)
            self._model = self._following.model
            threading.Thread(
                target=self._watch, args=(intents.poll_interval_s,), name="intent-head-watcher", daemon=True
            ).start()
        else:
            self._model = IntentModel(self._embedder, head)

    async def stop(self) -> None:
        """Ends the watch for newly trained heads."""
        self._stop.set()

    async def warm_up(self) -> None:
        """The first pass is slow: it allocates. Done before the room says that it is ready."""
        for text in ("warm up", "你好，请问怎么退货？"):
            await self.understand(text)
        self._is_warm = True

    async def check_health(self) -> None:
        """Serve asks each replica, before it gives it work and ever again: so a new one is warm, too."""
        if not self._is_warm:
            await self.warm_up()

    async def understand(self, text: str, tenant: str = "") -> Understanding:
        asked = (tenant, text)
        if (known := self._recalled(asked)) is not None:
            return known
        if len(self._waiting) >= MAX_WAITING:
            raise OverloadedError()
        future: asyncio.Future[Understanding] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(asked, []).append(future)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    def _recalled(self, asked: _Asked) -> Understanding | None:
        if self._remembers is not self._model:
            self._remembered.clear()
            self._remembers = self._model
        if (known := self._remembered.get(asked)) is not None:
            self._remembered.move_to_end(asked)
        return known

    def _remember(self, asked: _Asked, understanding: Understanding, model: IntentModel) -> None:
        tenant, text = asked
        if tenant and model is self._remembers and len(text) <= _LONGEST_REMEMBERED:
            self._remembered[asked] = understanding
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)

    def _watch(self, poll_interval_s: float) -> None:
        assert self._following is not None, "a given head is not watched"
        while not self._stop.wait(poll_interval_s):
            self._model = self._following.latest()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            model = self._model
            running = loop.run_in_executor(self._executor, _pass, model, [text for _, text in batch])
            for asked, understanding in await _settled(batch, running):
                self._remember(asked, understanding, model)

    def _next_batch(self) -> dict[_Asked, _Waiting]:
        """Those that wait longest, without what came to be known meanwhile, or whose customers have all gone."""
        batch: dict[_Asked, _Waiting] = {}
        while self._waiting and len(batch) < self._max_batch:
            asked = next(iter(self._waiting))
            waiting = [future for future in self._waiting.pop(asked) if not future.done()]
            known = self._recalled(asked)
            if known is not None:
                for future in waiting:
                    future.set_result(known)
            elif waiting:
                batch[asked] = waiting
        return batch


def _pass(model: IntentModel, texts: Sequence[str]) -> list[Understanding]:
    embeddings, predictions = model.understand(texts)
    return [Understanding(prediction, row) for prediction, row in zip(predictions, embeddings, strict=True)]


class _HeadFollower:
    """The published head. A version that cannot be used leaves the one before it at work."""

    def __init__(self, root: Path, embedder: Embedder) -> None:
        self._root = root
        self._embedder = embedder
        self._seen = current_version(root)  # the last one that was looked at, usable or not
        self._held = self._seen
        self._fault = ""  # the last one that was told
        self.model = self._load()

    def _load(self) -> IntentModel:
        return IntentModel(self._embedder, load_version(self._root, self._seen, self._embedder.identity))

    def latest(self) -> IntentModel:
        try:
            published = current_version(self._root)
        except IntentDataError as error:
            self._refuse("CURRENT", error)
            return self.model
        if published != self._seen:
            self._seen = published
            try:
                self.model = self._load()
                self._held, self._fault = published, ""
                log.info("intent_head_loaded", version=published, intents=len(self.model.head.labels))
            except IntentDataError as error:
                self._refuse(published, error)
        return self.model

    def _refuse(self, what: str | None, error: IntentDataError) -> None:
        """Said once, however often the pointer is looked at."""
        if str(error) != self._fault:
            self._fault = str(error)
            log.error("intent_head_refused", kept=self._held, refused=what, error=self._fault)


async def _settled(
    batch: dict[_Asked, _Waiting], running: asyncio.Future[list[Understanding]]
) -> list[tuple[_Asked, Understanding]]:
    """What came of the pass; nothing where it failed, which every question of it hears."""
    waiting = [future for futures in batch.values() for future in futures]
    try:
        found = list(zip(batch, await running, strict=True))
    except Exception as error:  # the worker lives on
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        return []
    for asked, understanding in found:
        for future in batch[asked]:
            if not future.done():
                future.set_result(understanding)
    return found
