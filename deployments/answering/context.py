"""What a turn means in its conversation: a question that stands alone, or no question at all. Pure.

Told by rules: the turn is given what it leaves out only when it leaves something out. A turn that may as well stand
alone is left as it is, and `Reading.is_sure` says so: there a model may be asked (rewriting.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

from deployments.answering import context_en, context_zh
from deployments.answering.choices import chosen, offered
from deployments.answering.context_types import Lean
from deployments.answering.turn_kind import TurnKind, folded, kind_of
from deployments.answering.word_classes import without_contrast
from models.protocols import ChatMessage

_MOST_MESSAGES = 12  # older ones do not matter any more
_MOST_CHARS = 400  # of a turn that may lean on others: who writes more says what it is about
_REMEMBERED, _MOST_REMEMBERED_CHARS = 4096, 2000  # turns, and of each with the answer before it; some 10 MB
_CJK = re.compile(r"[\u3400-\u9fff]")

_YES = re.compile(
    r"(?:(?:yes|yeah|yep|yup|ya|sure|ok|okay|k|please|please do|of course|definitely|absolutely|correct|right"
    r"|exactly|go ahead|go on|i do|i would"
    r"|i'd like that|i would like that|that would be (?:great|nice|good)|sounds good|great|fine|thanks|thank you"
    r"|that's right|that one|do it|why not"
    r"|yes i do|show me|tell me|是的?|对的?|好[的啊呀吧滴嘞]?|行|可以的?|要的?|需要的?|嗯+|没错|麻烦(?:你|您)?了?"
    r"|quickly|fast|asap|as soon as possible|right away|快点|快|尽快|马上|赶紧|急|请说|请讲|说吧|(?:说|讲|看)(?:说"
    r"|讲|看|一下|来听听)?看?|想的?|有的?|谢谢|当然|请|那就?|你?说说)[\s,.!，。！~]*)+"
)
_NO = re.compile(
    r"(?:(?:no|nope|nah|not really|not now|not yet|no thanks|no thank you|i don't|thanks|thank you|that's all|that "
    r"is all|that's it|nothing(?: else)?|nothing more|it's fine"
    r"|i'm good|all good|不|不用|不需要|不要|不了|不是|不必|没有|没了|没|暂时|先|了|谢谢|的|别的|其他|问题|就这些"
    r"|就这样)[\s,.!，。！~]*)+"
)
_ANYTHING_ELSE = re.compile(
    r"\b(?:anything else|something else|help you|assist you|can i help|may i help|can i do for you|did (?:that"
    r"|this) (?:help|answer)|does (?:that|this) (?:help|answer)"
    r"|was (?:that|this) helpful|solve(?:d)? your|answer(?:ed)? your question)\b|(?:什么|其他|别的|其它"
    r"|还).{0,6}(?:帮|需要|问题|疑问)|帮[到助]?[您你].{0,4}$|解决了|满意吗|有帮助",
    re.IGNORECASE,
)
_OFFER_EN = re.compile(
    r"^.*?\b(?:would you like|do you want|do you need|are you interested in|shall i|should i|may i|can i"
    r"|want)\b\s*(?:me |us )?(?:to )?"
    r"(?:(?:know|hear|see|learn|find out|tell you|show you|explain|give you|get|read|have)\b\s*(?:more )?(?:about "
    r"|on )?)?",
    re.IGNORECASE,
)
_OFFER_ZH = re.compile(
    r"^.*?(?:需不需要|是否需要|需要|要不要|想不想|是否想|想要|想|要)(?:我|您|你|为您|帮您|给您|再)*(?:介绍|了解"
    r"|说明|知道|查看|看看|讲讲|说说|解释|发送|提供|告诉)?(?:一下|下)?(?:您|你)?(?:关于)?"
)
_DID_YOU_MEAN = re.compile(
    r"\b(?:do|did) you mean|are you (?:asking|talking) about|is (?:it|this) about|you mean\b|(?:您|你)?(?:是指"
    r"|指的是|说的是|是不是想?问|问的是|是想问|想问的是)",
    re.IGNORECASE,
)
_WH = re.compile(
    r"\b(?:which|what|where|when|who|how many|how much|whose|could you (?:please )?(?:tell|give|send|share|provide)"
    r"|can you (?:please )?(?:tell|give|send|share|provide)|or)\b"
    r"|哪|什么|几|多[少大长高重久]|谁|还是|请提供|请告[诉知]|请问是|麻烦提供|请输入|请选择",
    re.IGNORECASE,
)
_CORRECTION = re.compile(
    r"^(?:(?:no|nope|sorry|wait|oops|oh|actually|not (?:that|this)(?: one)?|wrong|hm+|ah|my mistake|my "
    r"bad)\b[\s,.!…-]*)*"
    r"(?:(?:i|we) (?:actually |really )?(?:meant|mean|was (?:asking|talking) about|was asking for|am (?:asking"
    r"|talking) about|want(?:ed)? to ask about)|i(?:'m| am) (?:asking|talking) about"
    r"|(?:it(?:'s| is| was)|that(?:'s| is)) about|i should have said|make that)\s+(?:to (?:say|ask about) )?(?P<en>.+)$"
    r"|^(?:(?:no|sorry|wait|oops|oh)[\s,.!…-]+)*not (?:the |my |for |in )?(?P<wrong_en>[\w ]{2,30}?), ?(?:but "
    r"|rather )?(?P<right_en>(?:the|my|for|in)? ?[\w -]{2,40})$"
    r"|^我(?:说|问|指|要)的不是(?P<wrong_zh>[^，,。]{1,15})[，,](?:而)?是(?P<right_zh>[^，,。]+)"
    r"|^(?:(?:no|nope|sorry|wait|oops|oh|ah|hm+|actually)[\s,.!…-]+)*(?P<last>[^?,]{2,40}?),? (?:i|we) (?:mean|meant)$"
    r"|^(?:(?:no|sorry|wait|oops)[\s,.!…-]+)+(?P<name>(?-i:[A-Z0-9][\w.-]*(?: [A-Z0-9][\w.-]*){0,3}))$"
    r"|^(?:(?:no|sorry|wait|oops|actually|oh)[\s,.!…-]+)+(?P<amount>[\d][\d.,]* ?[a-z€$%]+(?: [a-z]+)?)$"
    r"|^(?:(?:no|sorry|wait|oops|not (?:the |that )[\w ]{1,30})[\s,.!…-]+)+(?:actually |rather |but "
    r")?(?P<bare>(?:the|for the|in|for) [^?]{2,50})$"
    r"|^(?:(?:不对|不是(?:的|[^，,。]{1,12}(?=[，,]))?|[^，,。]{0,2}错了|不好意思|抱歉|哦|等等|等一下"
    r"|你(?:理解|搞)错了)[\s,，。.!！]*)*"
    r"(?:我(?:刚才)?(?:想)?(?:说|问|指|要|买|订|用)的(?:其实)?是|我的意思是|我是(?:说|问|指)|应该是"
    r"|(?<=[,，。\s了])是|(?<=[,，。\s了])我(?:其实)?(?:想|要)?(?:问|说|指))(?P<zh>[^，,。]+)",
    re.IGNORECASE,
)
_WRONG_ONE = re.compile(r"^(?P<right>.+?)[\s,，]*(?:(?:,|and)? not (?:the |in |for )?.+|，?不是.+)$", re.IGNORECASE)
_SWITCH_EN = re.compile(
    r"^(?:(?:and|ok|okay|thanks|thank you|also|great|hi|well|so|but)[\s,.!]+)*(?:(?:i(?:'ve| have)(?: got)?|just) "
    r")?(?:another|one more|a (?:different|new|second|quick)|one other|a completely different)"
    r" (?:question|thing|topic|issue|problem|subject)|^(?:(?:and|ok|okay|thanks|also)[\s,.!]+)*(?:by the way|btw"
    r"|changing the (?:subject|topic)|different (?:question|topic)|something else|on another note|new question"
    r"|unrelated)\b",
    re.IGNORECASE,
)
_CONTACT = re.compile(
    r"\b(?:number|phone|link|address|e-?mail|hotline)\b|电话|号码|链接|网址|邮箱|热线|地址", re.IGNORECASE
)
_SENDS = re.compile(r"[送寄邮]|\b(?:deliver|ship|send)", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.!?。！？]*(?:[.!?。！？](?=\d)[^.!?。！？]*)*[.!?。！？]*")


@dataclass(frozen=True, slots=True)
class Reading:
    """One turn, understood."""

    kind: TurnKind
    text: str  # a question that stands alone; the turn itself where it needs nothing
    needs_history: bool = False
    is_sure: bool = True  # False: the rules would not be surprised to be wrong


def read(messages: Sequence[ChatMessage]) -> Reading:
    """The last message, which is the customer's; the earlier ones are read in their order, so that each can lean on
    what the one before it meant."""
    question: str | None = None
    answer = ""
    reading = Reading("question", "")
    for message in messages[-_MOST_MESSAGES:]:
        if message.role == "assistant":
            answer = message.content.strip()
        elif message.role == "user":
            reading = _read_turn(message.content.strip(), question, answer)
            if reading.kind == "question":
                question, answer = reading.text[:_MOST_CHARS], ""
    return reading


def _read_turn(text: str, question: str | None, answer: str) -> Reading:
    """Of a conversation's turns all but the last were read before, and many customers ask one thing after another."""
    is_short = len(text) + len(answer) <= _MOST_REMEMBERED_CHARS
    return _read_once(text, question, answer) if is_short else _read(text, question, answer)


