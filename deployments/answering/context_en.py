"""What an English turn leaves out, and what an English question is about. Pure.

No parser: closed classes of words (auxiliaries, pronouns, prepositions, the verbs of customer service) and what stands
next to them. What these cannot decide is left to stand alone, since a missed follow-up costs a second question and a
leaked history a wrong answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from deployments.answering.context_types import Lean, Need
from deployments.answering.word_classes import (
    contrasting,
    is_common_topic,
    is_contrast,
    is_facet,
    same_class,
    unmodified,
    word_class,
)

_WORD = re.compile(r"[^\W_][\w'’.&+-]*(?:[^\W_]|(?<=s)['’](?= ))|[^\W_]|[^\w\s]")
_DETERMINERS = frozenset("a an the my ur your our his her their this that these those".split())  # noqa: SIM905
_SUBJECTS = frozenset("i you u we they he she it one".split())  # noqa: SIM905
_AUXILIARIES = frozenset(
    (  # noqa: SIM905
        "is are was were am be been being do does did done doing have has had having can could will would shall "
        "should may "
        "might must im dont cant wont doesnt didnt isnt havent theres whats wheres hows thats isn't aren't wasn't "
        "weren't don't doesn't didn't haven't hasn't can't cannot couldn't won't wouldn't "
        "shouldn't i'm i've i'd i'll you're we're they're it's that's there's what's where's who's how's when's let's"
    ).split()
)
_PREPOSITIONS = frozenset(
    (  # noqa: SIM905
        "in on at to for from with without of by about into onto over under within during after before until since "
        "between "
        "through per via than as against near outside inside"
    ).split()
)
_OTHER_FUNCTION_WORDS = frozenset(
    (  # noqa: SIM905
        "and or but so if when while because although unless once whether then also too either neither both not no "
        "yes what "
        "which who whom whose where why how many much long often far soon any some all each every there here me him "
        "us them "
        "myself yourself it its mine yours ours theirs very really just only still already yet again even else "
        "please ok hi "
        "hello thanks more most less least lot lots up down out off back away anything something nothing everything "
        "abroad overseas online offline maybe perhaps tell know let other another ever never always now today "
        "usually currently exactly actually same "
        "free available possible included open closed stock valid safe normal ready long okay allowed suitable extra "
        "advance provided supplied best better worst right correct "
        "covered required necessary mandatory compulsory optional separately overnight"
    ).split()
)
_VERBS = frozenset(
    (  # noqa: SIM905
        "accept add agree allow apply arrive ask assemble become begin belong block book borrow break bring build "
        "buy call "
        "cancel carry change charge check choose claim clean close collect come compare complain confirm connect "
        "contain "
        "contact cook cost cover create deliver delete describe differ dispatch download dry eat enter exchange expire "
        "explain extend fill find finish fit fix fly follow forget get give go happen help hold hire include "
        "increase install "
        "join keep last learn leave like live look lose make mean measure meet miss move need offer open order pack "
        "park "
        "pause pay pick place play prefer print process provide purchase put reach read receive recommend record "
        "redeem "
        "refund register remove renew rent repair replace request require reset return run say see sell send serve "
        "set ship "
        "shorten show sign speak spend start stay stop store subscribe suit supply support switch take talk test track "
        "transfer travel trade try turn understand unlock unsubscribe update upgrade upload use visit wait want "
        "wash watch "
        "wear weigh withdraw work write broke lost bought ordered paid sold got sent came took made found left "
        "broken stolen "
        "forgot kept said told went"
    ).split()
)
_CONTRACTIONS = frozenset("im i'm i've i'd i'll you're we're they're it's that's there's theres thats".split())  # noqa: SIM905
_QUESTION_WORDS = frozenset("what which who whom whose where why how any".split())  # noqa: SIM905
_CONNECTIVE = re.compile(
    r"^(?:(?:(?:thanks|thank you)(?: so much| very much| a lot)?|and|but|so|or|also|then|ok(?:ay)?|well|hm+|ah|oh"
    r"|alright|great|cool|perfect|good|fine|nice|yes|no"
    r"|i see|hi|hello|hey|right|sure|please|even(?= (?:for|with|without|if|when|in|on|at|after|before"
    r"|during)\b))\b[\s,.!…-]*)+",
    re.IGNORECASE,
)
_LEANING_CONNECTIVE = re.compile(r"\b(?:and|but|so|or|also|then)\b", re.IGNORECASE)
_CASE = re.compile(r"(?:i|we|they|he|she|somebody|someone)\b", re.IGNORECASE)  # "what if I already have one"
_WHAT_ABOUT = re.compile(r"^(?:what|how) about\b\s*|^what if\b\s*", re.IGNORECASE)
_BARE_QUESTION = re.compile(
    r"(?:how (?:much|long|many|often|far|big|heavy|old|so|come|fast|soon)|how|why|why not|when|where|since when"
    r"|from when|until when"
    r"|by when|for how long|at what (?:time|price|cost)|what time|which|what|which one|which ones|what (?:size"
    r"|colou?r|price|kind)s?|who"
    r"|(?:sorry,? )?(?:still )?(?:(?:is |does |did )?not|isn't|doesn't|didn't|no luck|nope)(?: work(?:ing|ed)?| "
    r"help(?:ing|ed)?)(?: either| at all| yet)?|no luck|still (?:nothing|the same|broken)"
    r"|(?:i )?(?:already )?tried (?:that|it|this)(?: already)?|what now|now what|what then|and then|what else"
    r"|anything else"
    r"|(?:how (?:do|can|could|should|would) i|can i|could i|may i|where (?:do|can) i|when (?:do|can) i|do i (?:have"
    r"|need) to) (?:still )?"
    r"(?:clean|install|activate|replace|assemble|return|cancel|charge|wash|book|use|apply|extend|upgrade|change"
    r"|update|exchange|remove|renew"
    r"|reset|open|claim|reserve|set up|collect|try|transfer|downgrade|do)"
    r"(?: (?:in advance|online|at any time|any time|early|later|myself|again|for free))?"
    r"|what (?:should|do|can|must) i do(?: then| now| next)?|what(?:'s| is) next"
    r"|what happens (?:then|next|now|after that)|are you sure|really|is (?:that|it) (?:all|right|so|true)|how do i "
    r"do (?:that|it|this)"
    r"|can you (?:explain|elaborate)|(?:tell|give) me more|more (?:details|info|information)(?: please)?|any "
    r"(?:exceptions|limits|conditions)"
    r"|how (?:much|long|many)(?: (?:in total|exactly|per (?:month|year|day|week|person|night)|a (?:month|year|day"
    r"|week)|each|extra|more))+"
    r"|how much (?:would|will|does|do|is) (?:that|it|this|they)(?: (?:be|cost))?|for free|is it free|since when"
    r"|(?:what|which) (?:documents|papers|information|requirements) (?:do i need|are needed|are required|must i "
    r"bring)(?: to bring| for this| for that)?)"
    r"(?: (?:then|exactly|please|is that|that is|though))*",
    re.IGNORECASE,
)
_COMPARISON = re.compile(
    r"\b(?:cheaper|cheapest|bigger|biggest|smaller|smallest|larger|largest|longer|shorter|faster|fastest|lighter"
    r"|newer|better|best|nicer"
    r"|stronger|quieter|older|other|another|different|second|first|last|blue|black|white|red|green) "
    r"(?:ones?|versions?|options?|models?|sizes?|colou?rs?|variants?|flavou?rs?)\b(?! than)"
    r"|\bthe difference\b(?! between)|\b(?:something|anything|any|a bit|one) (?:cheaper|bigger|smaller|larger"
    r"|faster|lighter|better)\b(?! than)"
    r"|\b(?:which|what|who)(?: one)? (?:is|are|'s) (?:the )?(?:\w+er|\w+est|better|best|more \w+|most \w+)\b(?! "
    r"than)(?=[?!. ]*$)",
    re.IGNORECASE,
)
_GENERIC_NOUNS = (
    r"models?|products?|items?|versions?|options?|plans?|prices?|colou?rs?|sizes?|devices?|things?|offers?|cases?"
    r"|services?|polic(?:y|ies)|fees?"
    r"|discounts?|numbers?|methods?|rules?|period|deadline|amount|costs?|limits?|ones?|tickets?|course|programme"
    r"|program|process|information"
)
_TIME_NOUNS = (
    r"week|month|year|morning|afternoon|evening|night|weekend|summer|winter|spring|autumn|time|monday|tuesday"
    r"|wednesday|thursday|friday"
    r"|saturday|sunday|christmas|season|moment|point|way"
)
_AFTER_THAT = (
    r"(?=\s*(?:[,.;:?!]|$|(?:(?:is|are|was|does|do|did|has|have|wo|ca|would|could)n't|cannot|didnt|doesnt|is|are"
    r"|was|were|'s|will|would|can|could|does|do|did|has|have|had|take|takes|cost|costs|mean|means|work|works|include"
    r"|includes|apply|applies|happen|happens|come|comes|help|change|changes|count|counts|be|also|too|then|for|in|on"
    r"|at|to|from|with|by|if|when"
    r"|without|per|instead|again|now|myself|online|mean|out|off|up|back|still)\b))"
)
_BEFORE_THAT = (
    r"(?:^|\b(?:is|are|was|does|do|did|will|would|can|could|should|must|may|might|about|for|like|with|of|than|after"
    r"|before|in|to|by|on"
    r"|mean|means|and|but|or|so|if|when|why|how|what|use|get|buy|see|find|cancel|change|without|into|from)\s+"
    r"|[,.;?!]\s*)"
)
_ANAPHOR = re.compile(
    rf"\b(?:it|its|they|them|their|theirs)\b(?!')|\b(?:it|they)'(?:s|re|ll|d|ve)\b|\b(?:this|that|these|those|the "
    rf"same) (?:{_GENERIC_NOUNS})\b"
    rf"|^(?:can|could|does|do|will|would|is|has|when|what|how|and|where)\b[^?]{{0,20}}?\b(?P<person>he"
    rf"|she)\b(?!.*\bi\b)"
    rf"|(?P<such>\bsuch (?:an?\b|\w+s\b)(?! as))"
    rf"|{_BEFORE_THAT}(?P<bare>that|this|those|these){_AFTER_THAT}|\bthat's\b|\b(?:from|in|over|get|go|back|up|out) "
    rf"there\b"
    r"|\b(?:of|are|do|have|for|with) both\b(?! [^,?]+ and\b)|\bneither\b(?! [^,?]+ nor\b)"
    r"|\b(?:get|buy|rent|hire|order|book|have|need|want|find|use|try|bring|for|of|in|see|make|choose|reserve|does|is"
    r"|do) (?P<bare_one>one)\b(?=[ ?!.]*$| (?:cost|weigh|last|take|for|in|at|on|online)\b)"
    r"|\b(?:this|that|which|the(?: \w+)?|another|other) ones?\b(?! of)|\b(?:both|all|either|neither|none|some|one"
    r"|two) of (?:them|these|those)\b",
    re.IGNORECASE,
)
# "Is it possible to …", "how long does it take to …": the pronoun stands for what follows.
_EXPLETIVE = re.compile(
    "|".join(
        (
            # "it is possible to", "it would be better if"
            r"\bit(?:'s| is| was| would be| will be| be| really| also| even)*\s+(?:possible|ok|okay|allowed"
            r"|necessary|safe"
            r"|legal|worth|better|cheaper|easy|hard|difficult|too late|true|normal|likely|mandatory|required|enough"
            r"|best"
            r"|fine|good|bad|free|included|important|useful|sensible)\b[^?!]*?\b(?:to|that|if|for|when)\b",
            # "is it right that", "is it easy to clean the filter", but not "is it easy to clean"
            r"\b(?:is|isn't|was|would|will) it (?:be )?(?:\w+ ){1,3}?(?:that\b|either\b|to \w+ \w)",
            r"\b(?:is|would|will|was) it (?:be )?(?:possible|ok|okay|allowed|better|safe|worth|cheaper|mandatory"
            r"|necessary"
            r"|too late|true|normal|free|good|legal) (?:to|that|if|for)\b",
            r"\b(?:is|isn't|was) it (?:not )?that\b|\b(?:is|be|was) it to\b|\bit be to\b|\bit(?: be| is|'s| was| "
            r"take)? "
            r"(?:before|until|till)\b|\b(?:does|did) it mean (?:to|if|when|that)\b|\bdoes it matter\b",
            # "how long does it take to", "it takes my card"
            r"\bit\s+(?:would |will |should |can |usually |normally |typically |really |actually |still )*(?:takes?"
            r"|took"
            r"|costs?|matters?|hurt|help|make sense|pay|requires?|need)\b(?:[\s,]+\w+){0,5}?[\s,]+(?:to|for|until|till"
            r"|before|if|when|my|our|the)\s+(?!me\b|you\b|us\b)\w",
            r"\bit(?:'s| has| is|s)? (?:been|rain|snow|raining|late|cold|hot|monday|friday)\b",
            r"\bit(?:'s)? (?:said|says|seems|looks like|turns out|appears)\b|\bit (?:does|did)(?:n't| not) (?:seem"
            r"|appear)",
            r"\bis it (?:showing|saying)\b|\b(?:appreciate|worth|make|love|hate) it\b|\blike it (?:if|when)\b",
            r"\bits (?=(?:still|now|on|not|a|the|been|just|no|too|very|so|my)\b|\d)",  # it's
            r"\bnew to this\b|^this is (?:a|an|the|my|not|so|very|urgent)\b(?![^?]*\?)|\bif that'?s (?:ok|possible"
            r"|fine)",
        )
    ),
    re.IGNORECASE,
)
_POINTED_AT = re.compile(r"\b(?:my|our|your)\b|\b(?:this|that) \w+ (?:for|from|on|of|that) \w", re.IGNORECASE)
# "Do the cards have limits on them": the pronoun means the subject.
_HAS_ON = re.compile(r"\b(?:have|has|come|comes)\b.*\b(?:on|in|with|to|for)\s$", re.IGNORECASE)
_MANY_WORDS = 8  # with a pronoun: as many may say elsewhere what it stands for
_RECORD_NUMBER = re.compile(r"\b[A-Z]{2,}-?\d{4,}\b|#\d{3,}")  # of an order: the turn says what it is about
_CLAUSE_END = re.compile(
    r"[,.;:!?–-]\s|\b(?:say|says|said|saying|as|which|and|but|if|when|because|while|before|after|since|although"
    r"|though|until|once|without"
    r"|or|who|so|then|to have|to get|whether|how|that|why|where|what)\b",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    r"(?:(?:and|also|so|but)\s+)?(?:what(?:'s| is| are| about)?|how (?:long|much|big|heavy|good|high|large)(?: is| "
    r"are)?|is|are|is there|are there|which|does|do)?\s*"
    r"(?:the|a|an|any|its)?\s*(?:warranty|guarantee|battery(?: life)?|weight|size|sizes|colou?rs?|price|dimensions"
    r"|material|range|capacity|screen(?: size)?"
    r"|shelf life|expiry date|ingredients|notice period|minimum term|deposit|monthly (?:fee|price)|delivery time"
    r"|height|width|power consumption|memory)"
    r"(?: (?:do you have|are there|is it|available|does it have|included|come|in cm|in kg))?\s*[?.!]*",
    re.IGNORECASE,
)
_OWN_MATTER = re.compile(
    r"^(?:my|our) (?:\w+ )?(?:orders?|refunds?|parcels?|packages?|money|delivery|deliveries|accounts?|complaints?"
    r"|bookings?|reservations?|invoices?|bills?)\b",
    re.IGNORECASE,
)
_POINTER = re.compile(rf"\b(?:this|that|these|those) (?!(?:{_TIME_NOUNS})\b)(?P<noun>[a-z]{{3,}})\b", re.IGNORECASE)
_DEFINITE = re.compile(r"\bthe (?P<noun>[a-z]{4,})\b(?! (?:of|for|in|on|at|to|with|from|[a-z]+ing)\b)", re.IGNORECASE)
_ASKED_FOR = re.compile(
    r"\b(?:have|has|offer|sell|stock|provide|recommend|accept|bought|ordered|buy|order|which|what)\s+$", re.IGNORECASE
)
_SAME_FOR = re.compile(  # "does that also apply to sale items?"
    r"(?:(?:is|does|would|do) (?:it|that|this|they) (?:also |be )?)?(?:(?:the )?same|(?:also )?(?:true|valid|apply"
    r"|applicable|count|hold)(?: also| too)?)"
    r" (?P<of>(?:for|to|in|with|on|at) (?!me\b|you\b|us\b|it\b|that\b|this\b|them\b).{2,40})",
    re.IGNORECASE,
)
_BE_FIRST = re.compile(r"^(?:is|are|was|were)\s+(?!there\b)", re.IGNORECASE)
_LAST_CLAUSE = re.compile(
    r"(?P<before>.+\s)(?:when|while|if|as long as|during|without|because|unless)\b.*", re.IGNORECASE
)
_REGARDING = re.compile(r"(?:in|with) regards?\b", re.IGNORECASE)
_MEASURE = re.compile(r"\d[\d.,]*\s?[a-z%€$]+(?: [a-z]+)?", re.IGNORECASE)
_ALSO = re.compile(r"\b(?:too|also|as well)[ ?!.]*$", re.IGNORECASE)
_PARTICIPLE = re.compile(r"(?!speed|breed|hundred)[a-z]{3,}[^e]ed")
_NOUN_AFTER = re.compile(  # "after a cold", which is no clause
    r"(?:after|before|during|without|until|since) (?:(?:a|an|the|my|our|his|her|their) )?[a-z-]+(?: [a-z-]+)?",
    re.IGNORECASE,
)
_CLAUSE_OPENER = re.compile(
    r"^(?:when|while|if|as long as|after|before|during|without|because|until|since|unless)\b", re.IGNORECASE
)
# Somebody, or what happened to the customer: the turn has a topic of its own.
_OF_SOMEBODY = re.compile(
    r"\b(?:your|my|our|us|me|mine|yours|this|it|he|she|him|her)\b|\byou\b(?! (?:recommend|suggest|advise|prefer"
    r"|think|mean)\b)|\b(?:was|were|did|had|am) i\b"
    r"|^(?:(?:is|are) there|i |we |why\b|who\b|whose\b)|\bwhere (?:is|are)\b",
    re.IGNORECASE,
)
_LIGHT_VERBS = frozenset(
    (  # noqa: SIM905
        "need have get take use bring do make cost include mean last come go pay recommend choose want see happen "
        "say wear change help "
        "require keep begin start stop become wait find apply"
    ).split()
)
_YOURS = re.compile(r"\b(?:your|my|our|you|this|it)\b|^why\b", re.IGNORECASE)
_MOST_OPEN_WORDS = 7  # who writes more names what it is about
_MOST_EMPTY_WORDS = 10  # where nothing at all is named
_VERB = re.compile(r"(?P<by>\b(?:i|we|they|one) )?(?P<verb>[^\W\d_]+)", re.IGNORECASE)
_ADVERBS = frozenset(
    (  # noqa: SIM905
        "overnight online offline abroad overseas separately together alone twice daily weekly monthly later earlier "
        "sooner upstairs "
        "outdoors indoors locally remotely permanently temporarily anonymously"
    ).split()
)
_ADJECTIVE = re.compile(
    r"[a-z-]{2,}(?:able|ible|proof|free|ful|less|ous|ish|ical)|vegan|vegetarian|halal|kosher|gluten-free|organic"
    r"|handmade|second-hand|used|new|dry|wet|frozen"
    r"|raw|fresh|cold|hot|warm|spicy|sweet|quiet|loud|heavy|safe|painful|alcoholic|barefoot|pregnant|left-handed"
    r"|colou?red",
    re.IGNORECASE,
)
_COURTESY_END = re.compile(
    r"(?:[\s,]+(?:please|too|as well|also|thanks|thank you|then|though))?[\s?!.…]*$", re.IGNORECASE
)
_FRAME = re.compile(
    r"^(?:(?:please )?(?:can|could) you (?:please )?(?:tell|explain to|show) me\b[ ,]*|(?:i(?:'d| would) like|i "
    r"want) to know\b[ ,]*|do you know\b[ ,]*)?"
    r"(?:how (?:do|can|could|would|should|must) (?:i|we|you|one)|how to|(?:can|could|may|should|do|will|would|must) "
    r"(?:i|we|you|they)(?: (?:also|still|please))?"
    r"|is it possible to|am i allowed to|(?:i|we) (?:want|need|would like|wish|have|plan) to|(?:i|we)'d like to"
    r"|where (?:do|can) (?:i|we)|when (?:do|can|will) (?:i|we|you)"
    r"|what (?:do|should) i do (?:if|when)|what happens (?:if|when)|is there (?:a way to|any way to)|please|(?:can"
    r"|could) you(?: please)?"
    r"|tell me (?:more )?about|(?:i(?:'m| am)) interested in)\s+",
    re.IGNORECASE,
)
_TRAILING_QUESTION = re.compile(
    r"[,.;!?]?\s*(?:so |and )?(?:what|how) (?:should|can|do|must) (?:i|we) (?:do|proceed)(?: now| then)?\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase: where it stands, and what marks it."""

    start: int
    end: int
    preposition: str  # the one before it, or ""
    determiner: str  # or ""
    head: str  # its content words, without the determiner
    is_name: bool  # of a product, a plan, a place: it has a capital or a model number of its own

    @property
    def kind(self) -> str:
        return word_class(self.head)


