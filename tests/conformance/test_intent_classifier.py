"""The room over the shipped fakes and over the bundled encoder with a trained head.

Its remote end passes the same suite in tests/e2e/rooms_suite.py.
"""

from __future__ import annotations

import pytest

from deployments.intent_classifier import IntentClassifier
from deployments.settings import EncoderSettings, IntentSettings
from models.embedder import BertEmbedder
from models.fakes import HashEmbedder, KeywordIntentHead
from models.intent_examples import examples_of
from models.intent_training import train_intent_head
from models.protocols import Embedder, IntentHead
from tests.conformance.classifier_suite import ClassifierSuite

pytestmark = pytest.mark.conformance

EXAMPLES = {
    "track_order": ["where is my order", "track my parcel", "any news on my parcel", "我的快递到哪了", "查物流"],
    "cancel_order": ["cancel my order", "please stop my order", "I no longer want it", "取消订单", "不想要了"],
    "talk_to_human": ["talk to a human", "I want an agent", "a real person please", "转人工", "找客服"],
}


Models = tuple[Embedder, IntentHead]


@pytest.fixture(scope="module", params=["fakes", "bert"])
def models(request: pytest.FixtureRequest) -> Models:
    if request.param == "fakes":
        embedder = HashEmbedder(256)
        return embedder, KeywordIntentHead(embedder, EXAMPLES)
    bert: BertEmbedder = request.getfixturevalue("bert")
    return bert, train_intent_head(bert, examples_of(EXAMPLES)).head


class TestIntentClassifier(ClassifierSuite):
    @pytest.fixture
    def classifier(self, models: Models) -> IntentClassifier:
        embedder, head = models
        return IntentClassifier(EncoderSettings(), IntentSettings(), embedder=embedder, head=head)
