"""Question-answer pairs where a document holds them: behind `Q:` and `A:`, in columns of a table, as headings or lines
that ask, with what stands below. Pure.

A pair takes the place of the blocks that it is made of. Its text is question and answer, so it is found as a passage,
too, and nothing is found twice. Only what is surely a question with its whole answer becomes a pair, because customers
are given it word for word; all else stays prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingestion.document import Block, running_text
from ingestion.language import width
from ingestion.questions import MAX_QUESTION_WIDTH, asks, is_whole, simpler, stands_alone, strip_numbering

# A longer answer without marks is an article: better to answer from the part of it that was asked for.
_MAX_ANSWER_WIDTH = 2400.0
_MAX_QUESTION_BLOCKS = 3  # up to the answer's mark

# --- columns ---

# Whole names of columns, without blanks, numbers and what stands in brackets.
_QUESTION_COLUMN = re.compile(
    r"""(?: customer | user | frequentlyasked | frequent | common | standard | main )? (?: questions? | quer(?:y|ies) )
      | q | faqs?
      | (?: 常见 | 用户 | 客户 | 顾客 | 标准 | 主 | 咨询 )? 问题 (?: 描述 | 内容 )? | 标准问法?
      | 问 | 提问 | 问句 | 疑问""",
    re.VERBOSE,
)
_ANSWER_COLUMN = re.compile(
    r"""(?: standard | official | suggested )? (?: answers? | repl(?:y|ies) | responses? | solutions? ) | a
      | (?: 标准 | 参考 | 官方 | 最佳 )? (?: 答案 | 回答 | 答复 | 解答 | 回复 ) (?: 内容 )? | 答
      | (?: 解决 | 处理 ) (?: 方案 | 方法 | 办法 )""",
    re.VERBOSE,
)

_SUBJECT_COLUMN = re.compile(r"(?:product|model|item|device)(?:name)?|(?:适用)?(?:产品|商品|型号|机型|设备)(?:名称)?")


def subject_column(header: Sequence[str]) -> int | None:
    """Of what a row is about: "How long is the warranty?" means nothing without it."""
    return next((at for at, cell in enumerate(header) if _SUBJECT_COLUMN.fullmatch(_column_name(cell))), None)


def is_question_column(name: str) -> bool:
    return bool(_QUESTION_COLUMN.fullmatch(_column_name(name)))


def is_answer_column(name: str) -> bool:
    return bool(_ANSWER_COLUMN.fullmatch(_column_name(name)))


def pair_columns(header: Sequence[str]) -> list[tuple[int, int]]:
    """Columns of questions with those of their answers; of several (one a language) the first belong together."""
    questions = [position for position, cell in enumerate(header) if is_question_column(cell)]
    answers = [position for position, cell in enumerate(header) if is_answer_column(cell)]
    return list(zip(questions, answers, strict=False))


def _column_name(cell: str) -> str:
    """ "Question (EN)", "*问题" and "1. Question:" are called "question", "问题" and "question"."""
    name = re.sub(r"[(（\[【].*?[)）\]】]", "", strip_numbering(simpler(cell.strip().lower())))
    name = re.sub(r"[\s_*:：/#.、-]+", " ", name).strip()
    name = re.sub(r" (en|zh|cn|english|chinese|中文|英文)$|^(中文|英文)(?=.)", "", name)
    return re.sub(r"[\s\d]+", "", name)


# --- marks ---

_ORDINAL = r"\s?(?:no\.?\s?)?(?:\d{1,3}|[一二三四五六七八九十]{1,3})?"
_WORDS = {
    "Q": "q|question|问题|问|提问|疑问",
    "A": "a|answer|solution|答案|答|回答|解答|答复|回复|解决(?:方法|方案|办法)|处理(?:方法|办法)",
}


def _mark(letter: str) -> str:
    """ "Q:", "Q1.", "Question 2:", "【问】", "问题一：", with the number or bullet of a list before it."""
    word = rf"(?:{_WORDS[letter]}){_ORDINAL}\s?"
    return (
        r"(?:[-•]\s)?(?:\d{1,3}[.、)）]\s?)?"
        rf"(?:[\[【(（]\s?{word}[\]】)）]\s?[:：]?|{word}[:：]|(?-i:{letter}\s?\d{{1,3}}[.、)）．]|{letter}[.．](?=\s)))\s*"
    )


_MARKS = {
    "Q": re.compile(rf"(?:{_mark('Q')}|(?-i:Q)\d{{1,3}}\s+)(?=\S)", re.IGNORECASE),
    "A": re.compile(_mark("A"), re.IGNORECASE),
}
_NUMBERED_ANSWER = re.compile(r"A(\d{1,3})\s+")  # "A4 paper" is one only behind "Q4"
# Within a line: behind a sentence, or behind a blank.
_INLINE_MARK = re.compile(
    rf"(?<=[?？.。!！)）”\"])\s*(?=(?:{_WORDS['Q']}|{_WORDS['A']}){_ORDINAL}\s?[:：])"
    rf"|(?<=\s)(?=(?-i:A|答){_ORDINAL}[:：])",
    re.IGNORECASE,
)


def is_marked(line: str) -> bool:
    """Whether a line begins a question or an answer: the lines of a PDF's paragraph are joined up to there."""
    return _mark_end(line) > 0