# --- what a turn needs ---


def lean(text: str) -> Lean | None:
    """None when the turn can be understood alone, as far as rules can tell."""
    stripped = _CONNECTIVE.sub("", text).strip() or text.strip()
    connected = bool(_LEANING_CONNECTIVE.search(text[: len(text) - len(stripped)]))
    about = _WHAT_ABOUT.match(stripped)
    core = _COURTESY_END.sub("", stripped[about.end() :] if about else stripped)
    lowered = core.lower()
    if not lowered:
        return None
    if _BARE_QUESTION.fullmatch(lowered) and not about:
        return Lean(_bare_need(lowered), stripped)
    if (same := _SAME_FOR.fullmatch(core)) is not None and _is_fragment(same["of"]):
        return Lean("fragment", same["of"])
    pronoun = _anaphor(core)
    if pronoun is not None:
        if _is_fragment(core) and (connected or lowered.split()[0] in _PREPOSITIONS):
            return Lean("fragment", core, pronoun.span())
        return Lean(_pronoun_need(pronoun, lowered), core, pronoun.span(), is_sure=len(core.split()) < _MANY_WORDS)
    if about and _CASE.match(core) and not _YOURS.search(core) and len(lowered.split()) <= _MANY_WORDS:
        return Lean("fragment", f"if {core}", is_sure=False)
    if len(lowered.split()) <= 9 and _COMPARISON.search(lowered) and _lacks_things(_COMPARISON.sub(" ", core)):
        return Lean("thing", stripped)
    if about and not _OWN_MATTER.match(core) and not stands(core):
        return Lean("fragment", core)
    if len(lowered.split()) <= 8 and _is_fragment(core):
        if connected and not _OWN_MATTER.match(core):
            return Lean("fragment", core)
        if not connected and _is_elliptical(core, stripped):
            return Lean("facet", stripped) if is_facet(core) else Lean("fragment", core)
    if _ATTRIBUTE.fullmatch(lowered):
        return Lean("attribute", stripped, is_sure=connected)
    if _lacks_topic(core, stripped):
        return Lean("facet", stripped, is_sure=False)
    return None


