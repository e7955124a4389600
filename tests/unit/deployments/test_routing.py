import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.answering.question_form import question_form
from deployments.answering.routing import (
    BUILT_IN,
    FEATURE_NAMES,
    Features,
    Router,
    RoutingModel,
    RoutingModelError,
    Term,
    TierLoads,
    TierView,
    as_row,
    features,
    load_routing,
    of_question,
)
from deployments.answering.types import Query, RetrievedChunk
from deployments.settings import RoutingSettings, TierSettings
from tests.unit.deployments.conftest import passage, qa

pytestmark = pytest.mark.unit

SMALL, LARGE, CLOUD = TierView("small"), TierView("large"), TierView("cloud")
EASY = Features(covered=1.0, curated=1.0, parts=1.0)
HARD = Features(compares=1.0, reckons=1.0, parts=3.0, documents=4.0)


def query(text: str, language: str = "en") -> Query:
    return Query(text, text, text, language, is_standalone=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Is the X better than the S?", "compares"),
        ("标准版和专业版有什么区别", "compares"),
        ("why was my card declined", "explains"),
        ("为什么我的卡被拒了", "explains"),
        ("can I return it if the box is open", "has_condition"),
        ("如果包装打开了还能退吗", "has_condition"),
        ("what do 3 of them cost with 10 off", "reckons"),
        ("两件一共多少钱", "reckons"),
    ],
)
def test_form_of_a_question(text: str, asked: str) -> None:
    form = question_form(text)
    assert [name for name in ("compares", "explains", "has_condition", "reckons") if getattr(form, name)] == [asked]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("How much is express?", 1),
        ("Bread and butter, is it in stock?", 1),
        ("How much is express and when does it come?", 2),
        ("加急多少钱？几天能到？", 2),
        ("加急多少钱，几天能到", 2),
        ("", 1),
    ],
)
def test_parts_of_a_question(text: str, parts: int) -> None:
    assert question_form(text).parts == parts


def test_a_chinese_question_is_not_longer_for_having_no_spaces() -> None:
    assert question_form("标准快递几天能到").length == pytest.approx(5)
    assert question_form("How soon is standard delivery here?").length == 6


def test_features_of_evidence() -> None:
    best = RetrievedChunk(qa("a", "Is delivery free?", "From 50 euros."), 1.0, similarity=0.9, lexical_score=0.4)
    sibling = replace(best, chunk=replace(best.chunk, id="a2"), similarity=0.89, lexical_score=0.5)
    other = RetrievedChunk(passage("b", "Delivery costs 4.95 euros."), 0.5, similarity=0.86)
    seen = features(query("is delivery free"), None, [best, sibling, other])
    assert seen.similarity == 0.9
    assert seen.similarity_gap == pytest.approx(0.04)  # to another document, not to its own next chunk
    assert (seen.lexical, seen.agreement) == (0.5, 0.0)
    assert (seen.evidence, seen.documents, seen.curated) == (3.0, 2.0, 1.0)
    assert seen.covered == 1.0
    assert seen.intent_confidence is None  # the encoder was away
    assert "intent_confidence" not in as_row(seen)


def test_one_tier_is_chosen_without_a_look() -> None:
    def look() -> Features:
        raise AssertionError("there is nothing to choose")

    route = Router(RoutingSettings()).choose([SMALL], look)
    assert (route.tiers, route.score) == (("small",), None)


@pytest.mark.parametrize(("seen", "first"), [(EASY, "small"), (HARD, "large"), (Features(), "small")])
def test_built_in_weights(seen: Features, first: str) -> None:
    route = Router(RoutingSettings()).choose([SMALL, LARGE], lambda: seen)
    assert route.tiers[0] == first
    assert sorted(route.tiers) == ["large", "small"]


@pytest.mark.parametrize(
    ("easy", "hard"),
    [
        (
            "How much is express delivery?",
            "Is express better than standard, and what do 3 parcels cost if I pay by card?",
        ),
        ("加急快递多少钱？", "加急和标准快递有什么区别？如果寄三件，一共多少钱？"),
    ],
)
def test_the_harder_question_scores_lower_in_both_languages(easy: str, hard: str) -> None:
    chinese = not easy.isascii()
    scores = [BUILT_IN.score(BUILT_IN.parts(of_question(text, is_chinese=chinese))) for text in (easy, hard)]
    assert scores[0] > BUILT_IN.threshold > scores[1]


def test_reason_names_score_and_what_weighed_most() -> None:
    reason = Router(RoutingSettings()).choose([SMALL, LARGE], lambda: HARD).reason
    assert "is under 0.50" in reason
    assert "parts -1.6" in reason
    assert "compares -1.2" in reason


