"""How customers leave a flow, correct what they said, and ask something else meanwhile. Pure."""

from __future__ import annotations

import re

_CANCEL_EN = (
    r"(?:(?:no|ok|okay|oh|well|sorry|actually|then|please|just|hm+|ah)[\s,.!]+)*"
    r"(?:never ?mind(?: (?:that|this|it|about (?:it|that|this)))?|nvm|forget (?:about )?(?:it|that|this)"
    r"|(?:please )?(?:cancel|stop|abort|quit|exit|leave|drop|end|skip)(?: (?:it|that|this|asking|now|the process))?"
    r"|(?:i do not|i don'?t|do not|don'?t) (?:want|need|wish) (?:to (?:continue|go on|do (?:it|this|that))|this|that"
    r"|it)(?: any ?more| anymore)?|(?:i(?:'ve| have) )?changed my mind|don'?t bother|let'?s (?:leave|drop|forget|stop) "
    r"(?:it|this|that)|i(?:'ll| will) (?:leave it|do it later|come back later)|(?:not|no longer) (?:needed|interested))"
    r"(?:[\s,.!]+(?:thanks|thank you|please|then|for now|instead|sorry))*"
)
_CANCEL_ZH = (
    r"(?:(?:那|哦|嗯|唉|还是|就|我|先|好|呃|额)[\s,，]*)*"
    r"(?:算了|不用了?|不需要了?|不必了|取消|停止?|退出|放弃|没事了?|结束"
    r"|(?:先)?不(?:想)?(?:查|问|弄|办|搞|说|提供|继续|报|填|要|退|换)了|(?:不|别)(?:想)?(?:继续|再问)了?|别(?:查|问|弄)了"
    r"|(?:我)?(?:改变主意|改主意)了?|以后再说|下次再说|改天再说)"
    r"(?:[\s,，]*(?:算了|吧|了|啊|呀|谢谢|不用了|不查了|不弄了|取消))*"
)
_CANCEL = re.compile(rf"(?:{_CANCEL_EN}|{_CANCEL_ZH})[\s.!。！~…]*", re.IGNORECASE)

_CORRECTION = re.compile(
    r"^\W*(?:no|nope|wait|oops|sorry|actually|correction|wrong|not (?:that|this)|my (?:mistake|bad))\b"
    r"|\b(?:i (?:actually |really )?mean[t]?|should (?:be|have been|say)|make (?:that|it)|change (?:it|that|the \w+(?: "
    r"\w+)?) to|typo|mistyped|misspelled|(?:gave|told) you the wrong|(?:was|is|were) wrong|not .{2,40}\bbut\b|rather)\b"
    r"|不对|(?<!是)不是|[说打搞弄写记输看填]错|错了|应该是|其实是|改成|改为|换成|更正|纠正|我(?:说|指|要)的是|我是说|而是",
    re.IGNORECASE,
)

_ASKS = re.compile(
    r"[?？]\s*$"
    r"|^(?:(?:hi|hello|and|but|so|ok|okay|well|also|wait|first|sorry|by the way|btw|quick question)[\s,.:!]+)*"
    r"(?:how|what|why|where|when|which|who|whose|can|could|do|does|did|is|are|am|will|would|should|may|shall)\b"
    r"|\b(?:tell me|i want to know|i'?d like to know|wondering|explain) (?:how|what|why|where|when|which|who|if|whether"
    r"|about)\b"
    r"|(?:吗|么|呢|嘛)[\s。！!~]*$|怎么|怎样|什么|为什么|为啥|如何|多久|多少钱|多少天|几天|能不能|可不可以|是不是|有没有|会不会"
    r"|要不要|哪里|哪儿|哪个|在哪|请问|想问|问一下",
    re.IGNORECASE,
)
_MOST_CHARS = 300  # of a turn that is nothing but leaving or correcting


def cancels(text: str) -> bool:
    """The whole turn says that the customer does not want to go on ("cancel my order" says something else)."""
    return len(text) <= _MOST_CHARS and _CANCEL.fullmatch(text) is not None


def corrects(text: str) -> bool:
    """Something said before was wrong; what is meant stands in the text, too."""
    return len(text) <= _MOST_CHARS and _CORRECTION.search(text) is not None


def asks(text: str) -> bool:
    return _ASKS.search(text) is not None