def _lacks_topic(core: str, stripped: str) -> bool:
    """It names at most one thing, which any company may have or not, and nobody: "do I need a referral?"."""
    if not (stripped.endswith("?") or _asks(core)) or is_common_topic(core):
        return False
    found = phrases(core)
    if any(phrase.kind == "place" or (phrase.is_name and not phrase.kind) for phrase in found):
        return False
    named = [phrase for phrase in found if not is_facet(phrase.head) and phrase.kind not in ("time", "people")]
    if len(core.split()) > (_MOST_OPEN_WORDS if named else _MOST_EMPTY_WORDS):
        return False
    if not named and found and not _YOURS.search(core):
        return True  # "is there a deposit?"
    acts = any(_is_deed(word, found) for word in _VERB.finditer(core))
    return (
        not _OF_SOMEBODY.search(core)
        and not (named and acts)
        and len(named) <= 1
        and all(" " not in unmodified(phrase.head) for phrase in named)
    )


def _is_deed(found: re.Match[str], named: list[Phrase]) -> bool:
    """A verb that says what is done, to something: "deposit" in "can I deposit a check?", but not "need"."""
    word = found["verb"].lower()
    if any(phrase.start <= found.start("verb") < phrase.end for phrase in named) or _stem(word) in _LIGHT_VERBS:
        return False
    if word in _OTHER_FUNCTION_WORDS:
        return False
    return _stem(word) in _VERBS or (bool(found["by"]) and word not in _AUXILIARIES)


