"""What is wrong with a rules file is said with its line and key, all of it at once."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from textwrap import dedent
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from deployments.answering.conditions import Situation
from deployments.answering.marked_yaml import YamlError, load_marked
from deployments.answering.rules import Rules
from deployments.answering.rules_file import RulesError, load_rules, warnings
from models.protocols import OUT_OF_SCOPE, IntentPrediction

pytestmark = pytest.mark.unit
SAMPLE = Path("cluster/sample_company/rules.yaml")
SLOTS = """\
slots:
  order:
    type: order_number
    pattern: ORD-\\d{4}
    examples: ORD-1234
    ask: {en: "Which order?", zh: "哪个订单？"}
"""


def load(tmp_path: Path, text: str, **options: Any) -> Rules:
    file = tmp_path / "rules.yaml"
    file.write_text(dedent(text), encoding="utf-8")
    return load_rules(file, 0.9, 0.3, **options)


def problems(tmp_path: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(RulesError) as caught:
        load(tmp_path, text)
    assert all(f"rules.yaml:{problem.line}: " in str(caught.value) for problem in caught.value.problems)
    return [(problem.line, problem.key, problem.message) for problem in caught.value.problems]


def test_sample_company_has_valid_rules() -> None:
    rules = load_rules(SAMPLE, 0.9, 0.3)
    assert "track_order" in rules.intents
    assert rules.slots


@pytest.mark.parametrize(
    ("text", "line", "key", "message"),
    [
        ("rules:\n  - name: a\n    intent: [\n", 4, "", "not YAML"),
        ("rules:\n  - name: a\n    name: b\n", 3, "", "the key 'name' is given twice"),
        ("rules:\n  - intent: a\n    reply: {en: {text: x}}\n", 2, "rules[0].name", "required"),
        ("rules:\n  - name: a\n    intent: a\n    replay: {}\n", 4, "rules[0].replay", "no such key"),
        ("rules:\n  - {name: a, intent: a}\n", 2, "rules[0]", "it does nothing"),
        (
            "rules:\n  - name: a\n    intent: a\n    reply:\n      fr: {text: x}\n",
            5,
            "rules[0].reply.fr",
            "'en' or 'zh'",
        ),
        (
            "rules:\n  - name: a\n    intent: a\n    reply:\n      en:\n        text: x\n        links:\n"
            "          - label: l\n            url: javascript:1\n",
            9,
            "rules[0].reply.en.links[0].url",
            "pattern",
        ),
        (
            "rules:\n  - name: a\n    intent: a\n    when: {confidence: 1.5}\n    reply: {en: {text: x}}\n",
            4,
            "rules[0].when.confidence",
            "less than or equal to 1",
        ),
        (
            "rules:\n  - name: a\n    intent: a\n    when:\n      hours: service\n    reply: {en: {text: x}}\n",
            5,
            "rules[0].when.hours",
            "no hours 'service'",
        ),
        ("time_zone: Mars/Base\nrules: []\n", 1, "time_zone", "no time zone 'Mars/Base'"),
        (
            "hours:\n  service:\n    - {from: '25:00', to: '18:00'}\nrules: []\n",
            3,
            "hours.service[0].from",
            "hour",
        ),
        ("rules:\n  - name: a\n    intent: a\n    ask: order\n" + SLOTS, 2, "rules[0]", "the last step must end"),
        (
            "rules:\n  - name: a\n    intent: a\n    steps:\n      - ask: colour\n      - reply: {en: {text: x}}\n",
            5,
            "rules[0].steps[0].ask",
            "no slot 'colour'",
        ),
        (
            "rules:\n  - name: a\n    intent: a\n    reply:\n      en: {text: 'Order {order}'}\n" + SLOTS,
            5,
            "rules[0].reply.en.text",
            "{order} is no slot that was asked for before",
        ),
        (
            "rules:\n  - name: a\n    intent: a\n    steps:\n      - tool: {name: order_status}\n"
            "      - reply: {en: {text: x}}\n",
            5,
            "rules[0].steps[0].tool.name",
            "no tools are set up here",
        ),
        (
            "rules:\n  - name: a\n    intent: a\n    steps:\n      - reply: {en: {text: x}}\n"
            "      - reply: {en: {text: y}}\n",
            6,
            "rules[0].steps[1]",
            "never reached",
        ),
        (
            "rules:\n  - {name: a, intent: x, reply: {en: {text: x}}}\n"
            "  - {name: b, intent: x, reply: {en: {text: y}}}\n",
            3,
            "rules[1].intent",
            "never reached: rule 'a' answers the intent x always",
        ),
        (
            "rules:\n  - {name: a, intent: x, reply: {en: {text: x}}}\n"
            "  - {name: a, intent: y, reply: {en: {text: y}}}\n",
            3,
            "rules[1].name",
            "same name",
        ),
        (
            "rules:\n  - name: a\n    intent: x\n    steps:\n      - ask: order\n      - reply: {zh: {text: y}}\n"
            + SLOTS.replace(', zh: "哪个订单？"', ""),
            2,
            "rules[0]",
            "no language",
        ),
        (
            "slots:\n  order:\n    type: order_number\n    ask: {en: x}\nrules: []\n",
            2,
            "slots.order",
            "needs a pattern",
        ),
        (
            "slots:\n  order:\n    type: order_number\n    pattern: '('\n    ask: {en: x}\nrules: []\n",
            4,
            "slots.order.pattern",
            "regular expression",
        ),
        (
            "slots:\n  day:\n    type: date\n    pattern: x\n    ask: {en: x}\nrules: []\n",
            2,
            "slots.day",
            "a slot of type date has no pattern",
        ),
        ("- a\n- b\n", 1, "", "dictionary"),
        ("", 1, "", "dictionary"),
    ],
)
def test_problem_is_told_with_its_line_and_key(tmp_path: Path, text: str, line: int, key: str, message: str) -> None:
    found = problems(tmp_path, text)
    assert [(at, where) for at, where, _ in found] == [(line, key)]
    assert message in found[0][2]


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "rules:\n  - {name: a, intent: x, replay: 1}\n  - {name: b, intent: y, reply: {en: {txt: x}}}\n"
    assert [line for line, _, _ in problems(tmp_path, text)] == [2, 3, 3]


def test_aliases_of_aliases_are_refused() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefg", "bcdefgh", strict=True)
    )
    with pytest.raises(YamlError, match="more than"):
        load_marked(bomb.encode())


def test_what_contains_itself_is_refused() -> None:
    with pytest.raises(YamlError):
        load_marked(b"a: &a\n  b: *a\n")


def test_rule_that_calls_a_tool_is_valid_where_there_is_one(tmp_path: Path) -> None:
    text = (
        "rules:\n  - name: a\n    intent: a\n    steps:\n      - ask: order\n"
        "      - tool: {name: order_status, arguments: {order: '{order}'}}\n"
        "      - reply: {en: {text: 'It is {order_status.state}.'}, zh: {text: '{order_status.state}'}}\n" + SLOTS
    )
    assert load(tmp_path, text, tools={"order_status"}).named("a") is not None
    with pytest.raises(RulesError, match="there is no tool 'order_status'; there are other"):
        load(tmp_path, text, tools={"other"})


def test_unknown_intents_and_unused_slots_are_warnings(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "rules:\n  - name: a\n    intent: [known, renamed]\n    reply: {en: {text: x}}\n"
        f"  - name: b\n    intent: {OUT_OF_SCOPE}\n    reply: {{en: {{text: x}}}}\n" + SLOTS,
        encoding="utf-8",
    )
    found = warnings(file, {"known", OUT_OF_SCOPE})
    assert [(problem.line, problem.key) for problem in found] == [
        (3, "rules[0].intent"),
        (6, "rules[1].intent"),
        (9, "slots.order"),
    ]
    assert "'renamed'" in found[0].message


# --- conditions ---

CONDITIONS = """
time_zone: Europe/Amsterdam
hours:
  service:
    - {days: [mon, tue, wed, thu, fri], from: 09:00, to: 18:00}
    - {days: sat, from: 22:00, to: 02:00}
