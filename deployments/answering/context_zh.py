"""What a Chinese turn leaves out, and what a Chinese question is about. Pure.

Chinese drops its subjects, so a turn leans on what came before when it holds nothing but words that any question may
hold ("需要多长时间"), a pronoun, or a noun with 呢. No segmenter: a text is read from left to right as function words,
question words and common verbs, and what stands between them is what it is about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from deployments.answering.context_types import Lean, Need
from deployments.answering.word_classes import contrasting, is_common_topic, is_facet, of_class, word_class

_POLITE = re.compile(
    r"^(?:(?:[你您]好|请问一下|请问|请教|谢谢|多谢|好的|好吧|好|嗯+|哦+|噢|亲|行|明白了?|知道了?|了解了?|可以"
    r"|麻烦问一下|麻烦|我?想?再?问一下|问下"
    r"|我想知道|想知道|ok|okay|thanks|hi|hello)[，,。.!！~、；;\s]+|(?:请问一下|请问|麻烦问一下|我想问一下|我想问下"
    r"|想问一下|想问下|我想问|问一下|我想知道|想知道)[，,:：]?)+",
    re.IGNORECASE,
)
_CONNECTIVE = re.compile(
    r"^(?:(?:那么|那(?![个款种些边里时样])|还有(?=[，,\s])|另外|然后|而且|但是|但|不过|可是|所以|并且|以及)[，,\s]*)+"
)
_END = re.compile(r"[\s?？!！。.~～…呀啊呢吧哈噢哦]*$")

_ASKING = (
    "多少钱|多少|多久|多长时间|多[长大高重快远厚深宽粗早晚]|几天|几个小时|几小时|几个月"
    "|几[个点年次岁号楼路层级位斤瓶盒包根寸只双节周步遍样]"
    ""
    "|几件|几块钱?|几折|几[种台人位张条套份]|什么时候|何时|什么时间|什么|为什么|为啥|为何|啥时候|啥|怎么办(?!理)|咋办"
    "|咋样|咋|怎么样|怎么|怎样|如何"
    "|哪里|哪儿|哪个|哪种|哪些|哪天|哪一[个种款]|哪款|哪(?!怕)|谁|是不是|能不能|可不可以|会不会|有没有|要不要|用不用"
    "|行不行"
    "|好不好|贵不贵|是否|能否|可否|吗|么|嘛|呢"
)
_MODAL = (
    "同时|一起|自己|另外|另|单独|提前|可以|能够|能|会|需要|要|得|必须|应该|想要|想|打算|希望|准备|是|有|没有|没|不"
    "|别|还是|还|也"
    "|都|就|才|又|再|只|最快|最慢|最多|最少|最低|最高|最晚|最早|大概|大约|一般|通常|具体|到底|究竟|一共|总共|直接"
    "|随时|现在|目前|已经|一定|的话|如果|要是|假如"
)
_PERSON = "你们家|你们|您们|您|你|我们|咱们|我|大家|他们|她们|它们|它|他|她"
_LIGHT_VERBS = (
    "修好|做好|办好|弄好|洗好|改好|装好|处理好|做完|办完|弄完|放(?!心|假|平|映|大)|看|填|改|选|写|领|查|了解一下"
    "|了解|咨询一下|咨询|问一下|查一下|看一下|看看|介绍一下|介绍|申请|办理|办|操作|弄"
    "|搞|处理|收费|收|算|拿到|收到|到账|寄到(?!付)|送到(?=哪|什么|多)|发到|寄往|寄(?!到付)|送(?!到)|发|到|购买|买"
    "|订购|订|使用|用|做|去|来|给|让"
    "|联系|找|拿|取|交|付|开通|提供|支持|适合|包含|包括|包|属于|存在|出|退|换|修|洗|坏了|坏|丢了|丢|带|装|一下"
)
_PREDICATES = (
    "(?:噪音|声音|质量|味道|效果|空间|信号|速度|风力|声|噪声)?(?:大|小|好|贵|重|轻|吵|响|快|慢|高|低|长|短|硬|软|热"
    "|冷|甜|辣|安静|结实|耐用|正宗|新鲜|安全|干净|舒服)(?=吗|么|不[大小好贵重轻吵]|$)|"
    "有货|免费|防水|包邮|保修|划算|好用|入住|下单"
)  # end what a question is about, yet say something
# What customers do: the first need an object, which the turn may leave out; the second say all by themselves.
_TRANSITIVE = (
    "清理|清洗|更换|修改|取消|安装|绑定|解绑|激活|拆卸|调整|设置|补办|保养|维修|兑换|领取|查询|报销|下载|预订|预定"
    "|预约|试听|试用|试穿|试吃|折叠|改签|转让|续费|续租|续借|升级|延期|暂停|改期"
    "|叠加使用|叠加|刻字|拼单|议价|退订|定制|水洗|机洗|手洗|充电|分期|加热|冷藏|冷冻|组装|连接|重置|重启|关闭|打开"
    "|开启|删除|恢复|打印|签收|托运|邮寄|携带|赠送|回收|加急|代办|代取|自取|延长"
)
_PROCEDURES = (
    "退货|退款|退票|退房|退税|退保|换货|换新|付款|支付|付费|充值|提现|转账|还款|汇款|缴费|缴纳|开票|注册|登录|登陆"
    "|报名|挂号|挂失|补卡|发货|收货|到货|送货|送餐|送水|上门|取件|寄件|配送|派送|投递|入库"
    "|出库|出票|开课|上课|请假|体检|住院|出院|就诊|打疫苗|打针|绝育|献血|纹身|拔牙|报税|寄养|接种|理赔|投保|解约"
    "|注销|投诉|投票|打包|装修|理发|染发|烫发|洗车"
    "|洗牙|办卡|开卡|销户|开户|开门|关门|营业"
)
# "退房服务" is a thing
_MADE_NOUNS = "(?:服务|费|券|码|单|险|政策|流程|说明|方式|规则|条件|运费|时间|记录|人员|日期|地址|宝|器|机|卡|证)"
_PARTICLES = (
    "的|了|着|过|地|得|在|把|给|被|从|往|对|向|跟|和|与|或者|或|以及|为|因为|所以|但|而|请问|请|啊|呀|吧|哦|这边|那边"
    "|里面|里|上|下|时候|时间|价格|价钱|费用|钱|贵|便宜|一点|点|些"
)
# Words that begin like one of those above, but are things.
_WHOLE = (
    "桑拿|加拿大|看护|看台|填料|改造|改装|选修|写作|写真|写字|领带|领口|检查|支付宝|到付|会员|会议|会计|会所|能量"
    "|能源|有效期"
    "|要求|需求|用户|用品|费用单|发票|发动机|发型|收据|收音机|收纳|收件|收银|到店|到期|出租|出行|出境|出生证|换购"
    "|修图|洗碗机|洗衣机|洗衣液|洗面奶|洗发水|洗澡|带宽|装机|装备|寄存|取票|取款|交通|交易|办公|做饭|来电|去屑|给水"
    "|买家|买断|订单|订金|订阅|定金|使用说明|找零|拿铁|算法|上市|上海|下架|下水|里程|地址|地毯|地铁|地图|地板|的士"
    "|过户|过期|过敏|得分|对讲机|对公|和牛|从业|为期|时间表|点餐|点卡|点读|贵宾|便宜货|多功能|多人|几何|什么值"
    "|不锈钢|没收|别墅|再生|就业|最小|只读|有机|有线|有氧|是非|想象|要点|得力|在线|在职|把手|被子|被套|被芯|向导"
    "|与会|保修卡|保修期|包裹|包装|包间|包子|包包|面包|背包|书包|钱包|羽绒被|棉被|信用卡|使用期|防水袋|免费券"
    "|收费站|时间轴|行李|智能|性能|功能|节能|太阳能|应用|信用|费用|作用|租用|学会|社会|机会|晚会|宴会|聚会|展会"
    "|音乐会|主要|重要|公寓|运费|现在|存款|贷款|外卖|礼包|红包|套餐|面膜|车送|快递|保存|存储|头发|沙发|开发|批发"
    "|护发|开发票|专用|通用|商用|家用|车用|儿童用|婴儿用|买单"
)
_TOKEN = re.compile(
    rf"(?P<whole>{_WHOLE}|(?:{_TRANSITIVE}|{_PROCEDURES})(?={_MADE_NOUNS}))|(?P<asking>{_ASKING})"
    rf"|(?P<person>{_PERSON})|(?P<transitive>{_TRANSITIVE})|(?P<procedure>{_PROCEDURES})"
    rf"|(?P<predicate>{_PREDICATES})|(?P<light>{_LIGHT_VERBS})|(?P<modal>{_MODAL})|(?P<particle>{_PARTICLES})"
    r"|(?P<latin>[A-Za-z0-9][A-Za-z0-9.+&-]*(?: ?[A-Z0-9][A-Za-z0-9.+&-]*)*)|(?P<stop>[\s，,。.!！?？;；:：、]+)"
    r"|(?P<other>.)",
    re.DOTALL,
)
_AMOUNT = re.compile(  # "一斤", "每场"; "下一班"
    r"[一两三四五几\d]个(?=孩子|小孩|大人|人|宝宝)|"
    r"(?:每|一|两|半|\d+)个?(?:年|月|周|天|日|晚|次|件|人|位|份|斤|公斤|克|升|瓶|盒|包|箱|场|节|趟|公里|平米|平方"
    r"|小时|分钟|条|只|艘|辆|张|块|间|套|双|台|把|支|杯|碗|桶|袋|本|位|层|桌|对)(?!价|钱)"
    r"|下一?(?:场|次|班|期|趟|批|节|轮)"
)
_NUMBER = "(?:[\\d.]+|[一二两三四五六七八九十半百千万]+)(?:个(?!人))?"
_PRONOUN = re.compile(
    r"它们?(?:的)?|(?:这|那)[两几三](?:个|款|种|台|件|家|项)|(?:这|那)(?:个|款|种|些|件|台|双|张|份|样|两个"
    r"|两款)?(?=[?？吗呢]|$)"
    r"|(?:这|那)(?:个|款|种|些|件|台|双|张|份)(?!月|周|星期|季度|年|时候|问题|情况|时间|点)"
    r"|这(?=(?:要|能|可以|会|得|需要|是不是|贵|算|怎么|多少|多久|支持|有))|(?:前者|后者|两者|二者|这样|那样)"
)
_POINTER = re.compile(
    r"(?:这|那)(?:个|款|种|张|份|条|项|台|件|门|家|本|套)(?!月|周|星期|季度|年|时候|问题|情况|时间"
    r"|点)(?P<noun>[\u3400-\u9fff]{1,4})"
)
_AFTER_PRONOUN = re.compile(
    rf"的?(?:{_ASKING}|{_MODAL}|支持|适合|包|用|洗|防水|保修|续航|什么|每|一(?:年|个月|次|天)|颜色|尺寸|重量|价格"
    rf"|质量|贵|便宜|好|在|怎|退|换|坏|充|带|孕妇|小孩|儿童|老人|宝宝|学生|男|女|敏感|新手|[?？]|$)"
)
_HEADLESS = re.compile(
    r"(?:还)?(?:有没有|有|要|换|来)?(?:更|再)?[^，,。\s]{1,6}(?:一点|点|些)?的(?:有没有|有|吗|么|可以)*(?:吗|么"
    r"|没有|没)?"
)
_MOST_NAME_CHARS = 4
_MOST_OPEN_CHARS = 10  # who writes more names what it is about
_MOST_THING_CHARS = 2  # longer names of things say enough
_A_NOT_A = re.compile(r"([\u3400-\u9fff]{1,2})不\1")  # "疼不疼"
_OF_SOMEBODY = re.compile(r"[你您我]")
_OF_THE_COMPANY = re.compile(r"^(?:请问)?(?:有没有|还有|有|支持|接受|提供|卖|附近)|哪里有")
_HAVING = frozenset(["有", "没有", "是", "没", "还是", "最多", "最少"])
_MANY_CHARS = 14  # with a pronoun: as many may say elsewhere what it stands for
_NE = re.compile(r"^(?P<what>[^，,。？?]{1,14}?)(?:的话)?呢[\s?？。!！~]*$")
_CONDITION = re.compile(r"^(?:如果|要是|假如|万一)(?P<what>[^，,]{1,20}?)(?:的话)?(?:呢)?[\s?？]*$")
_OWN_MATTER = re.compile(
    r"^(?:我|我们|咱)(?:的|昨天|前天|上周|买|订|刚)[^？?]*(?:快递|订单|包裹|钱|退款|货|东西|外卖|票|单子|发票|账号)$"
)
_ATTRIBUTE = (
    "保质期|保修期|保修|质保|续航|尺寸|尺码|颜色|重量|材质|成分|规格|容量|功率|屏幕|电池|有效期|押金|月费|年费|口味"
    "|配料|产地|厚度|高度|宽度|内存|分辨率|售后|库存"
)
_ATTRIBUTE_QUESTION = re.compile(rf"(?:有|是|的)?(?:{_ATTRIBUTE})(?:是|有|能|要|大概|一般|呢|{_ASKING})*[?？。]*")
# What is needed and what is in it, without saying for what.
_OPEN_REQUIREMENT = re.compile(
    r"(?:去[^，,。]{1,5})?(?:都|还)?(?:要|需要|得|该)?(?:带|准备|提供|提交|交|填|用)?(?:什么|哪些|啥)(?:证件|材料"
    r"|资料|手续|条件|文件|东西)?(?:吗|呢)?"
)
_OPEN_CONTENTS = re.compile(
    r"(?:还|也|都)?(?:包含|包括|包|含|附带|附送|赠送|送(?!货|餐|水|到|人)|配(?!送))(?:不包含|不包括|不包|不含)?[^，,]{1,8}?(?:吗|么|不)?"
)
_NO_THINGS = frozenset(["家", "个", "款", "这", "那", "这款", "那款", "这个", "那个", "种"])
_ASK_FOR = frozenset(
    [
        "有",
        "有没有",
        "包含",
        "包括",
        "含",
        "支持",
        "提供",
        "用",
        "买",
        "哪种",
        "哪款",
        "哪个",
        "什么",
        "介绍",
        "了解",
        "了解一下",
    ]
)
_SUBJECTLESS = re.compile(  # "是正品吗", "质量怎么样", "有哪些颜色", "包邮吗"
    r"(?:都|全)?是(?!不是|否|你|您|人|机|谁|什么|怎么|我)[^，,。\s]{1,7}的?(?:吗|么)|是不是(?!你|您|人|机"
    r"|我)[^，,。\s]{1,7}的?"
    r"|有(?:什么|啥|哪些)(?:区别|不同|差别)|(?:质量|效果|评价|手感|音质|画质|味道|口感|做工)(?:怎么样|如何|好吗"
    r"|好不好|咋样)"
    r"|(?:还)?(?:好用|好吃|好看|贵|大|重|划算|值得买|耐用|靠谱|安全|有货|包邮|免费|防水|保修|是正品|有效|有用)(?:吗"
    r"|么|不)"
    r"|(?:都)?(?:有)?(?:什么|哪些|哪几种|几种|几个)(?:颜色|尺寸|尺码|规格|口味|型号|款式|版本|大小)(?:可选|的)?"
)
_DELIVERY_FEE = re.compile(rf"(?:运费|邮费|快递费|配送费|邮寄费)(?:是|要|大概|一般|怎么算|{_ASKING})*")
_ALSO = re.compile(
    r"(?P<what>[^，,。\s]{1,10}?)(?:也|都)(?:是|可以|能|行|要|需要|有|支持|适用|一样|这样|算|另收|另算|收费|收钱"
    r"|包含|包括|免费|另外收费|含)+(?:吗|么|嘛|的吗"
    r"|这样吗)",
)
_OR_THIS = re.compile(
    r"(?P<what>[^，,。\s]{1,6}?)(?:有没有|可不可以|行不行|能不能|(?:有|可以|行|能|好)(?:吗|么|嘛))"
)  # "素描有吗"
_CONTAINED = re.compile(
    r"[^，,。\s]{1,6}(?:也|都)?(?:包括|包含|含|算|算在|包)(?:在内|在里面|进去|里面)?(?:吗|么|嘛|不)"
)  # "剪指甲包括吗"
_FAILED = re.compile(
    r"(?:我)?(?:都|已经)?(?:试了|试过了?|按你说的做了)?[，,]?(?:还是|依然|仍然|仍|也|都)*(?:不行|没用|不管用|没反应"
    r"|没有反应|没效果|不可以|不能用|老样子|一样|不对|没解决|没有用)了?"
)
_CIRCUMSTANCE = re.compile(
    r"(?:以后|之后|以前|之前|以内|期间|时候|[后前内时])$|^(?:回程|返程|去程|往返|单程|来回)$|^[\d一二两三半]"
)
_SWITCH = re.compile(
    r"^(?:对了|顺便(?:问(?:一下|下)?)?|再问(?:一下|下|个)|换个?(?:问题|话题)|还(?:有|想问)(?:一个|个"
    r"|另外一个)?(?:问题|件事|事)|我?还想问|另外(?=[，,])|另一个问题)"
)


@dataclass(frozen=True, slots=True)
class _Piece:
    kind: str  # "thing", or the name of the group in `_TOKEN`
    text: str


# --- what a turn needs ---


def is_switch(text: str) -> bool:
    """The customer says that something else comes now."""
    return bool(_SWITCH.match(_CONNECTIVE.sub("", _POLITE.sub("", text.strip()))))


def lean(text: str) -> Lean | None:
    """None when the turn can be understood alone, as far as rules can tell."""
    stripped = _POLITE.sub("", text.strip())
    core = _CONNECTIVE.sub("", stripped).strip() or stripped
    connected = core != stripped
    bare = _END.sub("", core)
    if not bare or len(bare) > 30:
        return None
    if (condition := _CONDITION.match(core)) and not asks(condition["what"]):
        return Lean("fragment", core.rstrip(" ?？呢"))
    if (
        (ne := _NE.match(core))
        and not asks(ne["what"])
        and not _OWN_MATTER.match(ne["what"])
        and _says_something(ne["what"])
    ):
        return Lean("fragment", ne["what"])
    if (also := _ALSO.fullmatch(bare)) is not None and not asks(also["what"]) and _says_something(also["what"]):
        return Lean("fragment", also["what"])
    if (this := _OR_THIS.fullmatch(bare)) is not None and _is_one_thing(this["what"]):
        # more than a name is a condition: "护照五月过期可以吗"
        is_name = len(this["what"]) <= _MOST_NAME_CHARS
        return Lean("fragment", this["what"], is_sure=False) if is_name else Lean("matter", core, is_sure=False)
    if re.fullmatch(r"[^，,。\s你您我]{2,6}的", bare) and not asks(bare):
        return Lean("fragment", core)
    if _CONTAINED.fullmatch(bare) and not _OF_SOMEBODY.search(bare):
        return Lean("thing", core)
    if _FAILED.fullmatch(bare):
        return Lean("matter", core)
    if _holds_nothing(bare):
        acts = any(piece.kind == "transitive" for piece in _pieces(bare))
        if acts and ("了" in bare or "怎么办" in bare or len(bare) > 9):
            return None
        return Lean("thing" if acts and not connected else _bare_need(bare), core, is_sure=connected or not acts)
    if (pronoun := _pronoun(core)) is not None:
        return Lean("pronoun", core, pronoun.span(), is_sure=len(bare) < _MANY_CHARS)
    if (
        len(bare) <= 12
        and _HEADLESS.fullmatch(bare)
        and not bare.startswith(("我", "你", "您"))
        and not re.search(r"的(?:话|吗.)", bare)
    ):
        return Lean("thing", core)
    if _SUBJECTLESS.fullmatch(bare):
        return Lean("thing", core)
    if _DELIVERY_FEE.fullmatch(bare):
        return Lean("delivery", core)
    if _OPEN_REQUIREMENT.fullmatch(bare):
        return Lean("matter", core)
    if _OPEN_CONTENTS.fullmatch(bare) and bare.endswith(("吗", "么", "不")):
        return Lean("thing", core)
    if _ATTRIBUTE_QUESTION.fullmatch(bare):
        return Lean("attribute", core, is_sure=connected)
    if _lacks_topic(bare):
        return Lean("facet", core, is_sure=False)
    return None


def _is_one_thing(text: str) -> bool:
    if is_common_topic(text) or _OF_SOMEBODY.search(text):
        return False
    pieces = _pieces(text)
    return len(pieces) == 1 and (bool(word_class(text)) or pieces[0].kind == "thing")


def _lacks_topic(bare: str) -> bool:
    """It names at most one thing, which any company may have or not, and nobody: "要押金吗", "不会游泳可以参加吗"."""
    if len(bare) > _MOST_OPEN_CHARS or not (asks(bare) or _A_NOT_A.search(bare)) or _OF_SOMEBODY.search(bare):
        return False
    if is_common_topic(bare) or of_class("place", bare):
        return False
    pieces = _pieces(_A_NOT_A.sub("", _AMOUNT.sub("", bare)))
    goes_on = any(piece.text in ("也", "还", "再", "又") for piece in pieces)
    if any(
        piece.kind == "latin" or (piece.kind == "procedure" and not goes_on) or _is_named(piece) for piece in pieces
    ):
        return False
    if any(piece.kind == "transitive" for piece in pieces) and any(piece.kind == "thing" for piece in pieces):
        return False
    named = _named(pieces)
    if (named or not any(piece.kind == "thing" for piece in pieces)) and _OF_THE_COMPANY.search(bare):
        return False
    return len(named) <= 1 and all(len(text) <= _MOST_THING_CHARS for text in named)


def _named(pieces: list[_Piece]) -> list[str]:
    """What it names: not what something has, when, who, nor what is done or happened.

    An unknown word behind "can" or "must" is a verb ("可以参加"), perhaps with what it is done to ("可以种果树").
    """
    named = []
    end = _Piece("stop", "")
    for before, piece, after in zip([end, *pieces], pieces, [*pieces[1:], end], strict=False):
        is_deed = before.kind == "modal" and before.text not in _HAVING and len(piece.text) <= _MOST_THING_CHARS + 1
        if (
            piece.kind == "thing"
            and len(piece.text) > 1
            and not is_deed
            and after.text not in ("了", "过")
            and not is_facet(piece.text)
            and word_class(piece.text) not in ("time", "people")
        ):
            named.append(piece.text)
    return named


def _is_named(piece: _Piece) -> bool:
    return piece.kind == "thing" and bool(re.search(r"[A-Za-z]", piece.text))


def points_back(text: str, question: str, answer: str) -> Lean | None:
    """ "这个班有多少人", where such a thing was spoken of."""
    core = _CONNECTIVE.sub("", _POLITE.sub("", text.strip()))
    if _takes_up(core, question, answer):
        return Lean("matter", core, is_sure=False)
    found = _POINTER.match(core)
    if found is None or len(core) > 20:
        return None
    for length in (4, 3, 2, 1):
        noun = found["noun"][:length]
        if len(noun) == length and noun in question:
            return Lean("pronoun", core, (0, found.start("noun") + length))
        if len(noun) == length and re.search(rf"[\u3400-\u9fff]{noun}" if length == 1 else noun, answer):
            return Lean("matter", core)
    return None


def _takes_up(core: str, question: str, answer: str) -> bool:
    """ "名单网上能看吗", where our answer spoke of a list and the customer did not."""
    bare = _END.sub("", core)
    if len(bare) > _MOST_OPEN_CHARS or not asks(bare) or _OF_SOMEBODY.search(bare) or is_common_topic(bare):
        return False
    pairs = ["".join(pair) for thing in things(bare) for pair in pairwise(thing)]
    return any(pair in answer and pair not in question for pair in pairs)


def names_anew(text: str, question: str) -> bool:
    """It says itself what the question before it was about: "雨伞弄丢了怎么赔"."""
    return any(len(thing) > 1 and thing in question and not is_facet(thing) for thing in things(text))


def asks(text: str) -> bool:
    return bool(re.search(rf"(?:{_ASKING})", text.replace("什么都", "")))


def _says_something(text: str) -> bool:
    return any(piece.kind in ("thing", "transitive", "procedure") for piece in _pieces(text))


def _holds_nothing(bare: str) -> bool:
    """Only words that any question may hold: "需要多长时间", "怎么收费", "周末可以取吗"."""
    rest = _AMOUNT.sub("", bare)
    for name in ("time", "people"):
        while (found := of_class(name, rest)) and found.group() != "会员":
            rest = rest[: found.start()] + rest[found.end() :]
    pieces = _pieces(rest)
    asks = any(piece.kind == "asking" for piece in pieces)
    says = any(piece.kind in ("thing", "predicate", "procedure") for piece in pieces)
    return (
        asks
        and not says
        and not any(piece.text in ("你们", "您", "你", "你们家") for piece in pieces if piece.kind == "person")
    )


def _bare_need(bare: str) -> Need:
    return (
        "thing"
        if re.search(r"多少钱|收费|价格|费用|贵|便宜|哪[个款种]|区别|不同|多大|多重|几种|几件", bare)
        else "matter"
    )


def _pronoun(core: str) -> re.Match[str] | None:
    for match in _PRONOUN.finditer(core):
        before, after = core[: match.start()], core[match.end() :]
        if re.search(r"[^，,。；;？?\s]{4,}[，,。；;？?\s]", before):
            return None  # an earlier clause names it
        if not match.group().startswith("它") and not _AFTER_PRONOUN.match(after):
            continue  # "这款冰箱": the noun follows
        if [piece for piece in _pieces(before) if piece.kind == "thing"]:
            continue
        return match
    return None


# --- what a question is about ---


def _pieces(text: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    run = ""
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind in ("whole", "latin", "other"):
            run += match.group()
            continue
        if (
            match.group() == "的"
            and run
            and not re.match(r"(?:吗|么|有)", text[match.end() :])
            and match.end() < len(text)
        ):
            run += "的"
            continue
        if (
            match.group().isspace()
            and run
            and text[match.end() : match.end() + 1].isalnum()
            and (run[-1].isascii() or text[match.end()].isascii())
        ):
            run += match.group()
            continue
        if run:
            pieces.append(_Piece("thing", run.rstrip("的 ")))
            run = ""
        pieces.append(_Piece(kind, match.group()))
    if run:
        pieces.append(_Piece("thing", run.rstrip("的 ")))
    return pieces


def things(text: str) -> list[str]:
    return [piece.text for piece in _pieces(text) if piece.kind == "thing" and piece.text not in _NO_THINGS]


def thing_of(question: str) -> str | None:
    """What the question is about, as it calls it: "K7空气炸锅", "企业版套餐"."""
    best, best_weight, before = None, 0, ""
    for piece in _pieces(_POLITE.sub("", question.strip())):
        thing = _undetermined(piece.text) if piece.kind == "thing" else ""
        if thing and not _is_place(thing):
            weight = _weight(thing) + (before in _ASK_FOR)
            if best is None or weight > best_weight:
                best, best_weight = thing, weight
        before = piece.text
    return best


def _is_place(thing: str) -> bool:
    """A place or time at which something is asked for, and no thing that is asked for."""
    return thing in _NO_THINGS or thing.endswith("附近") or word_class(thing) in ("place", "time", "colour")


def _undetermined(thing: str) -> str:
    return re.sub(r"^(?:这|那)(?:个|款|种|台|件|张|份|双|支|瓶|条|家|本|套|只|盒|辆|把|块|幅|项|门|类)?", "", thing)


def _weight(thing: str) -> int:
    return 2 * bool(re.search(r"[A-Za-z0-9]", thing)) + min(len(thing), 2) - 2 * bool(word_class(thing))


def matter_of(question: str) -> str:
    """What the question is about with what is done to it: "护照丢了补办"."""
    text = _END.sub("", _CONNECTIVE.sub("", _POLITE.sub("", question.strip())))
    kept = re.sub(rf"(?:{_ASKING})", "", text)
    kept = re.sub(r"^(?:我?(?:想要|想)?(?:了解一下|了解|咨询一下|咨询)|可以|能)|(?:要|需要|得)$", "", kept)
    return kept.strip(" ，,。") or text


def with_thing(turn: str, span: tuple[int, int] | None, thing: str) -> str:
    """The turn with its pronoun resolved, or the thing before it, as Chinese says it: topic first."""
    gap = " " if thing[-1:].isascii() and turn[:1].isascii() else ""
    if span is None:
        return f"{thing}{gap}{turn}"
    pronoun = turn[span[0] : span[1]]
    of = "的" if pronoun.endswith("的") else ""
    return f"{turn[: span[0]]}{thing}{of}{turn[span[1] :]}"


# --- an earlier question, asked of something else ---


def asked_of(question: str, fragment: str) -> str:
    """ "寄到德国运费多少？" and "法国" make "寄到法国运费多少？"."""
    question = _CONNECTIVE.sub("", _POLITE.sub("", question.strip()))
    new = fragment.strip(" ?？。呢")
    if new.endswith("的") and not word_class(new := new.removesuffix("的")):
        return _swapped_measure(question, new) or _with_another_kind(question, new) or f"{new}的{question}"
    kind = word_class(new)
    if (old := contrasting(new, question)) is not None:
        return question[: old.start()] + new + question[old.end() :]
    if _CONDITION.match(new):
        return f"{new}{question}"
    if re.match(r"没|不|只|已经|超过|未", new):
        return f"{new}，{question}"
    if re.search(r"[之以]?后$", new) and (just := re.search(r"刚[^，,。可能会要有是]{1,6}", question)):
        return question[: just.start()] + new + question[just.end() :]  # "刚纹身", "拔牙之后"
    if kind and (old := of_class(kind, question)):
        return question[: old.start()] + new + question[old.end() :]
    if (swapped := _swapped_measure(question, new)) is not None:
        return swapped
    # "天琴200" for "天琴"
    if shorter := [thing for thing in things(question) if new.startswith(thing) and new[len(thing) :].isascii()]:
        return question.replace(shorter[0], new, 1)
    if (swapped := _swapped_model(question, new)) is not None:
        return swapped
    if not kind and (swapped := _swapped_sibling(question, new) or _swapped_thing(question, new)) is not None:
        return swapped
    return f"{new}{question}"


def _with_another_kind(question: str, kind: str) -> str | None:
    """ "日常保洁多少钱" and "深度的" make "深度保洁多少钱"."""
    if (old := contrasting(kind, question)) is not None:
        return question[: old.start()] + kind + question[old.end() :]
    longer = [
        thing
        for thing in things(_AMOUNT.sub(" ", question))
        if len(kind) < len(thing) <= len(kind) + 2 and not thing.isascii()
    ]
    return question.replace(longer[0], kind + longer[0][len(kind) :], 1) if longer else None


def _swapped_model(question: str, new: str) -> str | None:
    """ "X20扫地机器人" and "X30", "星河8" and "星河9", "Team 套餐" and "Enterprise 套餐"."""
    stem = re.match(r"[\u3400-\u9fff]{2,}(?=[A-Za-z0-9])", new)
    if stem and (old := re.search(rf"{re.escape(stem.group())}\s?[A-Za-z0-9][A-Za-z0-9 .+-]*", question)):
        return question[: old.start()] + new + question[old.end() :]
    names = list(re.finditer(r"[A-Za-z0-9][A-Za-z0-9.+-]*(?: [A-Za-z0-9][A-Za-z0-9.+-]*)*", question))
    if re.fullmatch(r"[A-Za-z0-9 .+-]+", new) and names:
        old = max(names, key=lambda name: (name.group()[0] == new[0], not name.group().isdigit()))
        return question[: old.start()] + new + question[old.end() :]
    return None


def _swapped_measure(question: str, new: str) -> str | None:
    """ "10公斤" for "5公斤"."""
    if (sides := r"[\d.]+\s?[乘×xX*]\s?[\d.]+") and re.fullmatch(sides, new) and (old := re.search(sides, question)):
        return question[: old.start()] + new + question[old.end() :]
    unit = re.fullmatch(rf"{_NUMBER}\s?(?P<unit>[^\d\s]{{0,3}}?)", new)
    old = re.search(rf"{_NUMBER}\s?{re.escape(unit['unit'])}", question) if unit else None
    return question[: old.start()] + new + question[old.end() :] if old else None


def _swapped_thing(question: str, new: str) -> str | None:
    """A thing for what is asked for ("有婴儿床吗"), or for what the question is about; an action for an action."""
    if _CIRCUMSTANCE.search(new):
        return None  # it is added
    pieces = _pieces(question)
    acts = [piece.kind for piece in _pieces(new)] in (["transitive"], ["procedure"])
    kinds = ("transitive", "procedure") if acts else ("thing",)
    wanted = [
        piece
        for piece in pieces
        if piece.kind in kinds and len(piece.text) > 1 and word_class(piece.text) not in ("place", "time", "colour")
    ]
    wanted = [piece for piece in wanted if piece.text == _undetermined(piece.text)] or wanted  # "这支赤霞珠" stays
    if not wanted:
        return None
    asked_for = [after for before, after in pairwise(pieces) if before.text in _ASK_FOR and after in wanted]
    old = (asked_for or wanted)[0].text
    place = question.find(old)
    return question[:place] + new + question[place + len(old) :]


def _swapped_sibling(question: str, new: str) -> str | None:
    """By the last characters: "成人票" and "儿童票", "换货" and "退货"."""
    named = things(question)
    place = question.find(new[:2])
    if len(new) in (3, 4) and place >= 0 and question[place : place + len(new)] != new:
        return question[:place] + new + question[place + len(new) :]  # "开车前", "开车后"
    for shared in (2, 1):
        ending = new[-shared:]
        if len(new) <= shared or ending.isascii():
            continue
        whole = [thing for thing in named if thing.endswith(ending) and thing != new and len(thing) > shared]
        if whole and len(new) >= 3:
            place = question.rfind(whole[-1])
            return question[:place] + new + question[place + len(whole[-1]) :]
        place = question.rfind(ending)
        start = place + shared - len(new)
        if (
            place > 0
            and start >= 0
            and question[start : place + shared] != new
            and re.fullmatch(r"[\u3400-\u9fff]+", question[start : place + shared])
        ):
            return question[:start] + new + question[place + shared :]
    return None