def _asks(core: str) -> bool:
    word = _WORD.match(core)
    return word is not None and word.group().lower() in _AUXILIARIES | _QUESTION_WORDS


def _is_elliptical(core: str, stripped: str) -> bool:
    """A fragment that answers to an earlier question even without "and": "for children?", "Germany?", "PayPal too?"."""
    words = core.lower().split()
    asks = stripped.endswith("?")
    if (
        asks
        and len(words) <= 3
        and not is_common_topic(core)
        and words[0] not in _DETERMINERS
        and len(words) == len(phrases(core)[0].head.split() if len(phrases(core)) == 1 else ())
    ):
        return True  # "advanced riders?"
    if asks and len(words) <= 2 and (is_contrast(core) or words[-1] in _ADVERBS or _ADJECTIVE.fullmatch(words[-1])):
        return True
    if words[0] in ("about", "as") or _REGARDING.match(core):
        return False
    if words[0] in _PREPOSITIONS or _CLAUSE_OPENER.match(core) or _ALSO.search(stripped):
        return True
    if words[0] in _DETERMINERS:
        return words[0] in ("the", "these", "those") and len(words) <= 4 and stripped.endswith("?")
    return bool(_MEASURE.fullmatch(core)) or (len(words) <= 2 and bool(word_class(core)))


