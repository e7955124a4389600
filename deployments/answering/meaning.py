"""What a question asks, as far as its words tell: its concepts, numbers, polarity, kind, modality and direction. Pure.

`read` goes once through the text: politeness and framing go ("could you tell me whether …"), numbers become tokens
(quantities.py), the rest becomes concepts (lexicon.py) or, where it is on no line there, stands for itself. Nothing
here knows embeddings: two questions are compared by what they say, the encoder says which are worth comparing.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from deployments.answering.lexicon import (
    CONCEPTS,
    CONFUSED_ZH,
    FILLERS_EN,
    FILLERS_ZH,
    KNOWN_EN,
    LIGHT,
    NO_TYPOS,
    PEOPLE,
    PERSONS,
)
from deployments.answering.quantities import WORDS_EN, mark
from deployments.answering.words import negations, without_a_not_a

Kind = Literal[
    "how", "why", "when", "how_long", "how_much", "how_many", "where", "who", "what", "whether", "wish", "statement"
]
Modality = Literal["", "can", "should", "need", "must"]
Tense = Literal["", "past", "future"]

_CJK = re.compile(r"[\u3400-\u9fff]")
_SPACE = re.compile(r"\s+")
_INVISIBLE = re.compile(r"[\u200b-\u200d\ufeff]")
_LONE_A = re.compile(
    r"(?<=[a-z0-9\u3400-\u9fff] )A\b(?! [a-z])|(?<=[\u3400-\u9fff])A(?![a-zA-Z])"
)  # "plan A": no article
_ID_LETTERS = re.compile(
    r"(?<![a-z0-9])([a-z]{1,2})-?(?=\d)|(?<=\d)(?:([ai])(?![a-z0-9]))"
)  # "a10293", "12a": nor here
_US = re.compile(r"\b(?:US|U\.S\.A?\.?)(?![A-Za-z$])")  # in lower case it is a pronoun


@dataclass(frozen=True, slots=True)
class Meaning:
    concepts: tuple[str, ...]  # in the order of the text, without those that say little
    light: frozenset[str]  # concepts that say little
    quantities: tuple[str, ...]  # "3:day", in the order of the text; of "one" only those with a unit
    negations: int
    kind: Kind
    modality: Modality
    tense: Tense
    is_unable: bool  # "I cannot pay", which "I did not pay" is not
    of_another: bool  # somebody else than the speaker is who may, must or does
    between: frozenset[str]  # "to the company" ("can I call you"), "to the speaker" ("can you call me")
    given_to: Literal["", "speaker", "another"]  # who stands behind 给, 向, 替
    turns: frozenset[tuple[str, str]]  # (what stands before, what behind) a word of direction or order


# --- English: framing and kinds ---

_CONTRACTIONS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\b(?:a|by|with|my|personal|paper) (?:checks?)\b(?!-| in| out)", "cheque"),
        (r"\bcan ?not\b|\bcan'?t\b|\bcouldn'?t\b", "can not"),
        (r"\bwon'?t\b", "will not"),
        (r"\bain'?t\b", "is not"),
        (r"\b(do|does|did|is|are|was|were|has|have|had|would|should|need|must)n'?t\b", r"\1 not"),
        (r"\bhavnt\b", "have not"),
        (r"\bi am (?:unable|not able) to\b|\b(?:am|is|are) unable to\b|\bunable to\b", "i can not"),
        (r"\b(?:it is|it's) (?:not possible|impossible) to\b", "i can not"),
        (r"\b(what|where|how|when|who|that|it|there|here|let)s\b(?=\s)", r"\1"),
        (r"\bi'?m\b", "i am"),
        (r"\bi'd\b|\bid(?= (?:like|love|prefer) to\b)", "i would"),
        (r"'(?:s|re|ve|ll|d|m)\b|s'(?=\s)", " "),
        (r"\b(?:u|ya)\b", "you"),
        (r"\bur\b", "your"),
        (r"\br\b(?= (?:you|there))", "are"),
        (r"\bwanna\b", "want to"),
        (r"\bgonna\b", "going to"),
        (r"\bgotta\b", "have to"),
        (r"\boutta\b", "out of"),
        (r"\bgimme\b", "give me"),
        (r"\blemme\b", "let me"),
        (r"\b(?:pls|plz|asap|btw|thx|tks|ty|please|kindly)\b", " "),
        (r"\bpwd\b|\bpw\b", "password"),
        (r"\bacc(?:oun)?t\b|\bacct\b|\ba/c\b", "account"),
        (r"\bamt\b", "amount"),
        (r"\btel\b", "telephone"),
        (r"\bno\.(?= (?:of|for)\b)|\b(?<=telephone )no\b\.?|\b(?<=phone )no\b\.?|\b(?<=order )no\b\.?", "number"),
        (r"\bqty\b", "quantity"),
        (r"\bmax\b\.?", "maximum"),
        (r"\bmin\b\.(?= )", "minimum"),
        (r"\bapprox\b\.?", " "),
        (r"\binfo\b", "information"),
        (r"\btmr\b|\btmrw\b", "tomorrow"),
        (r"\bmsgs?\b", "message"),
        (r"\bqr-code\b", "qr code"),
        (r"\b2-?fa\b", "two-factor authentication"),
        (r"\b2-step\b", "two-step"),
        (r"\b(turn|turned|turning|switch|switched|switching)((?: (?!on\b|off\b)[\w-]+){1,4}) (on|off)\b", r"\1 \3\2"),
        (r"\btwice\b", "2 times"),
        (r"\bthrice\b", "3 times"),
    )
)
_FRAMES_EN = tuple(
    re.compile(pattern)
    for pattern in (
        r"^\W*(?:(?:hi|hello|hey|dear|good (?:morning|afternoon|evening|day))\b(?: (?:there|team|guys|all|everyone"
        r"|sir|madam|support))?\W*)+",
        r"\b(?:excuse me|sorry(?: to bother you)?|thanks?(?: you)?(?: so much| very much| a lot| in advance)?"
        r"|cheers)\b(?! to)",
        r"\b(?:just )?(?:a )?quick question\b:?",
        r"\b(?:can|could|would|will) (?:you|someone|somebody|anyone|anybody) +(?:please +)?"
        r"(?:tell|explain|show|advise|help|inform|guide|let|clarify|check"
        r"|confirm)(?: to)?"
        r"(?: me| us)?(?: know| understand| out| with)?(?: about)?\b",
        r"\bwould you mind (?:telling|explaining|showing|letting)(?: to)?(?: me| us)?(?: know)?\b",
        r"\bi would (?:really )?(?:appreciate|be grateful|be glad)(?: it)? if you(?: could| would)?(?: explain"
        r"| tell me| help me| let me know)?\b",
        r"\bi (?:would like|want|need|would love|wish) to (?:know|ask|find out|learn|check|understand|enquire"
        r"|inquire)(?: about)?\b",
        r"\bi (?:was|am)? ?(?:just )?(?:wonder(?:ing)?|curious)(?: about)?\b",
        r"\b(?:do you|does anyone|does anybody) (?:happen to )?know\b",
        r"\b(?:any|no) (?:idea|clue)\b",
        r"\bi (?:do not|really do not) (?:know|understand|get)(?= how| what| where| when| if| why| which)\b",
        r"\bi am not (?:sure|certain)(?= how| what| where| when| if| why| which| about)\b",
        r"\b(?:may|can|could) i (?:ask|know)(?: you)?\b",
        r"\bi have (?:a|one) question(?: about)?\b",
        r"\b(?:tell|help|show|let|inform|guide) (?:me|us)(?: know)?(?: about)?\b",
        r"\bplease (?:explain|advise)\b",
        r"\b(?:you )?guys\b",
        r"\bwhether or not\b",
    )
)
_REWRITES_EN = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (
            r"\b(?:is|was|would) (?:it|this) (?:be )?(?:possible|okay|ok|allowed|permitted|fine|alright|all right)"
            r"(?: (?:to|for me to|for us to|if i|if we|that i))?\b",
            " may i ",
        ),
        (r"\bwould it be possible(?: to| for me to)?\b", " may i "),
        (
            r"\b(?:is there|there is|have you got) (?:any|a|an|some) (?:way|chance|possibility|option)(?: to| for"
            r"| of| that i can| i can)?\b",
            " may i ",
        ),
        (r"^\W*any (?:way|chance) (?:to|of|i can)\b", " may i "),
        (r"\b(?:am|are) (?:i|we|you|users|customers) (?:able|allowed|permitted) to\b", " may i "),
        (r"\b(?:am|are) (?:i|we|you) (?:required|obliged|obligated) to\b", " must i "),
        (r"\bis it (?:necessary|required|mandatory|compulsory|obligatory)(?: for me)?(?: to)?\b", " must i "),
        (
            r"\bhow (?:do|will|can|would|could|should) i (?:know|find out|tell|see|check)(?= (?:when|if|whether|how"
            r"|what|where|why|which)\b)",
            " ",
        ),
        (
            r"\bwhere (?:is|are) (?:my|the|our) (order|parcel|package|shipment|delivery)\b(?! (?:address|note"
            r"|number))",
            r" where track \1 ",
        ),
        (
            r"\bhow come\b|\bwhat (?:is|was)? ?(?:up|going on) with\b|\bwhat (?:is|was) the reason(?: why| that"
            r"| for)?\b|\bfor what reason\b|\bwhat is wrong with\b",
            " why ",
        ),
        (
            r"\b(?:what|which) (?:is|are|would be) the (?:best |right |correct |easiest |proper |quickest )?(?:way"
            r"|ways|process|procedure|steps?)(?: to| for| of)\b",
            " how i ",
        ),
        (r"\bwhat the way to\b", " how i "),
        (
            r"\bwhat (?:should|do|can|must|would|could|shall) i (?:have to |need to )?do(?: to| in order to"
            r"| so as to)\b",
            " how i ",
        ),
        (
            r"\bwhat (?:should|do|can|must|would|could|shall) (?:i|we) (?:have to |need to )?do\b|\bwhat to do\b"
            r"|\bwhat now\b",
            " how i ",
        ),
        (
            r"\bhow (?:do|can|could|would|should|to|does|did|shall|may|might)(?: (?:i|we|you|one|someone|customers"
            r"|a customer))?(?: go about)?\b",
            " how i ",
        ),
        (
            r"\bhow (?:much|many) (?:time|hours|days|weeks|months|minutes)\b|\bhow (?:soon|quickly|fast)\b"
            r"|\bwhat (?:is )?the (?:duration|time frame|timeframe)\b",
            " how long ",
        ),
        (r"\bwhat (?:do|does|did|will|would) (.{1,60}?) cost\b", r" how much \1 "),
        (r"\bhow much (?:(?:do|does|is|are|will|would|did|must|should)\b)?(.{0,60}?) costs?\b", r" how much \1 "),
        (
            r"\b(?:what|how much) (?:is|are) the (?:price|cost|fee|fees|charge|charges|rate)s?(?: of| for| to)?\b",
            " how much ",
        ),
        (r"\bhow much (?:do|does|is|are|will|would)\b", " how much "),
        (r"\b(?:at )?what (?:time|date|day)\b|\bby when\b", " when "),
        (r"\bwhat (?:is )?the number of\b", " how many "),
        (r"\bin (?:order|case) (?:to|of)\b", " "),
    )
)
_KINDS_EN: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("why", re.compile(r"\bwhy\b")),
    ("how_long", re.compile(r"\bhow long\b")),
    ("how_much", re.compile(r"\bhow much\b")),
    ("how_many", re.compile(r"\bhow many\b")),
    ("when", re.compile(r"^\W*(?:and )?when\b|\bwhen (?:is|are|do|does|will|can|did|should|was)\b")),
    ("where", re.compile(r"\bwhere\b")),
    ("who", re.compile(r"\bwhom?\b(?! (?:is|are|was|has|have) )|^\W*who\b")),
    ("how", re.compile(r"\bhow\b")),
    ("what", re.compile(r"\bwhat\b|\bwhich\b")),
    (
        "whether",
        re.compile(
            r"^\W*(?:if|whether|is|are|am|was|were|do|does|did|can|could|may|will|would|shall|should|must|has|have"
            r"|had|any)\b"
            r"|[,;.:] *(?:is|are|am|do|does|did|can|could|may|will|must|has|any) "
        ),
    ),
    (
        "wish",
        re.compile(r"\bi (?:want|need|wish|would like|have to|am trying|am looking|plan|intend)\b|\bto be able to\b"),
    ),
)
_MUST_EN = re.compile(
    r"\bmust\b|\b(?:do|does|did|will|would|should|if|whether)? ?(?:i|we|you|they|he|she|customers?|users?"
    r"|\w+) (?:have|has|need) to\b"
    r"|\bneed(?:ed)? \w+ to\b|\brequired?\b|\bmandatory\b|\bcompulsory\b|\bobligatory\b|\bnecessary\b"
    r"|\b(?:do|does|will|would) (?:i|we|you|it|they|the \w+) need\b|\bneeded\b"
)
_CAN_EN = re.compile(r"\b(?:can|could|may|allowed|permitted|possible|able)\b")
_SHOULD = re.compile(r"\bshould\b|\bsupposed to\b|\b(?:recommended|advisable|advised)\b|应该|应当|最好|建议")
_PAST_EN = re.compile(r"\b(?:did|was|were|had)\b")
_UNABLE_EN = re.compile(r"\bcan (?:i |we )?not\b|\bcan (?:i|we) not\b")
_FUTURE_EN = re.compile(r"\b(?:will|shall|going to)\b")

# --- Chinese ---

_FRAMES_ZH = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:我)?(?:想|要|来)?(?:请教|咨询|请问|问|了解|打听|确认)(?:一)?(?:下|问)?(?:你们|您|大家|客服)?(?:关于)?",
        r"(?:能不能|能|可以|可否|能否|麻烦|请|烦请)?(?:告诉|告知|教教|教|跟我说|给我讲|介绍)(?:一下)?(?:我)?(?:一下)?(?:关于)?",
        # Asked of the company, for the speaker: "我妈能替我" and "替我妈" are another matter.
        r"(?:^|(?<=[你您们想要吧 ,，.。!！?？:：]))(?:麻烦|请|劳驾|能|能不能|可以)*"
        r"(?:帮|替)(?:我(?![妈爸儿女哥姐弟妹孩老朋家同])|忙|我们)?(?:看|问|确认)?(?:一)?下?",
        r"(?:我)?(?:不太|不|还不|也不)(?:知道|清楚|明白|确定|了解|晓得|懂)(?:该|要|应该)?",
        r"(?:客服|人工|有人|有客服)(?:在)?(?:吗|不)[，,？?。 ]|不好意思|对不起|打扰了?(?:一下)?|在吗|在不在|有人吗",
    )
)
_REWRITES_ZH = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(.)[不没](\1[\u3400-\u9fff])", r"\2"),
        (r"([\u3400-\u9fff]{2})[不没]\1", r"\1"),
        (r"(?<=[\u3400-\u9fff])(?:不|没|没有|否|不行|行不行|行吗|可以吗|好吗|成吗)[?？!。 ~]*$", "吗"),
        (r"几(?:个)?(?:工作日|天|小时|分钟|个?星期|周|个?月)", "多久"),
        (r"能否|可否", "能是否"),
        (r"有无", "有是否"),
        (r"用不了", "不能用"),
        (r"(?<=[\u3400-\u9fff])不了", "不能"),
        (
            r"(登|连|打|用|进|收|付|看|联系|登录|连接|上传|下载|安装|充|绑|退|换)不(?:上去|上|开|进去|到|出来|出)",
            r"不能\1",
        ),
        (r"无法|没办法|没法(?:子)?|不可以|不让|不给", "不能"),
        (r"不能登(?!录|陆|机)", "不能登录"),
        (r"不能连(?!接)", "不能连接"),
        (r"不能打(?!开|电)", "不能打开"),
        (r"还?(?:没有?|未)(?=[\u3400-\u9fff])", "没"),
        (r"咋|怎样|如何|该怎么|要怎么|应该怎么", "怎么"),
        (r"啥", "什么"),
        (r"那里(?=[?？]?$)", "哪里"),
    )
)
_KINDS_ZH: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "why",
        re.compile(
            r"为什么|为何|怎么回事|什么原因|原因是?什么|什么情况|怎么(?:又|就|会|这么|那么|不|没|扣|变(?![更换])|突然|被)|怎么.{0,6}(?:不能|这么|没)"
        ),
    ),
    ("how_long", re.compile(r"多久|多长时间|几个?(?:工作日|天|小时|分钟|月|星期|周)|多少(?:天|个?小时|个?工作日)")),
    ("when", re.compile(r"什么时候|何时|几时|几点|哪天|什么时间|何日|几号")),
    (
        "how_much",
        re.compile(
            r"多少钱|几块钱|怎么收费|怎么卖|收费标准|什么价|(?:费|费用|价格|价钱|价|钱|利率|利息|租)(?:是|要|为)?(?:多少|怎么算)|多少(?:的)?(?:元|块|费用|手续费|运费)"
        ),
    ),
    ("how_many", re.compile(r"多少|几(?=[个张次件位名条台人份部岁折])")),
    ("where", re.compile(r"哪里|哪儿|在哪|什么地方|何处|去哪|从哪")),
    ("who", re.compile(r"谁|哪位")),
    ("how", re.compile(r"怎么|流程|步骤|(?:什么|哪些|有)(?:方法|办法)")),
    ("what", re.compile(r"什么|哪些|哪个|哪种|哪几|哪家")),
    ("whether", re.compile(r"吗|么[?？。]?$|是否|有没有|是不是|(?:能|可以|会|要|支持|有).*[?？呢]$")),
    ("wish", re.compile(r"我(?:想|要|需要|打算|准备|希望)|^(?:想|要|需要|请)")),
)
_MUST_ZH = re.compile(r"必须|必需|一定要|一定得|一定需要|非得|非要|强制|务必|只能|不得不|得要")
_NEED_ZH = re.compile(r"需要|需(?=[\u3400-\u9fff].*吗)|要(?=[\u3400-\u9fff].*吗)|用(?:交|付|带).*吗|有必要")
_CAN_ZH = re.compile(r"可以|能|允许|可(?=[\u3400-\u9fff])|行吗")

_A_NOT_A = re.compile(r"(.{1,2})[不没]\1")

# --- words ---

_WORD = re.compile(r"⟦[^⟧]*⟧|[a-z]+_?(?:-[a-z]+)*|[\u3400-\u9fff]|[+&%#→>-]")
# What stands before and behind one of these may not change places.
_MARKERS_EN = frozenset("from to into before after than instead over for with by until later".split())  # noqa: SIM905
_FILLER_MARKERS_ZH = frozenset("送到 寄到 寄往 飞 发往 到 至 → > -".split())  # noqa: SIM905
_MARKERS_ZH = _FILLER_MARKERS_ZH | frozenset("转 换 抵 译 比 换成 改成 变成 兑 兑换 before after".split())  # noqa: SIM905
_NEGATIONS_ZH = "不没无未非勿"  # counted, not compared


def _stem(word: str) -> str:
    """Snowball's first steps: plurals, -ed and -ing. Derivations are on the lexicon's lines."""
    if len(word) <= 3 or not word.isascii():
        return word
    if word.endswith("sses"):
        word = word[:-2]
    elif word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix in ("ing", "ed"):
        root = word.removesuffix(suffix)
        if root != word and len(root) >= 3 and re.search(r"[aeiouy]", root):
            if len(root) > 3 and root[-1] == root[-2] and root[-1] not in "lsz":
                root = root[:-1]
            word = root
            break
    if word.endswith("ll"):
        word = word[:-1]
    if word.endswith("y") and len(word) > 3:
        word = word[:-1] + "i"
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def _load() -> tuple[dict[tuple[str, ...], str], dict[str, str]]:
    english: dict[tuple[str, ...], str] = {}
    chinese: dict[str, str] = {}
    for name, called_en, called_zh in CONCEPTS:
        for expression in called_en:
            words = tuple(_WORD.findall(expression))
            english.setdefault(words, name)  # as it stands, before it is stemmed: "shipping" is not "ship"
            english.setdefault(tuple(map(_stem, words)), name)
        for expression in called_zh:
            chinese.setdefault(expression, name)
    known = frozenset((*chinese, *FILLERS_ZH))
    for expression, name in tuple(chinese.items()):
        for slip in _slips_zh(expression) - known:
            chinese.setdefault(slip, name)
    return english, chinese


def _slips_zh(expression: str) -> set[str]:
    """A word of two characters or more with one of them mistaken for another: 地指 for 地址."""
    return {
        expression[:place] + other + expression[place + 1 :]
        for place, character in enumerate(expression)
        for group in CONFUSED_ZH
        if character in group and len(expression) > 1
        for other in group
        if other != character
    }


_ENGLISH, _CHINESE = _load()
_LONGEST_EN = max(map(len, _ENGLISH))
_LONGEST_ZH = max(map(len, [*_CHINESE, *FILLERS_ZH]))
_VOCABULARY = {word for words in _ENGLISH for word in words} | FILLERS_EN | WORDS_EN | KNOWN_EN
_BY_ENDS: dict[tuple[str, str], list[str]] = {}
for _word in _VOCABULARY:
    if len(_word) >= 5 and "-" not in _word:
        _BY_ENDS.setdefault((_word[0], _word[-1]), []).append(_word)


# Behind a word for persons these make it a thing: "does the family plan include …".
_OF_PERSONS = (
    "plan|package|card|account|ticket|fare|discount|price|rate|policy|room|seat|member|menu|bundle|pass|version"
)


def _of_another() -> re.Pattern[str]:
    """ "Can my wife collect it", "孩子能用吗": the person is right behind or before the auxiliary."""
    english = "|".join(
        [
            *(" ".join(words) for words, name in _ENGLISH.items() if name in PERSONS),
            *(p for p in sorted(PEOPLE) if p.isascii()),
        ]
    )
    chinese = "|".join(
        [
            *(piece for piece, name in _CHINESE.items() if name in PERSONS),
            *(p for p in sorted(PEOPLE) if not p.isascii()),
        ]
    )
    return re.compile(
        rf"\b(?:can|could|may|must|should|do|does|did|will|would|is|are)(?: (?:my|our|the|a"
        rf"|an))? (?:{english})\b(?!'| (?:{_OF_PERSONS})\b)"
        rf"|(?<![给帮为替的])(?:{chinese})(?=能|可以|可|会|要|必须|怎么)"
    )


_OF_ANOTHER = _of_another()
_BETWEEN = {
    "to the company": re.compile(r"\b(?:i|we)\b(?: \w+){1,2} you\b|我[^你您的]{1,4}(?:你们|您|你)(?!的)"),
    "to the speaker": re.compile(r"\byou\b(?: \w+){1,2} (?:me|us)\b|(?:你们|您|你)[^我的]{1,4}我(?!的)"),
}
_MINE = "|".join(
    ["的", *(piece for piece, name in _CHINESE.items() if name in PERSONS), *(p for p in PEOPLE if not p.isascii())]
)  # behind 我 these make it somebody or something else: 我妈
_TO_SPEAKER = re.compile(rf"[给向替](?:我(?!{_MINE})|自己|本人)")
_TO_ANOTHER = re.compile(rf"[给向替](?!我(?!{_MINE})|自己|本人)[\u3400-\u9fff]")


@lru_cache(maxsize=20_000)
def gist(text: str) -> str:
    """What is asked, in lower case: without typos, courtesies and framing; kinds of question in one wording each."""
    plain = _english_plain(text)
    return _chinese_plain(plain) if _CJK.search(plain) else plain


@lru_cache(maxsize=20_000)
def read(text: str) -> Meaning:
    plain, has_cjk = gist(text), _CJK.search(text) is not None
    kind = _kind(plain, has_cjk)
    modality = _modality(plain, kind, has_cjk)
    raw = _concepts(mark(plain))
    concepts = [c for c in raw if not c.startswith(("⟦", ">"))]
    quantities = [value for value in (c[1:-1] for c in raw if c.startswith("⟦")) if value not in ("1:", "")]
    concepts = _collocated(concepts, kind)
    weighty = tuple(c for c in concepts if c not in LIGHT)
    return Meaning(
        concepts=weighty or tuple(concepts),
        light=frozenset(concepts) - frozenset(weighty or concepts),
        quantities=tuple(quantities),
        negations=negations(plain),
        kind=kind,
        modality=modality,
        tense="past" if _PAST_EN.search(plain) else "future" if _FUTURE_EN.search(plain) else "",
        is_unable=_UNABLE_EN.search(plain) is not None,
        of_another=_OF_ANOTHER.search(plain) is not None,
        between=frozenset(side for side, pattern in _BETWEEN.items() if pattern.search(plain)),
        given_to="speaker" if _TO_SPEAKER.search(plain) else "another" if _TO_ANOTHER.search(plain) else "",
        turns=_turns(raw, has_cjk),
    )


def _english_plain(text: str) -> str:
    plain = _US.sub("usa", unicodedata.normalize("NFKC", _LONE_A.sub("letter-a", text)))
    plain = _INVISIBLE.sub("", plain.casefold().replace("’", "'").replace("`", "'"))
    plain = _ID_LETTERS.sub(lambda m: f" {m[1] or m[2]}_ " if (m[1] or m[2]) in FILLERS_EN else m[0], plain)
    plain = _typos_mended(plain)
    for pattern, replacement in _CONTRACTIONS:
        plain = pattern.sub(replacement, plain)
    for frame in _FRAMES_EN:
        plain = frame.sub(" ", plain)
    plain = _SPACE.sub(" ", plain).strip()
    for pattern, replacement in _REWRITES_EN:
        plain = pattern.sub(replacement, plain)
    return _SPACE.sub(" ", plain).strip()


def _chinese_plain(text: str) -> str:
    text = re.sub(r"(?<=[\u3400-\u9fff]) +(?=[\u3400-\u9fff])", "", text)
    for frame in _FRAMES_ZH:
        text = frame.sub("", text)
    asks = _A_NOT_A.search(text) is not None
    for pattern, replacement in _REWRITES_ZH:
        text = pattern.sub(replacement, text)
    text = without_a_not_a(text)
    return text + "吗" if asks and not text.endswith("吗") else text


def _kind(text: str, has_cjk: bool) -> Kind:
    for kinds in (_KINDS_ZH, _KINDS_EN) if has_cjk else (_KINDS_EN,):
        for kind, pattern in kinds:
            if pattern.search(text):
                return kind
    return "statement"


def _modality(text: str, kind: Kind, has_cjk: bool) -> Modality:
    if kind in ("how", "why", "wish", "statement", "how_much"):
        return "must" if _MUST_ZH.search(text) and kind != "wish" else ""
    if _MUST_ZH.search(text):
        return "must"
    if _MUST_EN.search(text):
        return "need"
    if has_cjk and kind == "whether" and _NEED_ZH.search(text) and not _CAN_ZH.search(text):
        return "need"
    if _SHOULD.search(text):
        return "should"
    if _CAN_EN.search(text) or (has_cjk and _CAN_ZH.search(text)):
        return "can"
    return ""


def _concepts(text: str) -> list[str]:
    """Concepts, unknown words, numbers (⟦3:day⟧) and words of direction (">to") in the order of the text."""
    units: list[str] = _WORD.findall(text)
    found: list[str] = []
    i = 0
    while i < len(units):
        unit = units[i]
        if unit.startswith("⟦"):
            found.append(unit)
            i += 1
        elif _CJK.match(unit):
            i += _take_chinese(units, i, found)
        else:
            i += _take_english(units, i, found)
    return found


def _take_english(units: list[str], i: int, found: list[str]) -> int:
    for length in range(min(_LONGEST_EN, len(units) - i), 0, -1):
        words = tuple(units[i : i + length])
        name = _ENGLISH.get(words) or _ENGLISH.get(tuple(map(_stem, words)))
        if name is None and length > 1:
            continue
        if name is not None:
            if words[0] in _MARKERS_EN and length == 1:
                found.append(">" + name)
            found.append(name)
            if length > 1 and words[-1] in _MARKERS_EN:  # "ship to"
                found.append(">" + words[-1])
            return length
    word = units[i]
    if word in _MARKERS_EN:
        found.append(">" + word)
    if word == "+" and found:
        found.append("plus")
    elif "-" in word and len(word) > 1:
        for part in word.split("-"):
            _take_english([part], 0, found)
    elif FILLERS_EN.isdisjoint((word, _stem(word))) and word not in (
        "-",
        "#",
        "&",
        "%",
        ">",
        "not",
        "no",
        "never",
        "without",
    ):
        found.append(_stem(word))
    return 1


def _take_chinese(units: list[str], i: int, found: list[str]) -> int:
    run = "".join(units[i : i + _LONGEST_ZH])
    end = next((k for k, c in enumerate(run) if not _CJK.match(c)), len(run))
    run = run[:end]
    for length in range(len(run), 0, -1):
        piece = run[:length]
        if piece in _CHINESE:
            name = _CHINESE[piece]
            if piece in _MARKERS_ZH or name in _MARKERS_ZH:
                found.append(">" + name)
            found.append(name)
            return length
        if piece in FILLERS_ZH or piece in _FILLER_MARKERS_ZH:
            if piece in _MARKERS_ZH:
                found.append(">" + piece)
            return length
    if run[0] in _MARKERS_ZH:
        found.append(">" + run[0])
    if run[0] not in _NEGATIONS_ZH:
        found.append(run[0])
    return 1


# What two concepts are together, and what a kind of question says by itself.
_TOGETHER: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (frozenset({"closeaccount", "account"}), frozenset({"closeaccount"})),
    (frozenset({"delete", "account"}), frozenset({"closeaccount"})),
    (frozenset({"cancel", "account"}), frozenset({"closeaccount"})),
    (frozenset({"close", "account"}), frozenset({"closeaccount"})),
    (frozenset({"creditcard", "card"}), frozenset({"creditcard"})),
    (frozenset({"over", "reach"}), frozenset({"over"})),
)
_SAID_BY_KIND: dict[str, frozenset[str]] = {
    "how_much": frozenset({"fee", "price", "pay"}),
    "why": frozenset({"reason"}),
    "how_long": frozenset({"need", "time_of"}),
    "when": frozenset({"time_of", "date"}),
    "where": frozenset({"location", "address"}),
    "how_many": frozenset({"number", "quantity_count"}),
}


def _collocated(concepts: list[str], kind: Kind) -> list[str]:
    there = set(concepts)
    for parts, whole in _TOGETHER:
        if parts <= there:
            concepts = [*(c for c in concepts if c not in parts), *sorted(whole)]
            there = set(concepts)
    said = _SAID_BY_KIND.get(kind, frozenset())
    kept = [c for c in concepts if c not in said]
    return kept or concepts


def _turns(raw: list[str], has_cjk: bool) -> frozenset[tuple[str, str]]:
    """Chinese: all before against all behind a marker ("移动…转联通"); English: the neighbours only."""
    turns: set[tuple[str, str]] = set()
    for i, marker in enumerate(raw):
        if not marker.startswith(">"):
            continue
        name = marker[1:]
        before = [c for c in raw[:i] if not c.startswith(">") and c != name]
        behind = [c for c in raw[i + 1 :] if not c.startswith(">") and c != name]
        if has_cjk:
            turns |= {(x, y) for x in before for y in behind if x != y}
        else:
            if name == "from":
                turns |= {(y, "⇠from") for y in behind[:1]}
            elif name == "to":
                turns |= {(y, "⇠to") for y in behind[:1]}
            elif name == "later":
                turns |= {(x, "⇠later") for x in before[-1:]}
            turns |= {(x, y) for x in before[-1:] for y in behind[:1] if x != y and name != "from"}
    return frozenset(turns)


def _typos_mended(text: str) -> str:
    """Unknown English words of 5 letters or more that are one slip away from a known one."""
    return re.sub(r"(?<![a-z0-9'-])[a-z]{5,}(?![a-z0-9'-])", lambda m: _mended(m[0]), text)


@lru_cache(maxsize=20_000)
def _mended(word: str) -> str:
    if word in _VOCABULARY or _stem(word) in _VOCABULARY or word in NO_TYPOS:
        return word
    for form in (word, _stem(word)):
        near = {known for known in _near(form) if is_one_slip(form, known) or _is_another_vowel(form, known)}
        if len({_ENGLISH.get((known,), known) for known in near}) == 1:
            return min(near)
    return word


def _near(word: str) -> list[str]:
    return [*_BY_ENDS.get((word[0], word[-1]), ()), *_BY_ENDS.get((word[0], word[-2]), ())]


def _is_another_vowel(word: str, other: str) -> bool:
    """One vowel inside a word of 7 letters or more was taken for another: "insurence".

    That is how words are misspelt, and seldom how two of them differ ("massage" is among those that are left alone).
    """
    if len(word) != len(other) or len(word) < 7:
        return False
    differing = [(x, y) for x, y in zip(word, other, strict=True) if x != y]
    return len(differing) == 1 and all(letter in "aeiouy" for letter in differing[0])


def is_one_slip(word: str, other: str) -> bool:
    """Two neighbouring letters exchanged, or one letter inside left out or put in.

    A letter in place of another is no slip here: "charge" and "change" are two words.
    """
    if word == other or max(len(word), len(other)) < 5 or word[0] != other[0]:
        return False
    if len(word) == len(other):
        differing = [i for i, (x, y) in enumerate(zip(word, other, strict=True)) if x != y]
        return (
            len(differing) == 2
            and differing[1] == differing[0] + 1
            and word[differing[0]] == other[differing[1]]
            and word[differing[1]] == other[differing[0]]
        )
    longer, shorter = (word, other) if len(word) > len(other) else (other, word)
    return (
        len(longer) == len(shorter) + 1
        and longer[-1] == shorter[-1]
        and any(longer[:i] + longer[i + 1 :] == shorter for i in range(1, len(longer) - 1))
    )
