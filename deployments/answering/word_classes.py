"""Closed classes of words, in both languages: those of which one can stand for another, and those of no topic. Pure.

Places, people, colours, times and animals replace one another. Contrasts ("single", "double") replace one another
within their set. Facets ("deposit", "押金") are what something has: alone, they do not say what is asked about.
"""

from __future__ import annotations

import re
from functools import cache

_PLACES_EN = (
    "germany france austria switzerland italy spain portugal poland belgium netherlands holland luxembourg denmark "
    "sweden norway "
    "finland iceland ireland scotland england wales britain uk greece turkey hungary romania bulgaria croatia "
    "slovenia slovakia czechia "
    "serbia ukraine russia estonia latvia lithuania malta cyprus europe eu usa us america canada mexico brazil "
    "argentina chile colombia "
    "peru china taiwan japan korea india indonesia malaysia singapore thailand vietnam philippines australia asia "
    "africa egypt morocco "
    "tunisia nigeria kenya israel qatar dubai uae pakistan bangladesh london paris berlin munich hamburg cologne "
    "frankfurt vienna zurich "
    "geneva bern rome milan madrid barcelona lisbon porto amsterdam rotterdam brussels copenhagen stockholm oslo "
    "helsinki dublin "
    "manchester birmingham leeds liverpool edinburgh glasgow bristol warsaw prague budapest bucharest athens "
    "istanbul moscow kyiv york "
    "boston chicago houston dallas seattle miami atlanta denver washington california texas florida alaska hawaii "
    "toronto vancouver "
    "montreal sydney melbourne brisbane perth auckland tokyo osaka seoul beijing shanghai shenzhen guangzhou delhi "
    "mumbai"
)
_PEOPLE_EN = (
    "adults adult parent parents children child kids kid babies baby students student pupils seniors senior "
    "pensioners customers "
    "customer members member "
    "non-members visitors patients companies businesses freelancers families family groups group guests guest "
    "employees staff residents "
    "tourists beginners teachers nurses doctors police women men girls boys teenagers toddlers infants couples "
    "singles subscribers users soldiers veterans"
)
_LANGUAGES_EN = (
    "english french german dutch spanish italian portuguese chinese mandarin cantonese japanese korean russian polish "
    "turkish arabic danish swedish norwegian finnish greek czech hungarian ukrainian hindi"
)
_LANGUAGES_ZH = "(?:英|法|德|日|韩|俄|中|外|粤|西班牙|意大利|葡萄牙|荷兰|阿拉伯)(?:文|语)|普通话"
_NUMBERS_EN = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand"
)
_COLOURS_EN = "black white red blue green yellow grey gray pink purple brown orange beige silver gold navy turquoise"
_TIMES_EN = (
    "monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays "
    "saturdays sundays weekend weekends weekdays "
    "holidays christmas easter january february march april june july august september october november december "
    "tomorrow tonight morning "
    "afternoon evening night noon midnight summer winter spring autumn today"
)
_PLACES_ZH = (
    "德国|法国|英国|美国|日本|韩国|加拿大|澳大利亚|澳洲|新西兰|意大利|西班牙|葡萄牙|荷兰|比利时|瑞士|瑞典|挪威|丹麦"
    "|芬兰|奥地利|波兰|俄罗斯|希腊|土耳其|新加坡|马来西亚"
    "|泰国|越南|印度尼西亚|印尼|印度|菲律宾|巴西|墨西哥|阿根廷|南非|埃及|迪拜|阿联酋|欧洲|欧盟|北美|南美|非洲"
    "|东南亚|亚洲|中东|国外|海外|国内|境外|境内|中国|大陆"
    "|香港|澳门|台湾|港澳台|北京|上海|天津|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北"
    "|湖南|广东|海南|四川|贵州|云南|陕西|甘肃|青海"
    "|内蒙古|内蒙|广西|西藏|宁夏|新疆|广州|深圳|珠海|东莞|佛山|厦门|福州|杭州|宁波|温州|南京|苏州|无锡|合肥|武汉"
    "|长沙|成都|昆明|贵阳|南宁|海口|三亚|西安|兰州|西宁"
    "|银川|乌鲁木齐|拉萨|郑州|洛阳|济南|青岛|烟台|石家庄|太原|沈阳|大连|长春|哈尔滨|呼和浩特|南昌|江浙沪|偏远地区"
    "|外地|本地|市区|郊区|农村|乡镇"
)
_PEOPLE_ZH = (
    "医生|护士|警察|成人|成年人|大人|儿童|小孩|孩子|宝宝|婴儿|老人|老年人|学生|教师|老师|军人|残疾人|孕妇|哺乳期"
    "|女生|男生|女士|男士|会员|非会员|新用户|老用户|个人用户|企业用户|个人|企业|公司|团体"
    "|家庭|外国人|未成年人|新手|员工|访客|住户|业主|租客|敏感肌|过敏体质"
)
_COLOURS_ZH = "(?:深|浅|天|米|奶|酒|墨|宝|粉|军)?[黑白红蓝绿黄灰紫粉棕橙银金青](?:色|的)?|米色|卡其色?|咖啡色|透明"
_TIMES_ZH = (
    "(?:周|星期|礼拜)[一二三四五六日天末]|周末|白天|夜里|半夜|深夜|清晨|傍晚|工作日|节假日|春节|国庆|五一|元旦|平时"
    "|平日|今天|明天|后天|昨天|今晚"
    "|早上|上午|中午|下午|晚上|夜间|凌晨|[一二三四五六七八九十\\d]+月|暑假|寒假|夏天|冬天|淡季|旺季|双十一|双11|618"
)
_ANIMALS_EN = (
    "dog dogs cat cats puppy puppies kitten kittens rabbit rabbits hamster hamsters horse horses bird birds fish "
    "pony ponies parrot parrots tortoise chickens"
)
_ANIMALS_ZH = "狗狗|猫咪|小狗|小猫|兔子|仓鼠|鹦鹉|乌龟|[狗猫兔鸟]"
# Sets, of which a member says no more than which one of something is meant.
_CONTRASTS = (
    "single|double|twin|triple|quadruple|family|shared|private",
    "small|medium|large|extra large|big|mini",
    "half|whole|full",
    "one-way|one way|return|round trip|round-trip",
    "daily|weekly|monthly|quarterly|yearly|annual",
    "indoor|outdoor|indoors|outdoors",
    "electric|petrol|diesel|hybrid|gas",
    "manual|automatic",
    "express|standard|regular|economy|premium|basic|first class|second class|business class|overnight",
    "domestic|international",
    "online|in person|by post|by email|by phone",
    "new|used|second-hand|refurbished",
    "hot|cold|frozen|fresh",
    "front|rear|back|left|right|upper|lower",
    "morning|afternoon|evening",
    "digital|printed|paper",
    "beginners|beginner|intermediate|advanced|experienced|professional|professionals|experts",
    "north|south|east|west",
    "cash|card",
    "单人|双人|三人|四人|家庭|大床|标准|豪华",
    "单程|往返|来回|回程|返程|去程",
    "大号|中号|小号|大杯|中杯|小杯|大份|中份|小份",
    "半天|全天|一天|两天|半日|全日",
    "日卡|周卡|月卡|季卡|年卡|次卡",
    "男款|女款|童款|成人款|儿童款",
    "成人票|儿童票|学生票|老人票|家庭票",
    "线上|线下|网上|门店|现场",
    "室内|室外|户内|户外",
    "全新|二手",
    "手动|自动|半自动",
    "加急|普通|特快|标快",
    "国内|国际",
    "经济舱|商务舱|头等舱|一等座|二等座|商务座",
    "初级|中级|高级|入门|进阶",
    "初中|高中|小学|大学",
    "热的|冰的|常温|冷冻|冷藏",
    "东门|南门|西门|北门",
    "早班|中班|晚班|夜班",
    "现金|刷卡",
    "小班|中班|大班",
    "左边|右边|前面|后面|前排|后排",
)
_FACETS_EN = frozenset(
    (  # noqa: SIM905
        "age appointment battery benefit brand cable calorie capacity catch certificate charge charger chance colour "
        "color "
        "condition cost deadline deposit difference dimension discount document downside drawback duration effect "
        "exception exemption expiry extra fee flavour flavor frequency guarantee height illness ingredient "
        "instruction interval "
        "length licence license limit link manual material maximum minimum model number paperwork penalty percentage "
        "permit prerequisite prescription price proof qualification range rate reason reduction referral refill "
        "remote requirement result risk "
        "schedule session side-effect size speed spot step success surcharge symptom tax term time total vat "
        "version voltage waiting warranty weight width thickness depth strength dose dosage advantage disadvantage "
        "accessory attachment ending start code hotline fine deductible excess premium rent instalment installment "
        "spacing"
    ).split()
)
_LIGHT_EN = frozenset(
    (  # noqa: SIM905
        "minimum maximum min max extra additional special further hidden other exact total average phone telephone "
        "serial "
        "normal usual main possible specific particular certain last next first"
    ).split()
)
_FACETS_ZH = (
    "押金|定金|订金|保证金|首付|尾款|月供|利息|利率|违约金|滞纳金|罚款|税|税费|额外费用|总价|单价|差价|底价|原价"
    "|折扣|优惠价|优惠|名额"
    "|座位|人数|年龄|年龄限制|身高|身高限制|限制|要求|条件|步骤|流程|材料|证件|资料|手续|证书|合格证|说明书|间隔"
    "|疗程|次数|频率|期限|时长"
    "|有效期|截止日期|截止时间|截止|品牌|牌子|型号|规格|版本|尺寸|尺码|颜色|重量|厚度|高度|宽度|长度|深度|材质|材料"
    "|成分|配料|口味|味道|甜度"
    "|产地|年份|度数|容量|功率|电压|续航|电池|充电器|电源|插头|遥控器|配件|零件|耗材|滤芯|包装|礼盒|赠品|电话"
    "|电话号码|号码|热线|链接|网址"
    "|编号|副作用|后遗症|风险|成功率|后果|效果|好处|坏处|缺点|优点|功效|区别|差别|原因|理由|保质期|保修期|质保|保修"
    "|售后|药|剂量|用量"
    "|等候时间|等待时间|排队|队|上限|下限|提成|佣金|违约|条款|座次|名次|进度|结果|报告|回执|收据|真伪|地点|集合地点"
    "|上车点|见效|发票抬头|名字|歌单|曲目|阵容|票根|纪念品|停车费|难度|强度|浓度|分量|温度|湿度|亮度|精度|时薪|底薪"
    "|学历|门槛|起送价|起步价|评分|评价|口碑"
)
_FEE_ZH = re.compile(r"[\u3400-\u9fff]{1,4}[费版]")