def points_back(text: str, question: str, answer: str) -> Lean | None:
    """ "Where do I find that form?", where a form was spoken of."""
    found = _POINTER.search(text) or _introduced(text, question, answer)
    if found is None or len(text.split()) >= _MANY_WORDS + 2 or _has_antecedent(text, found):
        return None
    spoken_of = re.search(rf"\b{re.escape(found['noun'])}\b", f"{question} {answer}", re.IGNORECASE)
    return Lean("matter", _CONNECTIVE.sub("", text).strip()) if spoken_of else None


def _introduced(text: str, question: str, answer: str) -> re.Match[str] | None:
    """ "When does the technician come?", where our answer spoke of a technician and the customer did not."""
    if _OF_SOMEBODY.search(text) or any(phrase.is_name for phrase in phrases(text)):
        return None
    found = _DEFINITE.search(text)
    if found is None or re.search(rf"\b{re.escape(found['noun'])}", question, re.IGNORECASE):
        return None
    return found if re.search(rf"\b{re.escape(found['noun'])}\b", answer, re.IGNORECASE) else None


def names_anew(text: str, question: str) -> bool:
    """It says itself what the question before it was about."""
    before = {phrase.head.lower() for phrase in phrases(question)}
    return any(phrase.head.lower() in before and not is_facet(phrase.head) for phrase in phrases(text))