def test_rule_decides_and_the_nearest_are_next() -> None:
    router = Router(RoutingSettings())
    assert router.choose([SMALL, LARGE, CLOUD], lambda: EASY, wanted="large").tiers == ("large", "cloud", "small")
    assert router.choose([SMALL, LARGE, CLOUD], lambda: EASY, wanted="cloud").tiers == ("cloud", "large", "small")
    assert router.choose([SMALL, LARGE], lambda: EASY, wanted="cloud").tiers[0] == "small"  # there is none


def test_thresholds_of_settings() -> None:
    certain = Router(RoutingSettings(thresholds={"small": 0.99}))
    assert certain.choose([SMALL, LARGE, CLOUD], lambda: EASY).tiers[0] == "large"
    strict = Router(RoutingSettings(thresholds={"small": 0.99, "large": 0.98}))
    assert strict.choose([SMALL, LARGE, CLOUD], lambda: HARD).tiers[0] == "cloud"


def test_busy_larger_tier_is_spared_what_is_nearly_simple_enough() -> None:
    unsure = Features(compares=1.0)  # scores 0.35
    router = Router(RoutingSettings(load_relief=0.5))
    busy = replace(LARGE, load=1.0)
    assert router.choose([SMALL, LARGE], lambda: unsure).tiers[0] == "large"
    assert router.choose([SMALL, busy], lambda: unsure).tiers[0] == "small"
    assert router.choose([replace(SMALL, load=1.0), busy], lambda: unsure).tiers[0] == "large"
    assert router.choose([SMALL, busy], lambda: HARD).tiers[0] == "large"


def test_tier_too_slow_for_what_is_left_does_not_write() -> None:
    slow = replace(LARGE, first_token_s=4.0)
    router = Router(RoutingSettings())
    assert router.choose([SMALL, slow], lambda: HARD, left_s=20.0).tiers[0] == "large"
    hurried = router.choose([SMALL, slow], lambda: HARD, left_s=5.0)
    assert hurried.tiers[0] == "small"
    assert "too slow" in hurried.reason


async def test_loads() -> None:
    loads = TierLoads()
    replicas = {"max_ongoing_requests": 4, "max_replicas": 2}
    tier = TierSettings.model_validate({"name": "small", "model_id": "m", "model_source": "m", "replicas": replicas})
    async with loads.at_work("small"), loads.at_work("small"):
        assert loads.view(tier).load == 0.25
    loads.began_to_write("small", 1.0)
    loads.began_to_write("small", 2.0)
    assert loads.view(tier) == TierView("small", 0.0, pytest.approx(1.2))


# --- the artefact ---

MODEL = RoutingModel(0.5, {"compares": Term(-1.0, 0.2, 0.4)}, 0.7, {"questions": 12})


def test_model_survives_its_file(tmp_path: Path) -> None:
    file = tmp_path / "routing.json"
    file.write_text(MODEL.to_json(), "utf-8")
    read = load_routing(file)
    assert (read.bias, read.terms, read.threshold, read.about) == (0.5, MODEL.terms, 0.7, {"questions": 12})
    assert read.fingerprint != BUILT_IN.fingerprint
    parts = read.parts(Features(compares=1.0, length=5.0))
    assert parts == {"compares": pytest.approx(-2.0)}
    assert read.score(parts) == pytest.approx(1 / (1 + math.exp(1.5)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "pickle"}, "is not a routing model"),
        ({"version": 2}, "format version 2"),
        ({"terms": {"mood": {"weight": 1, "mean": 0, "scale": 1}}}, "mood"),
        ({"terms": {"length": {"weight": 1, "mean": 0, "scale": 0}}}, "scale has to be over 0"),
        ({"terms": {"length": {"weight": "1", "mean": 0, "scale": 1}}}, "weight has to be a number"),
        ({"terms": [1]}, "no terms"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": None}, "threshold has to be a number"),
        ({"bias": float("nan")}, "bias has to be a number"),
    ],
)
def test_damaged_model_is_refused_by_what_is_wrong(change: dict[str, object], said: str) -> None:
    content = json.dumps(json.loads(MODEL.to_json()) | change).encode()
    with pytest.raises(RoutingModelError, match=said):
        RoutingModel.parse(content, "routing.json")


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"[]", b"{"])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    with pytest.raises(RoutingModelError, match=r"routing\.json"):
        RoutingModel.parse(content, "routing.json")


def test_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RoutingModelError, match="cannot read"):
        load_routing(tmp_path / "none.json")


def test_built_in_terms_are_of_features() -> None:
    assert BUILT_IN.terms.keys() <= set(FEATURE_NAMES)