rules:
  - {name: closed, intent: person, when: {outside_hours: service}, reply: {en: {text: x}, zh: {text: x}}}
  - {name: wecom, intent: person, when: {channel: [wecom], language: zh}, reply: {en: {text: x}, zh: {text: x}}}
  - {name: sure, intent: person, when: {confidence: 0.99}, reply: {en: {text: x}, zh: {text: x}}}
  - {name: unsure, intent: [person, agent], when: {confidence: 0.5}, reply: {en: {text: x}}}
"""


@pytest.mark.parametrize(
    ("when", "changes", "confidence", "expected"),
    [
        ("2026-11-25 12:00", {}, 0.95, "unsure"),
        ("2026-11-25 12:00", {}, 0.995, "sure"),
        ("2026-11-25 12:00", {"language": "zh"}, 0.95, None),
        ("2026-11-25 12:00", {"language": "zh", "channel": "wecom"}, 0.95, "wecom"),
        ("2026-11-25 12:00", {"channel": "wecom"}, 0.95, "unsure"),
        ("2026-11-25 18:00", {}, 0.95, "closed"),
        ("2026-11-25 08:59", {}, 0.95, "closed"),
        ("2026-11-28 23:00", {}, 0.95, "unsure"),  # Saturday night
        ("2026-11-29 01:59", {}, 0.95, "unsure"),  # the same night
        ("2026-11-29 02:00", {}, 0.95, "closed"),
        ("2026-11-28 01:00", {}, 0.95, "closed"),  # Friday night is none
        ("2026-11-25 12:00", {}, 0.4, None),
        ("2026-11-25 12:00", {"label": "agent"}, 0.6, "unsure"),
        ("2026-11-25 12:00", {"label": OUT_OF_SCOPE}, 0.99, None),
    ],
)
def test_first_rule_whose_conditions_hold_answers(
    tmp_path: Path, when: str, changes: dict[str, Any], confidence: float, expected: str | None
) -> None:
    rules = load(tmp_path, CONDITIONS)
    now = datetime.fromisoformat(when).replace(tzinfo=ZoneInfo("Europe/Amsterdam")).astimezone(ZoneInfo("Asia/Tokyo"))
    prediction = IntentPrediction(changes.pop("label", "person"), confidence, confidence, "other")
    here = Situation("", changes.get("language", "en"), changes.get("channel", "http"), now)
    rule = rules.match(prediction, lambda _: here)
    assert (rule and rule.name) == expected


def test_narrow_lead_over_the_second_intent_is_not_sure(tmp_path: Path) -> None:
    rules = load(tmp_path, CONDITIONS)
    here = Situation("", "en", "http", datetime(2026, 11, 25, 11, tzinfo=ZoneInfo("UTC")))
    assert rules.match(IntentPrediction("person", 0.99, 0.2, "other"), lambda _: here) is None


@pytest.mark.parametrize(
    ("test", "value", "passes"),
    [
        ("{is_known: true}", "ORD-1234", True),
        ("{is_known: false}", "ORD-1234", False),
        ("{is_known: false}", None, True),
        ("{one_of: [ORD-1234]}", "ORD-1234", True),
        ("{one_of: ORD-9999}", "ORD-1234", False),
        ("{matches: 'ORD-1.*'}", "ORD-1234", True),
        ("{matches: 'ORD-2.*'}", "ORD-1234", False),
        ("{matches: 'ORD-2.*'}", None, False),
    ],
)
def test_slot_condition(tmp_path: Path, test: str, value: str | None, passes: bool) -> None:
    text = (
        f"rules:\n  - {{name: a, intent: a, when: {{slots: {{order: {test}}}}}, reply: {{en: {{text: x}}}}}}\n{SLOTS}"
    )
    rule = load(tmp_path, text).named("a")
    assert rule is not None
    now = datetime(2026, 11, 25, tzinfo=ZoneInfo("UTC"))
    here = Situation("", "en", "http", now, {} if value is None else {"order": value})
    assert rule.when.holds(here) is passes


@pytest.mark.parametrize(("value", "passes"), [("2026-11-20", True), ("2026-10-20", False), ("2026-11-26", False)])
def test_date_condition(tmp_path: Path, value: str, passes: bool) -> None:
    text = """
        slots: {day: {type: date, ask: {en: "When?"}}}
        rules: [{name: a, intent: a, when: {slots: {day: {within_days: 7}}}, reply: {en: {text: x}}}]
    """
    rule = load(tmp_path, text).named("a")
    assert rule is not None
    here = Situation("", "en", "http", datetime(2026, 11, 25, tzinfo=ZoneInfo("UTC")), {"day": value})
    assert rule.when.holds(here) is passes
