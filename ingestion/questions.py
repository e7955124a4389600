"""What a question looks like, and what a whole answer, in English and in Chinese. Pure: knows texts, not documents."""

from __future__ import annotations

import re

from ingestion.language import CJK, width

MAX_QUESTION_WIDTH = 400.0
_LEAST_WORDS = 2  # with a question mark; "Why?" asks nothing that can be answered alone
_LEAST_WORDS_UNMARKED = 3
_LEAST_CHARACTERS = 4  # of Chinese
_LEAST_DEFINITION_WIDTH = 40.0  # "2 kg" is a value, not an answer

_NUMBERING = re.compile(
    r"""(?: [-*•·▪◆●■] \s+ )?
    (?: \(? \d{1,3} (?: \. \d{1,2} )* [.、)）:：] \s*  # 1.  2.3)  (4)
      | \d{1,3} (?: \. \d{1,2} )+ \s+                  # 2.3
      | [(（] [一二三四五六七八九十\d]{1,3} [)）] \s*
      | [一二三四五六七八九十]{1,3} 、 \s*
      | 第 [一二三四五六七八九十百\d]{1,4} [章节条问题、]{1,2} \s*
      | [#＃] \d{1,3} \s+
    )?""",
    re.VERBOSE,
)

# How a question without its mark begins. "When we deliver" tells, "when do we deliver" asks.
_ASKS_ENGLISH = re.compile(
    r"""(?: how \s (?: do | does | did | can | could | to | long | much | many | often | fast | soon | late | far | old
                     | is | are | will | should | must )
      | what \s (?: is | are | was | does | do | did | can | could | happens | if | should | to | kinds? | types? | will
                  | must | documents? )
      | (?: where | when ) \s (?: can | could | do | does | did | is | are | will | should | must | to )
      | who \s (?: can | is | are | pays | may | should | do | does | will | has )
      | which | whose
      | why \s (?: is | isn't | are | was | were | do | don't | does | doesn't | did | can | can't | cannot | has )
      | (?: can | could | may | should | must | will | would | am | shall ) \s
        (?: i | we | you | my | it | the | a | an | someone | somebody )
      | (?: do | did | have | are ) \s (?: i | we | you | they | there | my | your | the )
      | (?: does | is | has | was ) \s (?: it | there | my | your | the | a | an | this )
      | (?: what | who | how | where | when ) ['’]s
    ) \s \S""",
    re.VERBOSE | re.IGNORECASE,
)
_ASKS_CHINESE = re.compile(
    r"""如何 | 怎[么样] | 为[什何] | 什么 | 多少 | 多[久长大远] | 几[天次个种点元年月日件张]
      | 哪[些里个种几儿天家] | 是否 | 能否 | 可否 | 有没有 | 能不能 | 可不可以 | 会不会 | 要不要 | 是不是
      | 谁 | 何[时地] | 吗$""",
    re.VERBOSE,
)
_NOT_ASKING = re.compile("无论|不管|不论|没什么|任何")

# Asked of everybody, to lead on or to be polite.
_RHETORICAL_ENGLISH = re.compile(
    r"""(?: (?: any | more | got | other | further | still | do | have | you | a | some ) \s )* questions? \W* $
      | (?: do \s you \s | still \s )? need \s (?: more \s | any \s | some \s )? (?: help | assistance | support ) \b
      | (?: are \s you \s )? (?: ready \s (?: to | for ) | looking \s for | interested | curious ) \b
      | (?: do \s you \s )? (?: want | wish | like ) \s to \b | would \s you \s like \b
      | (?: did | do ) \s you \s know \b | guess \s what | so \s what \b | sounds? \s (?: good | familiar ) \b
      | why \s (?: choose | us | we ) \b | who \s (?: are \s we | we \s are ) \b | what \s are \s you \s waiting \b
      | what ['’]s \s (?: new | next ) \b | was \s this \b | did \s (?: this | we ) \b
      | is \s this \s (?: page | article ) \b | (?: still \s )? stuck \b
      | (?: can ['’]t | cannot | couldn ['’]t | didn ['’]t | haven ['’]t ) \s (?: find | found ) \b | not \s what \b
      | don ['’]t \s have \s an \s account""",
    re.VERBOSE | re.IGNORECASE,
)
_RHETORICAL_CHINESE = re.compile(
    r"""[您你]? 还? 有 (?: 其[他它] | 别的 | 更多 | 任何 | 什么 )* (?: 问题 | 疑问 ) 吗? [?？]* $
      | [您你]? 还? 需要 (?: 更多 | 任何 | 我们的 )? 帮助
      | [您你]? 准备好了 | [您你]? (?: 是否 )? 想要? (?: 了解 | 知道 | 拥有 ) | [您你]知道 吗
      | 为什么要? 选择 | 没有?找到 | 还在?等什 | 心动 | 还没有?账
      | .* (?: 有用 | 有帮助 | 解决了?[您你]的问题 ) 吗""",
    re.VERBOSE,
)