def _bare_need(lowered: str) -> Need:
    is_of_a_thing = re.match(
        r"how (?:much|big|heavy|old|fast|many)|which|what (?:size|colou?r|price|kind)|at what|more|tell|give|is it "
        r"free|for free",
        lowered,
    )
    return "thing" if is_of_a_thing else "matter"


def _pronoun_need(pronoun: re.Match[str], lowered: str) -> Need:
    word = pronoun.group().lower()
    if (
        pronoun.group("person") is not None
        or pronoun.group("such") is not None
        or pronoun.group("bare") is not None
        or word in ("that's",)
    ):
        return "matter"
    if re.search(r"\bone\b|\bones\b|there$|same|both|neither", word):
        return "thing"
    if re.fullmatch(
        r"(?:how long|when|how|why)\b.*\b(?:does|do|will|would|can|should) (?:it|they|i do it)\b.*\b(?:take|work"
        r"|happen|do it)",
        lowered,
    ):
        return "matter"
    return "pronoun"


def _anaphor(core: str) -> re.Match[str] | None:
    """The first pronoun whose antecedent is not in the turn itself."""
    expletives = [match.span() for match in _EXPLETIVE.finditer(core)]
    if _RECORD_NUMBER.search(core):
        return None
    for match in _ANAPHOR.finditer(core):
        if any(start <= match.start() < end for start, end in expletives):
            continue
        return None if _has_antecedent(core, match) else match
    return None


def _has_antecedent(core: str, pronoun: re.Match[str]) -> bool:
    before, word = core[: pronoun.start()], pronoun.group().lower()
    if word.startswith(("this ", "that ", "these ", "those ")) and _POINTED_AT.search(core):
        return True
    if len(core.split()) >= _MANY_WORDS and _is_statement(core) and phrases(core):
        return True  # who tells that much tells what it is about
    breaks = list(_CLAUSE_END.finditer(before))
    earlier = before[: breaks[-1].start()] if breaks else ""
    own_clause = before[breaks[-1].end() :] if breaks else before
    if any(phrase.kind not in ("place", "time", "people") for phrase in phrases(earlier)):
        return True
    if len(earlier.split()) >= 3 and (earlier.lower().startswith(("i ", "we ")) or re.search(r"[.?!]\s", before)):
        return True
    named = any(phrase.determiner or phrase.is_name for phrase in phrases(own_clause))
    if re.search(r"\bones?$", word):
        return bool(phrases(re.sub(r"\bhow \w+", "", before, flags=re.IGNORECASE)))
    if word in ("its", "their") or _HAS_ON.search(before):
        return named and len(own_clause.split()) >= 3
    return named and _is_statement(own_clause) and len(own_clause.split()) >= 3


def _is_statement(text: str) -> bool:
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    asks = not words or words[0] in _AUXILIARIES - _CONTRACTIONS or words[0] in _QUESTION_WORDS
    return not asks and not text.rstrip().endswith("?")


def stands(core: str) -> bool:
    """It has a subject and a verb of its own, and is no subordinate clause."""
    return not _CLAUSE_OPENER.match(core) and not _is_fragment(core)


def _is_fragment(core: str) -> bool:
    """No finite verb: "in Germany", "the Business plan", "returns"; or only a subordinate clause: "when I'm ill"."""
    if _CLAUSE_OPENER.match(core):
        return (
            "," not in core
            and len(core.split()) >= 2
            and core.lower().split()[1] not in _AUXILIARIES
            and not re.search(
                r"\b(?:can|will|do|does|should|must|what|how|where) (?:i|we|you|they|happens)\b", core.lower()
            )
        )
    words = [word.lower().replace("’", "'") for word in _WORD.findall(core) if word != "May"]
    if any(word in _AUXILIARIES or word in ("i", "we", "how", "where", "why", "who") for word in words):
        return False
    return words[0] not in _VERBS and words[0] not in ("what", "which", "please", "tell", "know", "let")


def _lacks_things(text: str) -> bool:
    return not phrases(text)


# --- what a question is about ---


def phrases(text: str) -> list[Phrase]:
    return list(_phrases(text))


def _phrases(text: str) -> Iterator[Phrase]:
    run: list[re.Match[str]] = []
    preposition, determiner, before = "", "", ""
    determiner_at = 0

    def finished() -> Iterator[Phrase]:
        while len(run) > 1 and _PARTICIPLE.fullmatch(run[-1].group()):
            run.pop()  # "get my cat vaccinated", "is my order cancelled"
        if run:
            start = determiner_at if determiner else run[0].start()
            head = text[run[0].start() : run[-1].end()]
            yield Phrase(start, run[-1].end(), preposition, determiner, head, _is_name(text, run))

    for token in _WORD.finditer(text):
        word = token.group().lower().replace("’", "'")
        if word in _DETERMINERS and not (word in ("that", "this") and run):
            yield from finished()
            run, determiner, determiner_at = [], word, token.start()
            before = word
            continue
        if not word[0].isalnum() or _ends_phrase(word, before, bool(run), bool(determiner)):
            yield from finished()
            run, determiner = [], ""
            preposition = word if word in _PREPOSITIONS else ""
            before = word
            continue
        run.append(token)
        before = word
    yield from finished()


