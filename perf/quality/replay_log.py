"""A stream of questions with known answers: `python -m perf.quality.replay_log --out LOG.jsonl --seed 7`.

Made from the curated questions of the sample company, which are asked again and again, some far more often than others
(Zipf): in their own words, in courtesies and other wordings, with typing errors; and among them questions that differ
in one word or number and have another answer. One JSON object a line, in the order of time:
`{at_s, question, truth, kind}`; `truth` names the right answer. The same seed gives the same file. Rewordings are made
by rule, so a cache that knows such rules does better here than on customers' own words.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from perf.provenance import ROOT

_FAQ = ROOT / "cluster" / "sample_company" / "faq"
Kind = Literal["repeat", "courtesy", "wording", "typo", "near"]
_SHARES: dict[Kind, float] = {"repeat": 0.40, "courtesy": 0.15, "wording": 0.20, "typo": 0.10, "near": 0.15}

_COURTESIES = {
    "en": (
        "Hi, {}",
        "Hello! {}",
        "{} Thanks",
        "Excuse me, {}",
        "Quick question: {}",
        "{} Thank you in advance",
        "hey {}",
    ),
    "zh": ("你好，{}", "请问{}", "{}谢谢", "想问一下{}", "不好意思，{}", "麻烦问下{}", "您好 {}"),
}
# Each is tried on the question; the first group that fits is one of the ways to say it.
_WORDINGS = {
    "en": (
        (r"^How much does (.+) cost\?", ("What does {0} cost?", "What is the price of {0}?", "how much is {0}")),
        (r"^How long does (.+) take\?", ("How many days does {0} take?", "how long will {0} take")),
        (r"^How do I (.+)\?", ("How can I {0}?", "What is the best way to {0}?", "i want to {0}")),
        (r"^Can I (.+)\?", ("Is it possible to {0}?", "Am I able to {0}?", "may i {0}")),
        (r"^Do I need (.+)\?", ("Is {0} needed?", "do i have to have {0}")),
        (r"^When is (.+)\?", ("At what time is {0}?", "what time is {0}")),
        (r"parcel", ("package",)),
        (r"delivery", ("shipping",)),
        (r"refund", ("money back",)),
        (r"return", ("send back",)),
        (r"purchase|buy", ("buy",)),
    ),
    "zh": (
        (r"怎么", ("如何", "咋")),
        (r"多久", ("多长时间", "要多久")),
        (r"多少钱", ("什么价", "几块钱")),
        (r"什么时候", ("啥时候", "何时")),
        (r"能不能|可以", ("能", "可不可以")),
        (r"退款", ("退钱",)),
        (r"修改", ("更改", "改")),
        (r"吗？", ("不？", "么")),
        (r"买", ("购买",)),
    ),
}
_OTHERS = {  # what changes the answer when one takes the other's place
    "en": tuple(
        tuple(pair.split("/"))
        for pair in [
            "express/standard",
            "before/after",
            "return/exchange",
            "minimum/maximum",
            "open/closed",
            "Gold/Silver",
            "first/last",
            "my/my neighbour's",
            "can I/must I",
            "monthly/yearly",
            "cancel/change",
            "with/without",
            "UK/Norway",
            "voucher/gift card",
            "can/can not",
            "order/account",
            "delivery/repair",
            "refund/deposit",
            "parcel/letter",
        ]
    ),
    "zh": tuple(
        tuple(pair.split("/"))
        for pair in [
            "普通/加急",
            "前/后",
            "退货/换货",
            "最低/最高",
            "开通/关闭",
            "金卡/银卡",
            "首次/最后一次",
            "我/我朋友",
            "可以/必须",
            "能/不能",
            "取消/修改",
            "运费/保费",
            "订单/账号",
            "发票/收据",
            "快递/自提",
            "退款/定金",
            "线上/门店",
        ]
    ),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of the log."""

    at_s: float  # since the log began
    question: str
    truth: str  # which answer is right: equal for two questions when the answer of one does for the other
    kind: Kind


def generate(questions: Sequence[str], count: int, seed: int, days: float = 3.0) -> Iterator[Asked]:
    """`count` lines, evenly spread over the days but for chance. questions: each with an answer of its own."""
    rng = random.Random(seed)
    topics = list(questions)
    rng.shuffle(topics)
    weights = [1 / rank for rank in range(1, len(topics) + 1)]
    known = {_plain(topic) for topic in topics}
    at_s = 0.0
    for _ in range(count):
        at_s += rng.expovariate(count / (days * 86_400))
        topic = rng.choices(topics, weights)[0]
        kind = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
        question = _said(topic, kind, rng)
        if kind == "near" and (question == topic or _plain(question) in known):
            kind, question = "repeat", topic
        truth = question if kind == "near" else topic
        yield Asked(round(at_s, 1), question, truth, kind)


def _said(topic: str, kind: Kind, rng: random.Random) -> str:
    language = _language(topic)
    match kind:
        case "courtesy":
            return rng.choice(_COURTESIES[language]).format(topic)
        case "wording":
            return reworded(topic, rng)
        case "typo":
            return _mistyped(topic, rng)
        case "near":
            return _another(topic, language, rng)
        case _:
            return rng.choice((topic, topic, topic, topic.rstrip("?？"), topic.lower()))


def reworded(topic: str, rng: random.Random) -> str:
    """In another wording, by rule."""
    language = _language(topic)
    fitting = [(pattern, ways) for pattern, ways in _WORDINGS[language] if re.search(pattern, topic)]
    if not fitting:
        return topic.lower()
    pattern, ways = rng.choice(fitting)
    way = rng.choice(ways)
    return re.sub(pattern, lambda m: way.format(*m.groups()), topic, count=1)


def _mistyped(topic: str, rng: random.Random) -> str:
    """Two neighbouring letters of a long word exchanged; in Chinese a character that is not there, or twice."""
    places = [m.start() + 1 for m in re.finditer(r"[A-Za-z]{6,}", topic)]
    if places:
        at = rng.choice(places)
        return topic[:at] + topic[at + 1] + topic[at] + topic[at + 2 :]
    at = rng.randrange(1, max(2, len(topic) - 1))
    return topic[:at] + rng.choice((" ", topic[at])) + topic[at:]


def _another(topic: str, language: str, rng: random.Random) -> str:
    """A question with another answer; the topic itself where nothing in it can be exchanged."""
    ways = [
        re.sub(rf"\b{a}\b" if language == "en" else a, b, topic, count=1)
        for pair in _OTHERS[language]
        for a, b in (pair, pair[::-1])
    ]
    if digits := re.search(r"\d+", topic):
        ways.append(topic.replace(digits[0], str(int(digits[0]) + rng.randint(1, 9)), 1))
    changed = [way for way in ways if way != topic]
    return rng.choice(changed) if changed else topic


def _language(topic: str) -> str:
    return "en" if topic.isascii() else "zh"


def _plain(text: str) -> str:
    return re.sub(r"\W+", "", text.lower())


def company_questions() -> list[str]:
    """The curated questions of the sample company, both languages."""
    found: list[str] = []
    for file in sorted(_FAQ.glob("*.csv")):
        with file.open(encoding="utf-8-sig", newline="") as lines:
            found += [row["question"] for row in csv.DictReader(lines)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m perf.quality.replay_log",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--count", type=int, default=2000, help="questions (%(default)s)")
    options = parser.parse_args()
    rows = generate(company_questions(), options.count, options.seed)
    lines = [json.dumps(asdict(row), ensure_ascii=False) for row in rows]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} questions in {options.out}")


if __name__ == "__main__":
    main()
