"""The few sentences that Raydesk says in its own words. Pure."""

from __future__ import annotations

from deployments.answering.turn_kind import TurnKind
from deployments.answering.types import Language

ABSTAIN: dict[Language, str] = {
    "en": "I could not find an answer to that in our help centre. Could you put it another way, or ask for a person?",
    "zh": "很抱歉，我在帮助中心里没有找到这个问题的答案。您可以换个说法再问一次，或者转接人工客服。",
}
ASK_FOR_A_PERSON: dict[Language, tuple[str, str]] = {  # label, message
    "en": ("Talk to a person", "I want to talk to a person"),
    "zh": ("转人工客服", "转人工客服"),
}
DID_YOU_MEAN: dict[Language, str] = {  # before a numbered list of questions
    "en": "Did you mean one of these?",
    "zh": "您想问的是下面哪一个问题？",
}
UNREACHABLE: dict[Language, str] = {
    "en": "I cannot look that up at the moment. Please ask again in a few minutes, or ask for a person.",
    "zh": "很抱歉，我暂时无法查询这个问题。请稍后再试，或者转接人工客服。",
}
QUOTED: dict[Language, str] = {
    "en": "This is what our help centre says:\n\n",
    "zh": "以下内容摘自我们的帮助中心：\n\n",
}
UNSUPPORTED: dict[Language, str] = {  # behind a written answer of which no source says a word
    "en": "Our help centre does not confirm this, so please do not rely on it. A colleague can tell you for certain.",
    "zh": "以上内容未在帮助中心找到依据，仅供参考，请以人工客服的答复为准。",
}
NOTHING_ASKED: dict[TurnKind, dict[Language, str]] = {  # to turns that ask nothing; each fits all turns of its kind
    "small_talk": {
        "en": "I am the automated assistant of this help centre, here whenever you have a question.",
        "zh": "我是本帮助中心的智能助手，有问题随时问我。",
    },
    "thanks": {
        "en": "You are welcome! I am here whenever you have another question.",
        "zh": "不客气！还有问题随时问我。",
    },
    "abuse": {
        "en": "I am sorry that this has been frustrating. Tell me what went wrong, or ask for a person.",
        "zh": "很抱歉给您带来不好的体验。请告诉我遇到了什么问题，或者转接人工客服。",
    },
}
ASK_AGAIN: dict[Language, str] = {  # before a question that was answered with what cannot be an answer
    "en": "Sorry, I could not make use of that. ",
    "zh": "抱歉，我没能识别您的回复。",
}
BACK_TO: dict[Language, str] = {  # before a question that waited while another one was answered
    "en": "\n\nBack to your request: ",
    "zh": "\n\n回到刚才的问题：",
}
CORRECTED: dict[Language, str] = {  # before the question that goes on
    "en": "Noted: {value}. ",
    "zh": "已更正为{value}。",
}
LEFT: dict[Language, str] = {  # a flow, at the customer's wish
    "en": "All right, I have stopped there. I am here whenever you need anything else.",
    "zh": "好的，已经停止办理。有其他需要随时找我。",
}
HANDED_OVER: dict[Language, str] = {
    "en": "I will hand you over to a colleague who can help you with that.",
    "zh": "我为您转接人工客服，由同事来帮您处理。",
}
