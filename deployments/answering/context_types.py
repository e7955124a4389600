"""What the two languages tell about a turn. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What the turn has to be given:
# pronoun    the thing, in place of a word: "does it come in black?"
# thing      the thing, beside its words: "how much?", "有黑色的吗"
# matter     the thing with what is done to it: "how long does that take?"
# fragment   the whole question, asked of something else: "and in Germany?", "那退货呢"
# attribute  the thing whose attribute it names, if a product was spoken of: "how long is the warranty?"
# facet      what has it, or what is done where nothing is named: "do I need a referral?", "要押金吗"
# delivery   where to and what, if something is to be sent: "运费多少"
Need = Literal["pronoun", "thing", "matter", "fragment", "attribute", "facet", "delivery"]


@dataclass(frozen=True, slots=True)
class Lean:
    """A turn that cannot be understood alone."""

    need: Need
    core: str  # the turn without courtesies and connectives
    span: tuple[int, int] | None = None  # of the pronoun in `core`
    is_sure: bool = True  # False: it may well stand alone