def unmodified(head: str) -> str:
    """Without words that tell nothing: "brush" of "particular brush"."""
    words = [word for word in head.split() if word.casefold() not in _LIGHT_EN]
    return " ".join([*(word for word in words[:-1] if not _is_facet_word(word.casefold())), *words[-1:]])


def is_facet(head: str) -> bool:
    """Of a noun phrase: it belongs to something that it does not name: "minimum age", "deposit", "押金", "伙食费"."""
    plain = head.strip().casefold()
    if re.fullmatch(f"(?:{_FACETS_ZH})", plain) or _FEE_ZH.fullmatch(plain):
        return True
    words = plain.split()
    return any(map(_is_facet_word, words)) and all(
        word in _LIGHT_EN or _is_facet_word(word) or word.endswith(("'s", "s'")) for word in words
    )


def _is_facet_word(word: str) -> bool:
    return any(each in _FACETS_EN for each in (word, word.removesuffix("s"), word.removesuffix("ies") + "y"))


# What people ask any company about, out of the blue.
_COMMON_EN = re.compile(
    r"\b(?:accounts?|passwords?|log ?in|sign (?:in|up)|log ?out|orders?|deliver(?:y|ies|ed|s)?|shipp(?:ing|ed)|ship"
    r"|parcels?|packages?|returns?"
    r"|refund(?:s|ed)?|exchanges?|pay(?:ing|ments?)?|paypal|klarna|cards?|cash|invoices?|receipts?|bills?|vouchers?"
    r"|coupons?|promo|gift|memberships?"
    r"|newsletters?|apps?|website|wi-?fi|jobs?|vacanc(?:y|ies)|careers?|toilets?|parking|park|shops?|stores?"
    r"|branch(?:es)?|offices?|address"
    r"|opening|hours|open|complain(?:ts?)?|contact|support|service|human|agent|data|privacy|currenc(?:y|ies)"
    r"|transfers?|top[- ]?ups?|topping|pin|atms?|money"
    r"|balance|transactions?|statements?|loans?|mortgages?|identity|verif\w+|stock|catalogue|register|subscribe"
    r"|unsubscribe|cancel|holidays?|reviews?|points?|rewards?)\b",
    re.IGNORECASE,
)
_COMMON_ZH = re.compile(
    "账号|帐号|账户|密码|登录|登陆|注册|注销|订单|下单|发货|收货|快递|物流|包裹|配送|送货|运费|邮费|包邮|退货|退款"
    "|换货|退换|支付|付款|货到付款|分期|信用卡|银行卡|花呗|微信|支付宝"
    "|现金|刷卡|发票|优惠券|红包|积分|会员|礼品卡|客服|人工|投诉|营业|开门|关门|上班|下班|停车|车停|停哪|接口|地址|门店"
    "|分店|店铺"
    "|公司|总部|官网|小程序|公众号|[Aa][Pp][Pp]|招聘|加盟|厕所|洗手间|卫生间"
    "|充电桩|手机号|邮箱|验证码|实名|身份证|隐私|个人信息|转账|提现|充值|余额|贷款|额度|提额|挂失|开户|销户|利率"
    "|还款|逾期|账单|流水|汇款|汇率|地铁|公交|路线|怎么走|怎么去|批发|代理"
    "|节假日|国庆|春节|五一|无线|[Ww][Ii]-?[Ff][Ii]|团购|预订|取消|送修"
)


