import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.answering.cache_policy import closeness, contradicts, same_question
from deployments.answering.meaning import is_one_slip, read
from deployments.answering.quantities import mark

pytestmark = pytest.mark.unit

CLOSE = 0.9  # as the encoder finds paraphrases and what turns them round alike


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("How long is the warranty on the motor?", "how long is the motor warranty"),
        ("What does express delivery cost?", "How much does express delivery cost?"),
        ("Could you please tell me whether you deliver to Norway?", "Do you deliver to Norway"),
        ("I can't log into my account", "I am unable to log in to my account"),
        ("Can I return it within 3 days?", "Can I return it within three days?"),
        ("Is there a fee over $1,000?", "Is there a fee over 1000 dollars?"),
        ("How do I chnage my pasword?", "How can I change my password"),
        ("Does my insurence cover treatmant abroad?", "Does my insurance cover treatment abroad?"),
        ("Is roaming included in the family plan?", "Does the family plan include roaming?"),
        ("Could someone please explain how boarding works?", "How does boarding work?"),
        ("套餐怎么改", "如何变更套餐"),
        ("怎么申情发漂", "怎么申请发票"),
        ("登机牌怎么打印", "boarding pass怎么打印"),
        ("How do I turn my alarm on?", "How do I turn on my alarm?"),
        ("What is your refund policy?", "refund policy?"),
        ("退款多久到账", "退款要多久到账？"),
        ("能不能退货", "能退货吗"),
        ("请问一下，怎么修改收货地址呢？", "如何更改收货地址"),
        ("三天内能退吗", "3天内能退吗"),
        ("满100包邮吗", "满一百元包邮吗"),
        ("ＡＰＰ无法登录", "app登录不了"),
        ("怎么cancel订单", "怎么取消订单"),
    ],
)
def test_paraphrases_are_the_same_question(asked: str, stored: str) -> None:
    assert same_question(asked, stored, CLOSE)
    assert same_question(stored, asked, CLOSE)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("我能替我妈挂号吗", "我妈能替我挂号吗"),
        ("Can I pay now and collect later?", "Can I collect now and pay later?"),
        # letters and characters that make another word
        ("怎么预约体检", "怎么预约体验"),
        ("怎么托运", "怎么拖运"),
        ("Can I book a massage?", "Can I book a message?"),
        ("Does the family plan include roaming?", "Does the student plan include roaming?"),
        # numbers, amounts, durations, units, dates
        ("Can I return it within 3 days?", "Can I return it within 30 days?"),
        ("3 天内能退吗", "30 天内能退吗"),
        ("三天内能退吗", "三十天内能退吗"),
        ("Is there a 5 kg limit?", "Is there a 5 lb limit?"),
        ("Is it due in two weeks?", "Is it due in two months?"),
        ("Can I book from 3 to 5 days?", "Can I book from 5 to 3 days?"),
        ("Can I swap a monthly plan for a yearly plan?", "Can I swap a yearly plan for a monthly plan?"),
        ("Was I charged twice?", "Was I charged once?"),
        ("Are you open at 8 am?", "Are you open at 8 pm?"),
        ("5月1日上班吗", "5月2日上班吗"),
        ("周一营业吗", "周日营业吗"),
        ("第一次登录怎么办", "第二次登录怎么办"),
        ("6岁以上免费吗", "6岁以下免费吗"),
        # ids, models, places
        ("Where is order A10293?", "Where is order B10293?"),
        ("Where is order 4471?", "Where is order 4417?"),
        ("Does plan A cover dental?", "Does plan B cover dental?"),
        ("Does it work with iPhone 15?", "Does it work with iPhone 14?"),
        ("How long does the Orbit X run?", "How long does the Orbit S run?"),
        ("Do you ship to Austria?", "Do you ship to Australia?"),
        ("A套餐多少钱", "B套餐多少钱"),
        # direction and order
        ("How much is a flight from Oslo to Bergen?", "How much is a flight from Bergen to Oslo?"),
        ("Is shipping from China slow?", "Is shipping to China slow?"),
        ("移动能转联通吗", "联通能转移动吗"),
        ("广州寄到北京几天", "北京寄到广州几天"),
        ("先付款后发货吗", "先发货后付款吗"),
        ("Can I cancel before dispatch?", "Can I cancel after dispatch?"),
        ("Can I pay after I register?", "Can I register after I pay?"),
        # negation
        ("可以退款吗", "不可以退款吗"),
        ("特价商品能退吗", "特价商品不能退吗"),
        ("无线耳机怎么保修", "有线耳机怎么保修"),
        ("Is the filter covered by the warranty?", "Is the filter not covered by the warranty?"),
        ("Can I log in with a password?", "Can I log in without a password?"),
        ("Can members enter?", "Can non-members enter?"),
        ("Why can't I withdraw cash?", "Why is there a withdrawal that I didn't make?"),
        # opposites
        ("How do I turn on two-factor login?", "How do I turn off two-factor login?"),
        ("怎么开启双重验证", "怎么关闭双重验证"),
        ("How do I mute a chat?", "How do I unmute a chat?"),
        ("How do I turn the volume up?", "How do I turn the volume down?"),
        ("How do I reset the Hub Mini?", "How do I restart the Hub Mini?"),
        # modality, quantity, person, time
        ("Can I bring my passport?", "Do I have to bring my passport?"),
        ("可以实名认证吗", "必须实名认证吗"),
        ("Can I cancel one ticket?", "Can I cancel all tickets?"),
        ("Are adults allowed?", "Are only adults allowed?"),
        ("Can I pick up my parcel?", "Can someone else pick up my parcel?"),
        ("Can my landlord cancel my contract?", "Can I cancel my landlord's contract?"),
        ("我给朋友转账要手续费吗", "朋友给我转账要手续费吗"),
        ("Can you call me?", "Can I call you?"),
        ("我欠你们钱吗", "你们欠我钱吗"),
        ("孩子能用我的卡吗", "我能用孩子的卡吗"),
        ("When did my order ship?", "When will my order ship?"),
        ("上周的账单怎么查", "本周的账单怎么查"),
        # another topic, a condition more
        ("How long is the warranty on a motor?", "How do I track my parcel?"),
        ("How do I get a refund?", "How do I get a replacement?"),
        ("How do I change my plan?", "How do I cancel my plan?"),
        ("What is the delivery time?", "What is the delivery cost?"),
        ("次日达要加钱吗", "当日达要加钱吗"),
        ("Can I get a loan?", "Can I get a loan with bad credit?"),
        ("可以退货吗", "海外可以退货吗"),
        # nothing that can be compared
        ("How do I do that?", "What about this?"),
    ],
)
def test_what_turns_an_answer_round_is_another_question(asked: str, stored: str) -> None:
    assert not same_question(asked, stored, 0.99)
    assert not same_question(stored, asked, 0.99)