@lru_cache(_REMEMBERED)
def _read_once(text: str, question: str | None, answer: str) -> Reading:
    return _read(text, question, answer)


def _read(text: str, question: str | None, answer: str) -> Reading:
    if (choice := chosen(text, answer)) is not None:
        return Reading("question", choice, needs_history=True)
    reply = _as_reply(text, question, "" if offered(answer) else answer)
    if reply is not None:
        return reply
    kind = kind_of(text)
    alone = Reading(kind, text)
    if kind != "question" or question is None or not 0 < len(text) <= _MOST_CHARS or _switches(text):
        return alone
    if (correction := _CORRECTION.match(text)) is not None:
        return _corrected(correction, question, answer) or alone
    found = _language(text).lean(text) or _language(text).points_back(text, question, answer)
    if found is None:
        return alone
    completed = _completed(found, text, question, answer)
    return alone if completed is None else Reading("question", completed, needs_history=True, is_sure=found.is_sure)


def _switches(text: str) -> bool:
    return bool(_SWITCH_EN.match(text)) or context_zh.is_switch(text)


def _language(text: str) -> ModuleType:
    return context_zh if _CJK.search(text) else context_en


# --- the turn answers a question of ours ---


def _as_reply(text: str, question: str | None, answer: str) -> Reading | None:
    asked = _asked_back(answer)
    if asked is None:
        return None
    plain = folded(text)
    says_no, says_yes = bool(_NO.fullmatch(plain)), bool(_YES.fullmatch(plain))
    if (says_yes or says_no) and _ANYTHING_ELSE.search(asked):
        return Reading("thanks" if kind_of(text) == "thanks" else "small_talk", text)
    if says_no:
        return Reading("thanks" if kind_of(text) == "thanks" else "small_talk", text)
    if says_yes:
        return _accepted(text, question, asked)
    if question is None or kind_of(text) != "question" or not _WH.search(asked) or not _is_bare_answer(text):
        return None
    chosen = text.rstrip(" .。!！")
    chinese = bool(_CJK.search(question))
    return Reading("question", f"{_ask_end(question)}{'，' if chinese else ', '}{chosen}", needs_history=True)


