"""Closed classes of words of which one can stand for another: places, people, colours, times. Pure, both languages."""

from __future__ import annotations

import re

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
    "adults adult children child kids kid babies baby students student pupils seniors senior pensioners customers "
    "customer members member "
    "non-members visitors patients companies businesses freelancers families family groups group guests guest "
    "employees staff residents "
    "tourists beginners teachers nurses doctors police women men girls boys teenagers toddlers infants couples "
    "singles subscribers users soldiers veterans"
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
    "(?:周|星期|礼拜)[一二三四五六日天末]|周末|工作日|节假日|春节|国庆|五一|元旦|平时|平日|今天|明天|后天|昨天|今晚"
    "|早上|上午|中午|下午|晚上|夜间|凌晨|[一二三四五六七八九十\\d]+月|暑假|寒假|夏天|冬天|淡季|旺季|双十一|双11|618"
)


def _latin(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LATIN = {
    "place": _latin(_PLACES_EN),
    "people": _latin(_PEOPLE_EN),
    "colour": _latin(_COLOURS_EN),
    "time": _latin(_TIMES_EN),
}
_CHINESE = {
    "place": re.compile(f"(?:{_PLACES_ZH})(?:省|市|地区|那边|这边)?"),
    "people": re.compile(f"(?:{_PEOPLE_ZH})(?:用户|客户)?"),
    "colour": re.compile(_COLOURS_ZH),
    "time": re.compile(f"(?:{_TIMES_ZH})(?:上午|下午|晚上)?"),
}


def word_class(text: str) -> str:
    """Of a phrase: "place", "people", "colour", "time", or ""; its last word decides, or that of one of its parts."""
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