def _is_name(text: str, run: list[re.Match[str]]) -> bool:
    for place, token in enumerate(run):
        word = token.group()
        begins = not text[: token.start()].strip() or text[: token.start()].rstrip()[-1] in ".!?:"
        if word[0].isdigit():
            named = place > 0 or (not word.isdigit() and word[-1].isalpha())  # "Pulse 3" and "3D", but not "3 days"
        else:
            named = any(char.isdigit() for char in word) or (
                any(char.isupper() for char in word)
                and not word.isupper()
                and (not begins or any(char.isupper() for char in word[1:]))
            )
        if named or (len(word) == 1 and word.isupper() and place > 0):  # "Orbit X"
            return True
    return False


def _ends_phrase(word: str, before: str, in_run: bool, determined: bool) -> bool:
    if word in _PREPOSITIONS or word in _AUXILIARIES or word in _SUBJECTS or word in _OTHER_FUNCTION_WORDS:
        return True
    if before in _SUBJECTS or (before in ("to", "not", "please", "also") and _stem(word) in _VERBS):
        return True
    if _stem(word) not in _VERBS:
        return False
    return in_run or not (determined or before in _PREPOSITIONS)


def _stem(word: str) -> str:
    """Of a verb's finite form, roughly: "includes", "stopped"."""
    for ending, instead in (("ies", "y"), ("es", ""), ("es", "e"), ("s", ""), ("ied", "y"), ("ed", ""), ("ed", "e")):
        if word.endswith(ending) and word[: -len(ending)] + instead in _VERBS:
            return word[: -len(ending)] + instead
    return word


def thing_of(question: str) -> str | None:
    """What the question is about, as it calls it: "the Business plan", "the battery of the Pulse 3"."""
    question = _asking_part(question)
    found = phrases(question)
    if not found:
        return None
    if all(phrase.preposition in ("near", "around") for phrase in found):
        return None  # only where, not what
    best = max(range(len(found)), key=lambda i: (_weight(found[i], question), -i))
    chosen = found[best]
    end = chosen.end
    if best + 1 < len(found) and found[best + 1].preposition in ("of", "for") and not found[best + 1].kind:
        following = found[best + 1]
        if question[end : following.start].strip().lower() in ("of", "for"):
            end = following.end
    return _determined(chosen, question[chosen.start : end], question)


def _asking_part(question: str) -> str:
    """Of a turn of several sentences the last one that asks and names something."""
    sentences = [part for part in re.split(r"(?<=[.!?])\s+", question.strip()) if phrases(part)]
    asking = [part for part in sentences if part.endswith("?")]
    return (asking or sentences or [question])[-1]


def _weight(phrase: Phrase, question: str) -> int:
    if phrase.kind in ("place", "time", "people"):
        return -2
    asked_for = bool(_ASKED_FOR.search(question[: phrase.start]))
    return (
        asked_for
        + 2 * phrase.is_name
        + bool(phrase.determiner and phrase.determiner != "your")
        - (phrase.preposition in ("with", "without") or "'s " in phrase.head)
        - 2 * bool(re.fullmatch(rf"(?:{_GENERIC_NOUNS}|users?|people|days?|kinds?|hours?)", phrase.head.lower()))
    )


def _determined(phrase: Phrase, text: str, question: str) -> str:
    if _BE_FIRST.match(question) and " " in phrase.head and not question[phrase.end :].strip(" ?.!"):
        text = text.rsplit(" ", 1)[0]  # "Is the Stella dishwasher quiet?": such a question ends with its predicate
    if phrase.determiner in ("a", "an", "this", "that"):
        return "the " + text[len(phrase.determiner) :].strip()
    return text


def is_named(thing: str) -> bool:
    return any(phrase.is_name for phrase in phrases(thing))


def matter_of(question: str) -> str:
    """What the question is about with what is done to it: "reset my router"."""
    text = _COURTESY_END.sub("", _CONNECTIVE.sub("", question).strip())
    text = _TRAILING_QUESTION.sub("", text)
    return _FRAME.sub("", text).strip(" ?.!,") or text


def with_thing(turn: str, span: tuple[int, int] | None, thing: str) -> str:
    """The turn with its pronoun resolved."""
    if span is None:
        return f"{thing}: {turn}"
    start, end = span
    pronoun = turn[start:end].lower().replace("’", "'")
    if pronoun.startswith("theirs") or re.search(r"\bones?\b|\bof\b|there$|same|both|neither", pronoun):
        return f"{thing}: {turn}"
    suffix = ""
    if pronoun in ("its", "their"):
        suffix = "'s"
    elif "'" in pronoun:
        suffix = " " + {"s": "is", "re": "are", "ll": "will", "d": "would", "ve": "have"}[pronoun.split("'")[1]]
    return f"{turn[:start]}{thing}{suffix}{turn[end:]}"


# --- an earlier question, asked of something else ---