def _asked_back(answer: str) -> str | None:
    """The question that our answer ends with."""
    sentences = [sentence.strip() for sentence in _SENTENCE.findall(answer[-_MOST_CHARS:]) if sentence.strip()]
    if not sentences:
        return None
    last = sentences[-1]
    asks = last.endswith(("?", "？")) or re.match(
        r"(?:请|麻烦)(?:您|你)?(?:提供|告诉|告知|输入|选择|说明)|please (?:tell|give|send|provide|enter|choose)",
        last,
        re.I,
    )
    return last.strip(" ?？") if asks else None


def _accepted(text: str, question: str | None, asked: str) -> Reading:
    """ "Yes" to "Would you like to know what it costs to take a dog?"."""
    if _DID_YOU_MEAN.search(asked):
        meant = _DID_YOU_MEAN.split(asked)[-1].strip(" ,，:：吗呢么\"“”'")
        if question is None or _stands_alone(meant):
            return Reading("question", meant, needs_history=True)
        return Reading("question", _language(question).asked_of(question, meant), needs_history=True)
    chinese = bool(_CJK.search(asked))
    frame = (_OFFER_ZH if chinese else _OFFER_EN).match(asked)
    if frame is None or frame.end() == len(asked):
        return Reading("question", question, needs_history=True) if question else Reading("small_talk", text)
    offered = asked[frame.end() :].strip(" ,，吗呢么")
    found = _language(offered).lean(offered)
    completed = _completed(found, offered, question, "") if found is not None and question is not None else None
    return Reading("question", completed or offered, needs_history=True)


