"""What in a customer's words is the customer's alone, by the company's own patterns. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from deployments.answering.rules import Rules
from deployments.answering.slot_codes import OrderNumber, Phone
from deployments.answering.slots import plain


def private_values(texts: Iterable[str], rules: Rules, today: date) -> tuple[str, ...]:
    """Order and telephone numbers that a flow would have found, as they were written and as they are meant."""
    kinds = [slot.kind for slot in rules.slots.values() if isinstance(slot.kind, OrderNumber | Phone)]
    values: dict[str, None] = {}
    for text in map(plain, texts):
        for kind in kinds:
            for found in kind.find(text, today):
                values |= {found.value: None, text[found.start : found.end]: None}
    return tuple(values)