def asked_of(question: str, fragment: str) -> str:
    """ "How much is shipping to France?" and "to Germany" make "How much is shipping to Germany?"."""
    question, fragment = question.strip(), fragment.strip(" ?.!,")
    body, end = question.rstrip(" ?.!"), "?" if not question.endswith((".", "!")) else ""
    if (turned := _turned(body, fragment)) is not None:
        return f"{turned}{end}"
    if _CLAUSE_OPENER.match(fragment) and not (_NOUN_AFTER.fullmatch(fragment) and phrases(fragment)):
        clause = _LAST_CLAUSE.match(body)
        if clause is not None:
            return f"{clause['before']}{fragment}{end}"
        return f"{body} {fragment}{end}"
    if (measured := _swapped_measure(body, fragment)) is not None:
        return f"{measured}{end}"
    if (old_one := contrasting(fragment, body)) is not None:
        return f"{body[: old_one.start()]}{fragment}{body[old_one.end() :]}{end}"
    if fragment.lower().split()[-1] in _ADVERBS or _ADJECTIVE.fullmatch(fragment) or is_contrast(fragment):
        return f"{body}, {fragment}{end}"
    if (old_word := _same_kind(body, fragment)) is not None:
        return f"{body[: old_word.start()]}{fragment}{body[old_word.end() :]}{end}"
    replacement = phrases(fragment)
    if not replacement:
        return f"{body}, {fragment}{end}"
    new = replacement[0]
    if new.preposition and fragment.lower().startswith(new.preposition):
        old = [each for each in phrases(body) if each.preposition and _exchangeable(each, new, by_preposition=True)]
        if not old:
            return f"{body} {fragment}{end}"
        place = body.rfind(old[-1].preposition, 0, old[-1].start)
        return f"{body[:place]}{fragment}{body[old[-1].end :]}{end}"
    found = phrases(body)
    for fits in (_shares_head, lambda a, b: bool(b.kind) and same_class(a.head, b.head), _looks_alike):
        old = [each for each in found if fits(each, new)]
        if old:
            target = max(old, key=lambda each: (bool(each.determiner) == bool(new.determiner), _weight(each, body)))
            if target.determiner and new.is_name and not new.determiner:
                fragment = f"{target.determiner} {fragment}"
            return f"{body[: target.start]}{fragment}{body[_model_end(body, target, new) :]}{end}"
    return f"{body}, {fragment}{end}"


def _same_kind(question: str, fragment: str) -> re.Match[str] | None:
    """The word that a single one of a class replaces: "Tuesday" in "is the Tuesday lunch vegetarian"."""
    if " " in fragment or not word_class(fragment):
        return None
    return next((word for word in _WORD.finditer(question) if same_class(word.group(), fragment)), None)


def _turned(question: str, fragment: str) -> str | None:
    """ "without a car" for "with a car"."""
    new = next(iter(phrases(fragment)), None)
    for old in phrases(question) if new is not None else ():
        if (
            new is not None
            and old.preposition
            and new.preposition
            and old.preposition != new.preposition
            and old.head.lower() == new.head.lower()
        ):
            place = question.rfind(old.preposition, 0, old.start)
            return f"{question[:place]}{new.preposition}{question[place + len(old.preposition) :]}"
    return None


def _swapped_measure(question: str, fragment: str) -> str | None:
    """ "10 kg" for "5 kg"."""
    new = re.fullmatch(
        r"(?:a |an |for |of |up to )?(?P<amount>\d[\d.,]*)\s?(?P<unit>[a-zA-Z%€$]+[²³]?(?: [a-z]+)?)", fragment
    )
    if new is None:
        return None
    old = re.search(rf"\b\d[\d.,]*\s?-?{re.escape(new['unit'].removesuffix('s'))}s?(?!\w)", question, re.IGNORECASE)
    return f"{question[: old.start()]}{new['amount']} {new['unit']}{question[old.end() :]}" if old else None


def _exchangeable(old: Phrase, new: Phrase, by_preposition: bool) -> bool:
    if old.kind or new.kind:
        return same_class(old.head, new.head)
    return not by_preposition or (
        old.preposition == new.preposition
        and (bool(old.determiner) == bool(new.determiner) or old.is_name == new.is_name)
    )


def _shares_head(old: Phrase, new: Phrase) -> bool:
    """ "Team plan" and "Business plan"; "Pulse 3" and "Pulse 5"."""
    first, second = old.head.lower().split(), new.head.lower().split()
    if second[-1] in first and len(second) > 1 and first != second:
        return True  # "the youth choir rehearse" holds "the youth choir"
    return first != second and (first[-1] == second[-1] or (old.is_name and new.is_name and first[0] == second[0]))


def _model_end(question: str, old: Phrase, new: Phrase) -> int:
    """Where the old name ends: "Orbit S" in "the Orbit S mop floors", when "Orbit X" stands in for it."""
    first, second = old.head.split(), new.head.split()
    if len(first) > 1 and _BE_FIRST.match(question) and not question[old.end :].strip():
        return old.end - len(first[-1]) - 1  # such a question ends with its predicate
    if len(second) > 1 and second[-1].lower() in map(str.lower, first[:-1]):
        kept = first[: [word.lower() for word in first].index(second[-1].lower()) + 1]
        return old.end - len(old.head) + len(" ".join(kept))
    if old.is_name and first[0].lower() == second[0].lower() and len(first) > len(second):
        return old.end - len(old.head) + len(" ".join(first[: len(second)]))
    return old.end


def _looks_alike(old: Phrase, new: Phrase) -> bool:
    """What belongs to something ("the start") does not stand for it, nor "a power supply" for "the van"."""
    if bool(old.kind) != bool(new.kind) or is_facet(new.head):
        return False
    return (old.is_name and new.is_name) or (
        (not old.is_name or bool(new.determiner)) and _determination(old) == _determination(new)
    )


def _determination(phrase: Phrase) -> str:
    return "" if not phrase.determiner else "a" if phrase.determiner in ("a", "an") else "the"