def is_common_topic(text: str) -> bool:
    """It names something that is asked of any company: "parking", "发票"."""
    return bool(_COMMON_EN.search(text) or _COMMON_ZH.search(text))


def contrasting(word: str, text: str) -> re.Match[str] | None:
    """What `word` replaces in `text`: "single" where it is "double"."""
    parts = {word.strip().casefold(), *word.casefold().split()}
    for contrast in _CONTRASTS:
        members = contrast.split("|")
        if parts & set(members):
            others = sorted(set(members) - parts, key=len, reverse=True)
            if (found := next(filter(None, (_word(each).search(text) for each in others)), None)) is not None:
                return found
    return None


def without_contrast(text: str, turn: str) -> str:
    """Without what the turn replaces: "beginners" where it says "advanced"."""
    for contrast in _CONTRASTS:
        members = [each for each in contrast.split("|") if len(each) > 1]
        found = [each for each in members if _word(each).search(turn)]
        old = [each for each in members if _word(each).search(text)]
        if found and old and not set(found) & set(old):
            text = _word(old[0]).sub("", text).replace("  ", " ").strip()
    return text


@cache
def _word(text: str) -> re.Pattern[str]:
    edge = r"\b" if text.isascii() else ""
    return re.compile(f"{edge}{re.escape(text)}{edge}", re.IGNORECASE)


