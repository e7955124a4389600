"""BM25 over chunks, by tantivy. Texts are cut beforehand: into stemmed words, Chinese into characters and their pairs.

Several indexes searched as one: each by its own count takes a word for rare or common, so `shared_weights` says how far
that is from the truth of all of them together.
"""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tantivy

from ingestion.language import CJK

_WORDS = "words"  # the field
# "2.5" and "bank's" are one word, "out-of-network" is three: customers write it either way.
_TOKEN = re.compile(r"[^\W_]+(?:[.'][^\W_]+)*")
_RUN = re.compile(f"[{CJK}]+|[^{CJK}]+")
_CJK = re.compile(f"[{CJK}]")
# Of questions only: "How do I …" would find whatever else is asked that way.
_STOP_WORDS = frozenset(
    (  # noqa: SIM905
        "a about am an and any are as at be been but by can could did do does for from get had has have hi hello how i "
        "if in into is it its just me my of on or our please shall should so than that the their them then there they "
        "this to want was we were what when where which who why will with would you your he her him his she "
        "i'm i'd i've it's what's "
        "的 了 吗 呢 吧 啊 我 你 您 我们 你们 是 在 有 和 与 就 都 也 还 要 想 请 请问 怎 么 怎么 怎样 如何 什 什么 "
        "为什 哪 哪些 哪里 能 可以 会 这 那 个 一下 多少"
    ).split()
)
# Of one Chinese character against a pair: it finds what is said in other words (保修, 延保), and much besides.
_CHARACTER_WEIGHT = 0.5
_MAX_QUERY_TERMS = 96  # of a pasted page only the beginning is searched for: some 50 Chinese characters
_K1 = 1.2  # of tantivy's BM25: a term that is said again and again comes to (_K1 + 1) times its idf
# At most, before another segment is begun: one is searched 1.5 times as fast as seven. 200,000 chunks take 0.2 GB.
_WRITER_BYTES = 2_000_000_000


def tokens(text: str) -> list[str]:
    """Lower-case words; Latin ones stemmed (Snowball English), Chinese ones as characters and pairs of neighbours."""
    return _stemmed(_words(text))


def query_terms(text: str) -> list[str]:
    """The words worth searching for, each once; all of them if the text has no others."""
    words = _words(text)
    terms = dict.fromkeys(_stemmed([word for word in words if word not in _STOP_WORDS] or words))
    return list(terms)[:_MAX_QUERY_TERMS]


def _words(text: str) -> list[str]:
    found: list[str] = []
    for token in _TOKEN.findall(unicodedata.normalize("NFKC", text).lower().replace("’", "'")):
        for run in _RUN.findall(token):
            if _CJK.match(run):
                found.extend((*run, *(run[i : i + 2] for i in range(len(run) - 1))))
            else:
                found.append(run.strip(".'"))
    return found


def _stemmed(words: list[str]) -> list[str]:
    return list(_stemmer().analyze(" ".join(words)))  # leaves other scripts as they are


class LexicalIndex:
    """Row numbers by BM25. Opened read-only; searches are thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._index = tantivy.Index.open(str(folder))
        self._index.config_reader(reload_policy="manual", num_warmers=0)  # no thread that watches for changes
        self._searcher = self._index.searcher()

    @property
    def doc_count(self) -> int:
        return int(self._searcher.num_docs)

    def doc_freq(self, term: str) -> int:
        """Rows that hold the term; a term is one of `query_terms`."""
        return int(self._searcher.doc_freq(_WORDS, term))

    def search(self, text: str, top_k: int, weights: Mapping[str, float] | None = None) -> list[tuple[int, float]]:
        """(row, BM25 score), best first. weights: of the text's terms, where they are not to count alike (1.0)."""
        shared = weights or {}
        terms = [self._term(term, term_weight(term) * shared.get(term, 1.0)) for term in query_terms(text)]
        if not terms:
            return []
        hits = self._searcher.search(tantivy.Query.boolean_query(terms), top_k, count=False).hits
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        return [(int(row), float(score)) for row, (score, _) in zip(rows, hits, strict=True)]

    def _term(self, term: str, weight: float) -> tuple[Any, Any]:
        query = tantivy.Query.term_query(self._index.schema, _WORDS, term)
        return tantivy.Occur.Should, query if weight == 1.0 else tantivy.Query.boost_query(query, weight)


def term_weight(term: str) -> float:
    """How much a term counts against others that are as rare."""
    return _CHARACTER_WEIGHT if len(term) == 1 and _CJK.match(term) else 1.0


def best_score(indexes: Sequence[LexicalIndex], text: str) -> float:
    """What a row would score that is full of every term of the text, also of those that no row has; 0 without terms.

    A score divided by it says how much of what was asked for was found, 0-1, whatever was asked for.
    """
    total = sum(index.doc_count for index in indexes)
    return (_K1 + 1) * sum(
        term_weight(term) * idf(total, sum(index.doc_freq(term) for index in indexes)) for term in query_terms(text)
    )


def shared_weights(indexes: Sequence[LexicalIndex], text: str) -> list[dict[str, float]]:
    """For each index the weights with which `LexicalIndex.search` gives scores that compare with the others'.

    Only the rarity of terms is shared: each index still takes the length of a text by its own average.
    """
    terms = query_terms(text)
    counts = [index.doc_count for index in indexes]
    return idf_weights(counts, [{term: index.doc_freq(term) for term in terms} for index in indexes])


def idf_weights(doc_counts: Sequence[int], doc_freqs: Sequence[Mapping[str, int]]) -> list[dict[str, float]]:
    """For each index, of each term: its idf in all indexes together, divided by its idf in this one.

    doc_counts: rows of each index. doc_freqs: rows of each index that hold the term; every index knows every term.
    """
    total = sum(doc_counts)
    terms = doc_freqs[0] if doc_freqs else {}
    shared = {term: idf(total, sum(freqs[term] for freqs in doc_freqs)) for term in terms}
    return [
        {term: shared[term] / idf(count, freqs[term]) for term in terms}
        for count, freqs in zip(doc_counts, doc_freqs, strict=True)
    ]


def idf(doc_count: int, doc_freq: int) -> float:
    """How rare a term is, as tantivy's BM25 has it; above 0."""
    return math.log(1 + (doc_count - doc_freq + 0.5) / (doc_freq + 0.5))


def searchable_text(title: str, heading_path: Sequence[str], text: str) -> str:
    """What a chunk is found by. Its title counts twice: it tells siblings apart, whose texts say nearly the same."""
    return " ".join((title, title, *heading_path, text))


def build_lexical_index(folder: Path, texts: Iterable[str]) -> None:
    """Row n is the n-th text."""
    folder.mkdir(parents=True)
    schema = tantivy.SchemaBuilder()
    schema.add_text_field(_WORDS, stored=False, tokenizer_name="whitespace", index_option="freq")
    schema.add_integer_field("row", stored=False, indexed=False, fast=True)
    index = tantivy.Index(schema.build(), path=str(folder))
    writer = index.writer(heap_size=_WRITER_BYTES, num_threads=1)
    for row, text in enumerate(texts):
        writer.add_document(tantivy.Document(words=[" ".join(tokens(text))], row=row))
    writer.commit()
    writer.wait_merging_threads()


_PER_THREAD = threading.local()


def _stemmer() -> Any:
    """One a thread: an analyzer refuses two callers at once."""
    if not hasattr(_PER_THREAD, "stemmer"):
        builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace())
        _PER_THREAD.stemmer = builder.filter(tantivy.Filter.stemmer("english")).build()
    return _PER_THREAD.stemmer