def _mark_end(line: str) -> int:
    found = next((found for mark in _MARKS.values() if (found := mark.match(simpler(line)))), None)
    return found.end() if found else 0


def _parts(line: str) -> Iterator[str]:
    """A line that begins with a mark, cut where another one stands in it; any other line as it is."""
    begin = _mark_end(line)
    cuts = [found.end() for found in _INLINE_MARK.finditer(simpler(line)) if found.start() > begin] if begin else []
    for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
        yield line[start:end]


@dataclass(frozen=True, slots=True)
class _Unit:
    """A block, or the part of one from a mark to the next."""

    block: Block
    mark: str = ""  # "Q", "A" or none
    text: str = ""  # behind the mark

    def unmarked(self) -> Block:
        return replace(self.block, kind="text" if self.block.kind == "heading" else self.block.kind, text=self.text)


def _units(block: Block) -> list[_Unit]:
    if block.kind in ("row", "pair"):
        return [_Unit(block, "", block.text)]
    parts: list[list[str]] = []  # each of lines
    for line in block.text.split("\n"):
        for part in _parts(line.strip()):
            if parts and not is_marked(part):
                parts[-1].append(part)
            else:
                parts.append([part])
    return [_unit(replace(block, text="\n".join(lines).strip())) for lines in parts]


def _unit(block: Block) -> _Unit:
    for mark, pattern in _MARKS.items():
        if found := pattern.match(simpler(block.text)):
            return _Unit(block, mark, block.text[found.end() :].strip())
    return _Unit(block, "", block.text)


# --- blocks to blocks with pairs ---


def find_pairs(blocks: Sequence[Block]) -> list[Block]:
    """The blocks with pairs in place of those that they are made of."""
    with_pairs = _question_lines(_heading_questions(_marked_questions(blocks)))
    seen: set[tuple[str, str]] = set()
    return [block for block in with_pairs if block.kind != "pair" or _is_new((block.question, block.text), seen)]


def _is_new(key: tuple[str, str], seen: set[tuple[str, str]]) -> bool:
    return key not in seen and not seen.add(key)  # type: ignore[func-returns-value]


def pair_block(question: str, answer: str, place: Block) -> Block:
    """In place of a heading it has the heading's level, which says what is above it."""
    level = place.level if place.kind == "heading" else 0
    return Block("pair", answer, level, place.page, " ".join(question.split()))


def _marked_questions(blocks: Sequence[Block]) -> list[Block]:
    units = [unit for block in blocks for unit in _units(block)]
    found: list[Block] = []
    position = 0
    while position < len(units):
        pair, end = _marked_pair(units, position)
        found.append(pair or units[position].block)
        position = end if pair else position + 1
    return found


