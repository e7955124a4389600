"""Whether a turn asks anything at all: small talk, thanks and abuse need no knowledge. Pure.

A turn is such a thing only when *all* of it is: what is left over is a question ("hi, where is my order?",
"thanks, but how do I …", "this stupid printer does not print").
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

TurnKind = Literal["question", "small_talk", "thanks", "abuse"]

_GREETING = (
    r"((that's|that is) )?good to know|hi+|hel+o+|yo|hey+|hiya|howdy|greetings|good (morning|afternoon|evening|day"
    r"|night)|(good-? ?)?bye( bye)?|cya|talk to you later|(i('?m| am) )?off( then)?|cheerio"
    r"|see (you|ya)( (soon|later|tomorrow|there|then))?|take care|have a (very )?(nice|good|great|lovely) (day"
    r"|evening|weekend"
    r"|one|time)"
    r"|(and )?how are (you|u|things)( doing)?|how('?s| is) (it going|life|your day( going)?)|how do you do|what'?s "
    r"up|sup"
    r"|(nice|pleased|good) to meet you|who (are|r) (you|u)|what are you|what('?s| is) your name|do you have a name"
    r"|(are|r) (you|u) (there|real|human|alive|an? (real )?(ro)?bot|an? ai|an? (real )?(human|person|machine|human "
    r"being))"
    r"|(is )?any(one|body) (there|here)|tell me (a joke|something funny)|do you (like|love) me|i (like|love) you"
    r"|you('?re| are)( so| very)? (funny|cute|smart|nice)|lo+l|(ha){2,}|(he){2,}|just (saying hi|looking|browsing"
    r"|testing)"
    r"|test(ing)?|o?k+|okay|okey|alright|all right|fine|great|lovely|perfect|awesome|cool|nice|super|wonderful"
    r"|brilliant"
    r"|excellent|good"
    r"|sounds good|got it|gotcha|i see|understood|makes sense|noted|never ?mind|no worries|no problem|no more "
    r"questions|not now|no|nope|nah"
    r"|yes|yeah|yep|that('?s| is| was| will be| would be) (all|it|everything)( i need(ed)?| for (now|today))?|all "
    r"sorted|nothing( else| more)?"
    r"|i('?m| am) (good|fine|done|all set)|sorry|my bad|welcome|you('?re| are) welcome|oh|ah|wow|hm+|um+"
    r"|你好+|您好+|哈喽|哈啰|哈罗|嗨+|嘿+|早上好|早安|早+|上午好|中午好|下午好|晚上好|晚安|在吗|在么|在嘛|在不在"
    r"|在不|有人吗|有人在吗"
    r"|喂+|88+|再见|拜+|拜拜|下次见|我?(先下了|问完了)|回见|回头见|到时候?见|(那)?先这样(吧)?|你是谁|您是谁"
    r"|你叫什么(名字)?"
    r"|(你|您)(到底)?是不?是?个?(机器人|真人|人工智能|活人|人|ai)"
    r"|你?吃(饭)?了吗|(给我)?讲个?笑话|今天天气(真|挺|很)?(怎么样|好|不错)?|你(真|好|很|太)?(可爱|有趣|聪明|搞笑)"
    r"|我?(喜欢|爱)你"
    r"|[哈呵嘿嘻]+|嗯+|哦+|噢+|喔+|好的+|好[滴嘞吧]|好+|行+|行吧|可以|成|中|对|是的?|我?(知道|明白|了解|懂|清楚"
    r"|晓得|收到)(了|啦|咯|哒|喽)?"
    r"|(暂时)?(没有|没|没事|没问题|不用|不需要|不必|不要|算|先不用|没什么)(别的|其他|其它)?(问题|事)?了?|就这些"
    r"|[这那]?样?就(够|可以|行|好)了"
    r"|就这样|祝[你您][^\W_]{1,6}|不?打扰了|感恩|不好意思"
    r"|(周末|节日|新年|生活|工作)(愉快|快乐)"
)
_THANKS = (
    r"(no |many |ok |okay )?(thanks|thank you|thank u|thankyou|thx|thnx|ty|tysm|cheers)( (so|very|a) (much|lot"
    r"|bunch|million))?"
    r"|(much|really|greatly) appreciated|(i )?(really )?appreciate (it|that|your help|the help)|i('?m| am) (very "
    r")?grateful"
    r"|(that|this|it|you)('?s|'?ve| was| is| were| are| have)( been)?( a)?( very| really| so| super| big| great)* "
    r"(helpful|useful|kind|help)"
    r"|(very|super|really) (helpful|kind)|(that|this)( was|'s| is| sounds)( so| really| very| super)? (quick|fast"
    r"|easy|nice|great|perfect|brilliant|good)|you('?re| are) (the best|great|awesome|amazing|a star)|well done"
    r"|good (job|bot)|great (help|job|service)"
    r"|ta|works|fixed|solved|(that|this|it) (answers|answered|explains|explained|clears|cleared|settles)"
    r" (it|that|everything|my questions?)( up)?|(that('?s| is| was)|this is|just|exactly|precisely)* ?what i (needed"
    r"|wanted|meant|was (looking|hoping) for|was after|(needed|wanted) to (know|hear))"
    r"|(that|it) (worked|helped|helps|works|solved it|did it)( now| a lot)?|(那)?(非常|十分|万分|太|多|真的|很"
    r"|特别)?(谢谢|感谢|多谢|谢)+|3q|蟹蟹|辛苦|麻烦(你|您)?了?|帮(了|了我|我)?大忙了?|帮到(我|忙)?了?"
    r"|(真|太|很|非常)(好|棒|贴心|专业|有帮助|有用|厉害)了?|(你|您)真(好|棒|贴心)|服务(真|很|太)(好|棒)|(回复|速度"
    r"|处理)?(真|好|很|挺|这么)快|(问题)?(已经)?解决了|好评"
)
_ABUSE = (
    r"f+u+c+k+\w*|fck\w*|wtf|stfu|(bull|horse)?shit\w*|crap\w*|idiots?|idiotic|morons?|stupid|dumb(ass)?|useless"
    r"|pathetic|garbage|trash"
    r"|rubbish|suck(s|er|ers)?|ass?holes?|bitch\w*|bastards?|dick(head)?s?|scam+(ers?)?|liars?|thie(f|ves)|crooks?"
    r"|losers?|jerks?|retard\w*"
    r"|shut up|go to hell|screw you|piss off|get lost|i hate (you|this)|damn you|worst|terrible|awful|ridiculous"
    r"|joke|kill yourself"
    r"|傻[逼比叉屄瓜子x]?|煞笔|沙比|sb|垃圾|废物|骗子|骗人|骗钱|滚+|滚蛋|滚开|去死|(你|他)?妈的|(你|他)妈|操|艹"
    r"|草泥马|cnm|nmsl|tmd|脑残|弱智|智障|白痴"
    r"|蠢货?|笨蛋?|猪|混蛋|王八蛋|狗屁|放屁|屁用|坑人|坑爹|坑货|烂|黑心|不要脸|有病|神经病|无耻|恶心|(太|真"
    r"|很)?差劲?|答非所问"
    r"|(一点|真|都|完全)*(没|没有)(什么|啥|个)?(屁|鸟)?用|有(什么|个|啥)(屁|鸟)?用|人工智障|闭嘴|讨厌|气死我?"
)
# Carry nothing alone; beside the phrases above they make no question.
_FILLER_EN = (
    r"right|so|very|much|just|well|please|sir|madam|dear|team|everyone|all|again|really|then|now|today|too|and|bot|mate"
    r"|friend|buddy|bro|dude|guys"
    r"|for (your|the|all|all your) (\w+ )?(help|time|reply|answer|answers|info|information|response|support"
    r"|assistance|explanation)"
    r"|for (letting me know|explaining|clarifying)( that| this| it)?|for \w+ing (that|this|it|me|us)( out| for me)?"
    r"|for (helping|that|everything|explaining|clarifying|answering|asking|checking)( me| us| so (quickly|fast))?|to "
    r"you( too)?|you too|there|i think|for now|i('?m| am)"
)
_FILLER_ABUSE_EN = (
    r"wow|oh|you|your|you'?re|u|are|'re|is|it'?s|a|an|the|bot|robot|ai|machine|chatbot|assistant|this|that|these"
    r"|such|bunch|of|piece|pieces|people|company"
    r"|service|support|customer|help|what|all|damn|bloody|fucking|absolute(ly)?|total(ly)?|complete(ly)?|ever|off"
    r"|me|i|it|thing|fool|how|do|must|be|as"
)
_FILLER_ZH = (
    r"了|啦|哈|哦|啊|呀|呢|吧|吗|么|嘛|哒|噢|喔|你们?|您|大家|亲+|客服|小姐姐|小哥哥|老师|的|帮助|帮忙|讲解|说明"
    r"|介绍|科普|耐心|解答"
    r"|回复|解释|服务|告知|告诉我?|提醒|回答|指点|指导|那|就|先|我|也|真的|很|啊"
)
_FILLER_ABUSE_ZH = (
    r"你|您|们|了|的|地|得|是|就|真|真是|太|都|一群|一帮|一个|一堆|个|群|这|那|这个|这种|什么|啥|客服|公司|机器人"
    r"|人工智能|服务|东西|玩意儿?|平台|店家?|商家"
    r"|家伙|啊|吧|呢|吗|呀|简直|全|全家|死|去|给我|我|破|狗|人|吃|屎|态度|垃圾|只会|会|还|跟|和|一样|像|不|就是"
    r"|怎么|这么|那么|好|很|最"
)


_START, _END = r"(?:(?<![a-z0-9])|(?![a-z0-9]))", r"(?![a-z0-9'])"  # Latin words are whole ones


def _all_of(*patterns: str) -> re.Pattern[str]:
    """The whole text is made of these. Atomic, so that no text takes more than linear time: earlier patterns win."""
    words = "|".join(patterns).replace("(", "(?:")  # captures within a possessive repeat confuse Python's re
    return re.compile(rf"(?>{_START}(?:{words}){_END}[\W_]*)++")


def _any_of(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"{_START}(?:{pattern}){_END}")


_PLEASANTRY = _all_of(_THANKS, _GREETING, _FILLER_EN, _FILLER_ZH)
_ABUSIVE = _all_of(_ABUSE, _FILLER_ABUSE_EN, _FILLER_ABUSE_ZH, _FILLER_EN)
_SAYS_HELLO, _SAYS_THANKS, _INSULTS = _any_of(_GREETING), _any_of(_THANKS), _any_of(_ABUSE)
_PICTURES = re.compile(r"[\W_]+")  # emoji and punctuation alone
_MOST_CHARS = 80  # longer turns are never small talk, and the patterns stay quick


def kind_of(text: str) -> TurnKind:
    """What the turn is by itself, whatever came before it."""
    plain = folded(text)
    if not plain or len(plain) > _MOST_CHARS:
        return "question"
    if _PICTURES.fullmatch(plain):
        return "small_talk" if not set(plain) <= set("?!. ") else "question"
    if _INSULTS.search(plain) and _ABUSIVE.fullmatch(plain):
        return "abuse"
    if not _PLEASANTRY.fullmatch(plain):
        return "question"
    if _SAYS_THANKS.search(plain):
        return "thanks"
    return "small_talk" if _SAYS_HELLO.search(plain) else "question"


def folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("’", "'").split()).lstrip(" ,.!~…")
