from datetime import date

import pytest

from deployments.answering.private import private_values
from deployments.answering.rules import Rules
from deployments.answering.slot_codes import OrderNumber, Pattern, Phone
from deployments.answering.slots import Slot

pytestmark = pytest.mark.unit


def test_order_numbers_are_those_that_the_flows_know() -> None:
    kinds = {"order": OrderNumber(Pattern("NL-[0-9]{4}-[0-9]{4}"), ("NL-2045-8812",)), "phone": Phone()}
    rules = Rules(slots={name: Slot(name, kind, {}, {}) for name, kind in kinds.items()})
    values = private_values(["where is nl 2045 8812?", "我的手机是13812345678"], rules, date(2026, 1, 1))
    assert set(values) == {"NL-2045-8812", "nl 2045 8812", "13812345678"}
    assert private_values(["nothing to see"], rules, date(2026, 1, 1)) == ()