# What it asks about stands elsewhere: alone, it would be taken for a question about anything.
_DANGLING = re.compile(
    r"""(?: \w+ \s ){0,2}
        (?: do | does | did | is | are | was | were | can | could | will | would | has | have | should ) (?: n['’]t )?
        \s (?: it | they | this | these | those ) \b
      | how \s (?: it | this ) \s works \b
      | [它其此] [的是能会可在为]
      | .* (?: 这[款个] | [该此本] (?: 产品 | 商品 | 设备 | 款 | 机型 | 型号 | 服务 | 活动 ) )""",
    re.VERBOSE | re.IGNORECASE,
)
_CALL_TO_ACTION = re.compile(
    r"""(?: read | learn | show | see | view | find \s out | discover | click | tap )? \W*
        (?: more | here | details? | all | below | contact \s us | sign \s up | log \s in | get \s started
          | back \s to \s top ) (?: \s information | \s info )? \W* $
      | (?: 了解更多 | 查看 (?: 更多 | 详情 | 全部 ) | 点击 (?: 这里 | 此处 | 查看 | 展开 ) .{0,6}
          | 更多 | 详情 | 返回 (?: 顶部 | 首页 ) | 联系 (?: 我们 | 客服 ) ) \W* $""",
    re.VERBOSE | re.IGNORECASE,
)
# Titles that say no more than that questions follow.
_GENERAL_TITLE = re.compile(
    r"""(?: faqs? | q \W? (?: a | and \s a ) | frequently \s asked | questions? | answers? | help | support
      | cent(?:er|re) | and | en | zh | cn
      | 常见 | 热门 | 问题 | 问答 | 解答 | 答疑 | 帮助 | 中心 | 客服 | 汇总 | 大全 | \W )+""",
    re.VERBOSE | re.IGNORECASE,
)
_WORD = re.compile(f"[{CJK}]|[^\\W_{CJK}]+")
_LINK = re.compile(r"\(?https?://\S+")

# Of the characters above: one pattern is enough for both scripts.
_SIMPLER = str.maketrans(
    "問題麼樣為幾個種點張裡裏兒會沒誰嗎無論還幫備準選擇動賬帳擁決顧標參處辦覆復聯繫們詳擊開這該產設機號務頁頂內時遠長戶諮詢應",
    "问题么样为几个种点张里里儿会没谁吗无论还帮备准选择动账账拥决顾标参处办复复联系们详击开这该产设机号务页顶内时远长户咨询应",
)


def simpler(text: str) -> str:
    """With the traditional characters of question words simplified; of the same length."""
    return text.translate(_SIMPLER)


def strip_numbering(text: str) -> str:
    """ "3. How do I return it?" asks "How do I return it?"."""
    return _NUMBERING.sub("", text, count=1)


def asks(text: str) -> bool:
    """Whether a heading or line is a question that a customer could ask: by its mark, or by how it is phrased."""
    question = simpler(strip_numbering(text).strip())
    if "\n" in question or width(question) > MAX_QUESTION_WIDTH:
        return False
    is_marked = question.endswith(("?", "？"))
    if re.search(f"[{CJK}]", question):
        return _asks_in_chinese(question, is_marked)
    words = len(question.split())
    if _RHETORICAL_ENGLISH.match(question):
        return False
    if is_marked:
        return words >= _LEAST_WORDS
    return words >= _LEAST_WORDS_UNMARKED and question[-1] not in ".:;" and bool(_ASKS_ENGLISH.match(question))


def _asks_in_chinese(question: str, is_marked: bool) -> bool:
    if _RHETORICAL_CHINESE.match(question) or sum(map(str.isalnum, question)) < _LEAST_CHARACTERS:
        return False
    if is_marked:
        return True
    return question[-1] not in "。：；:;" and bool(_ASKS_CHINESE.search(question)) and not _NOT_ASKING.search(question)


def stands_alone(question: str) -> bool:
    """Whether it can be understood without what is written around it."""
    return not _DANGLING.match(simpler(question))


def adds_subject(title: str, question: str) -> bool:
    """Whether a page's title says what a question on it is about, and the question itself does not."""
    if not title or _GENERAL_TITLE.fullmatch(simpler(title)):
        return False
    named, asked = (set(_WORD.findall(text.lower())) for text in (title, question))
    return bool(named - asked)


def is_whole(answer: str) -> bool:
    """Not a teaser, not the beginning of a list that is missing, not a mere link to where the answer is."""
    said = simpler(_LINK.sub("", answer).strip())
    return (
        any(map(str.isalnum, said)) and not said.endswith(("…", "...", ":", "：")) and not _CALL_TO_ACTION.match(said)
    )


def explains(term: str, text: str) -> bool:
    """Whether what a term is defined as, or what a line unfolds to, is worth giving as an answer."""
    if not is_whole(text) or _CALL_TO_ACTION.match(simpler(term)):
        return False
    return asks(term) or (width(text) >= _LEAST_DEFINITION_WIDTH and text.endswith((".", "!", "。", "！", ")", "）")))