def test_what_says_the_same_must_be_near_besides() -> None:
    assert not same_question("How do I get a refund?", "How can I request a refund?", 0.0)
    assert same_question("How do I get a refund?", "How can I request a refund?", 0.9)


@given(st.text(max_size=60))
def test_every_text_is_the_same_question_as_itself_in_full_width_and_capitals(text: str) -> None:
    assert same_question(text, text.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}), 0.0)


@given(st.text("abé 12一二三天不能to from,?", max_size=40), st.text("abé 12一二三天不能to from,?", max_size=40))
def test_which_was_asked_first_makes_no_difference(first: str, second: str) -> None:
    assert same_question(first, second, 0.5) == same_question(second, first, 0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("within three days", ["3:day"]),
        ("三天", ["3:day"]),
        ("a hundred and twenty-five euros", ["125:eur"]),
        ("$1,000.50", ["1000.5:usd"]),
        ("三百五十元", ["350:cny"]),
        ("三百五", ["350:"]),
        ("一万二", ["12000:"]),
        ("5万", ["50000:"]),
        ("1.5k", ["1500:"]),
        ("半小时", ["0.5:hour"]),
        ("5个工作日", ["5:workday"]),
        ("百分之十", ["10:percent"]),
        ("3:30 pm", ["15.30:clock"]),
        ("下午3点半", ["15.30:clock"]),
        ("星期天", ["7:weekday"]),
        ("5月1日", ["5:month-name", "1:"]),
        ("in may 3 people", ["5:month-name", "3:"]),
        ("may i bring two", ["2:"]),
        ("第二", ["2:ordinal"]),
        ("no. 0012", ["0012:"]),
        ("version 2.1.3", ["2.1.3:"]),
        ("this one, 一下, 万一, 第三方", []),
    ],
)
def test_quantities(text: str, expected: list[str]) -> None:
    assert [part.split("⟧")[0] for part in mark(text).split("⟦")[1:]] == expected


@pytest.mark.parametrize(
    ("word", "other", "expected"),
    [
        ("refudn", "refund", True),
        ("pasword", "password", True),
        ("charge", "change", False),
        ("charge", "charger", False),
        ("from", "form", False),
        ("refund", "refund", False),
    ],
)
def test_slips(word: str, other: str, expected: bool) -> None:
    assert is_one_slip(word, other) is expected
    assert is_one_slip(other, word) is expected


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Why was my card declined?", "why"),
        ("How long does it take?", "how_long"),
        ("What is the price of a stamp?", "how_much"),
        ("I would like to know when you open", "when"),
        ("is it possible to pay later", "whether"),
        ("My card is lost", "statement"),
        ("怎么还没发货", "why"),
        ("运费多少", "how_much"),
        ("几天能到", "how_long"),
        ("能不能改签", "whether"),
        ("我要退货", "wish"),
    ],
)
def test_kinds_of_question(text: str, kind: str) -> None:
    assert read(text).kind == kind


def test_closeness_runs_from_the_threshold_to_identity() -> None:
    assert closeness(0.9, 0.9) == 0.0
    assert closeness(0.95, 0.9) == pytest.approx(0.5)
    assert closeness(1.0, 0.9) == 1.0
    assert closeness(0.5, 0.9) == 0.0
    assert closeness(1.0, 1.0) == 1.0


@pytest.mark.parametrize(
    ("asked", "curated", "expected"),
    [
        ("turn off two-factor", "How do I turn on two-factor authentication?", True),
        ("how to turn it on", "How do I turn on two-factor authentication?", False),
        ("Can I return after 45 days?", "Can I return after 30 days?", True),
        ("Can I return it?", "Can I return an item within 30 days?", False),
        ("Orbit X充满电能用多久", "Orbit S 充满电能用多久？", True),
        ("how do i clean the brio 2", "How do I clean the Brio Pro?", True),
        ("how do i clean the brio", "How do I clean the Brio Pro?", False),
        ("does a visa card work", "Does a Visa card work?", False),
    ],
)
def test_curated_question_may_say_more_but_nothing_else(asked: str, curated: str, expected: bool) -> None:
    assert contradicts(asked, curated) is expected


def test_what_reads_alike_to_the_last_field_needs_no_nearness() -> None:
    assert same_question("How do I chnage my seat on the flihgt?", "How do I change my seat on the flight?", 0.0)
    assert not same_question("What is your refund policy?", "refund policy?", 0.0)