def _stands_alone(text: str) -> bool:
    return len(text.split()) > 4 or (bool(_CJK.search(text)) and len(text) > 8)


def _is_bare_answer(text: str) -> bool:
    """No question of its own: "compact", "to Portugal", "the blue one, please", "NL-20458812"."""
    if "?" in text or "？" in text or len(text) > 60:
        return False
    return not re.match(
        r"\W*(?:how|what|why|where|when|which|who|can|could|do|does|is|are)\b", text, re.I
    ) and not re.search(r"怎么|什么|多少|多久|吗$|呢$|为啥|如何|能不能|哪", text)


def _ask_end(question: str) -> str:
    return question.rstrip(" ?？.。")


# --- the turn corrects, or leaves out ---


def _corrected(correction: re.Match[str], question: str, answer: str) -> Reading | None:
    names = ("en", "last", "amount", "bare", "name", "zh", "right_en", "right_zh")
    meant = next(part for part in map(correction.group, names) if part is not None).strip(" .!。！")
    wrong = correction["wrong_zh"]
    if wrong is not None and wrong in question:
        return Reading("question", question.replace(wrong, meant), needs_history=True)
    if (both := _WRONG_ONE.match(meant)) is not None:
        meant = both["right"]
    language = _language(meant)
    if language is context_en and context_en.stands(meant):
        return Reading("question", meant, needs_history=False)
    if language is context_zh and context_zh.asks(meant):
        found = language.lean(meant)
        completed = _completed(found, meant, question, answer) if found is not None else None
        return Reading("question", completed or meant, needs_history=completed is not None)
    return Reading("question", _language(question).asked_of(question, meant), needs_history=True)


def _completed(found: Lean, text: str, question: str, answer: str) -> str | None:
    """None when the history has nothing to complete it with."""
    before = _language(question)
    if found.need == "fragment":
        fragment = found.core
        if found.span is not None and (named := before.thing_of(question)) is not None:
            fragment = _language(fragment).with_thing(fragment, found.span, named)
        return str(before.asked_of(question, fragment))
    if found.need == "delivery" and not _SENDS.search(question):
        return None
    if found.need in ("matter", "delivery"):
        return _beside(before.matter_of(question), found.core)
    if found.need == "facet":
        if before is _language(text) and before.names_anew(text, question):
            return None
        named = before.thing_of(question)
        is_named = before is context_en and named is not None and context_en.is_named(named)
        topic = str(named) if is_named else str(before.matter_of(question))
        if answer and _CONTACT.search(text) and (whose := _language(answer).thing_of(_SENTENCE.findall(answer)[0])):
            topic += f"，{whose}" if _CJK.search(topic) else f", {whose}"  # "call our emergency line"
        return _beside(without_contrast(topic, text), found.core)
    thing = before.thing_of(question) or (_language(answer).thing_of(_SENTENCE.findall(answer)[0]) if answer else None)
    if found.need == "attribute":
        own = (
            thing is None or (before is context_en and not context_en.is_named(thing)) or thing.lower() in text.lower()
        )
        return None if own else _beside(str(thing), found.core)
    if thing is None:
        return _beside(before.matter_of(question), found.core)
    if found.need == "thing":
        return _beside(thing, found.core)
    return str(_language(found.core).with_thing(found.core, found.span, thing))


def _beside(topic: str, turn: str) -> str:
    """Topic first, as Chinese says it anyway."""
    if _CJK.search(turn):
        return str(context_zh.with_thing(turn, None, topic))
    return f"{topic}: {turn}"