def is_contrast(word: str) -> bool:
    plain = word.strip().casefold()
    return any(plain in contrast.split("|") for contrast in _CONTRASTS)


def _latin(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LATIN = {
    "place": _latin(_PLACES_EN),
    "people": _latin(_PEOPLE_EN),
    "colour": _latin(_COLOURS_EN),
    "time": _latin(_TIMES_EN),
    "animal": _latin(_ANIMALS_EN),
    "number": _latin(_NUMBERS_EN),
    "language": _latin(_LANGUAGES_EN),
}
_CHINESE = {
    "place": re.compile(f"(?:{_PLACES_ZH})(?:省|市|地区|那边|这边)?"),
    "people": re.compile(f"(?:{_PEOPLE_ZH})(?:用户|客户)?"),
    "colour": re.compile(_COLOURS_ZH),
    "time": re.compile(f"(?:{_TIMES_ZH})(?:上午|下午|晚上)?"),
    "animal": re.compile(_ANIMALS_ZH),
    "language": re.compile(_LANGUAGES_ZH),
}


def word_class(text: str) -> str:
    """Of a phrase: "place", "people", "colour", "time", "animal", "language", "number" or "".

    Its last word decides, or that of one of its parts.
    """
    parts = re.split(r"\s+(?:and|or)\s+|[和、或及]", text.strip().casefold())
    return next(filter(None, map(_class_of_one, parts)), "")


def _class_of_one(plain: str) -> str:
    last = plain.split()[-1] if plain else ""
    for name, members in _LATIN.items():
        if last in members:
            return name
    return next((name for name, pattern in _CHINESE.items() if pattern.fullmatch(plain)), "")


def same_class(first: str, second: str) -> bool:
    return word_class(first) == word_class(second) != ""


def of_class(name: str, text: str) -> re.Match[str] | None:
    """The last Chinese word of this class in `text`."""
    found = list(_CHINESE[name].finditer(text))
    return found[-1] if found else None