def _marked_pair(units: Sequence[_Unit], start: int) -> tuple[Block | None, int]:
    """The pair that begins here, and where it ends: at the next question or heading."""
    asked = units[start]
    if asked.mark != "Q":
        return None, start
    following = range(start + 1, len(units))
    end = next((at for at in following if units[at].mark == "Q" or _ends(units[at].block, asked.block)), len(units))
    first = next((at for at in range(start + 1, end) if units[at].mark), None)
    said: list[Block] = []
    if first is not None and first - start <= _MAX_QUESTION_BLOCKS:
        question = " ".join(unit.text for unit in units[start:first])
    else:
        question, _, rest = asked.text.partition("\n")
        if not asks(question):
            return None, start
        first = start + 1
        said = [Block("text", rest)] if rest else []
    said += [unit.unmarked() for unit in units[first:end]]
    answer = _without_number(running_text(said), asked.block.text)
    if not question or width(question) > MAX_QUESTION_WIDTH or not is_whole(answer):
        return None, start
    return pair_block(question, answer, asked.block), end


def _ends(block: Block, asked: Block) -> bool:
    """A heading ends an answer, unless it is one within the answer to a heading."""
    if asked.kind == "heading":
        return block.kind in ("heading", "pair") and block.level <= asked.level
    return block.kind in ("heading", "pair")


def _without_number(answer: str, marked_question: str) -> str:
    found = _NUMBERED_ANSWER.match(answer)
    return answer[found.end() :] if found and re.match(rf"Q\s?{found[1]}\b", marked_question) else answer


def _heading_questions(blocks: Sequence[Block]) -> list[Block]:
    found: list[Block] = []
    position = 0
    while position < len(blocks):
        heading = blocks[position]
        position += 1
        found.append(heading)
        if heading.kind != "heading":
            continue
        end = next((at for at in range(position, len(blocks)) if blocks[at].kind in ("heading", "pair")), len(blocks))
        # With headings or pairs of its own it is a chapter, and what stands before them is not the answer.
        is_chapter = end < len(blocks) and (blocks[end].level > heading.level or not blocks[end].level)
        if not is_chapter and (pair := _asked_alone(heading.text, blocks[position:end], heading)):
            found[-1] = pair
            position = end
    return found


def _asked_alone(line: str, answer: Sequence[Block], place: Block) -> Block | None:
    """A pair of a question without a mark and what stands below, if the one is a question and the other its answer."""
    question, text = strip_numbering(line), running_text(answer)
    if not asks(question) or not stands_alone(question) or text.endswith(("?", "？")):
        return None
    return pair_block(question, text, place) if is_whole(text) and width(text) <= _MAX_ANSWER_WIDTH else None


def _question_lines(blocks: Sequence[Block]) -> list[Block]:
    """Lines that ask, with what stands between them: where there are two at least, for one may be rhetoric."""
    candidates = dict(_answered_lines(blocks))
    if len(candidates) < 2:
        return list(blocks)
    found: list[Block] = []
    position = 0
    while position < len(blocks):
        pair, end = candidates.get(position, (blocks[position], position + 1))
        found.append(pair)
        position = end
    return found


def _answered_lines(blocks: Sequence[Block]) -> Iterator[tuple[int, tuple[Block, int]]]:
    """(position, (pair, end)). Questions one after another are a table of contents, to the last of them."""
    is_listed = False
    for position, block in enumerate(blocks):
        line, rest = _asking_line(block)
        if not line:
            is_listed = is_listed and block.kind in ("text", "item")
            continue
        end = position + 1
        while end < len(blocks) and blocks[end].kind in ("text", "item", "row") and not _asking_line(blocks[end])[0]:
            end += 1
        answer = [*([Block("text", rest)] if rest else []), *blocks[position + 1 : end]]
        if answer and not is_listed and (pair := _asked_alone(line, answer, replace(block, kind="text"))):
            yield position, (pair, end)
        is_listed = not answer


def _asking_line(block: Block) -> tuple[str, str]:
    line, _, rest = block.text.partition("\n")
    is_asking = block.kind in ("text", "item") and line.rstrip().endswith(("?", "？")) and asks(line)
    return (line.strip(), rest) if is_asking else ("", "")
