"""Splitting of a text into sentences, and of a long sentence into parts. The pieces put together are the text.

Sentences are found by the library sentencex, which knows the abbreviations and the punctuation of about 300 languages.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import re
import unicodedata
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Sequence
from typing import Literal, Protocol, runtime_checkable

import sentencex

from transformer_jax.data.languages import find_language

SplitSentences = Literal["auto", "always", "never"]
"""Whether to split texts into sentences: see ``text_statistics.needs_splitting``."""
LINE_BREAK = re.compile(r"(?<=[\n\r\x0b\x0c\x85\u2028\u2029])(?=[^\n])")
"""The end of a line. A line break also ends a sentence, as in a list or after a title."""
ENUMERATOR = re.compile(r"\s*[(\[]?(?:\d{1,3}|[^\W\d_]|[ivx]{1,5}|[IVX]{1,5})[.)\]]+\s*")
"""The number or letter of a list item, such as "1." or "(b)", which sentencex takes for a sentence."""
NUMBER_AT_START, NUMBER_AT_END = re.compile(r"\s*(\d{1,3})\.\s"), re.compile(r"(?<=\s)(\d{1,3})\.\s+$")
QUOTE = re.compile(r"[\"“”„‟«»‹›「」『』()\[\]{}]")
SENTENCE_MARKS = tuple(".!?…。！？؟")
QUOTED_SENTENCE = re.compile(r"[\"“„‟«»‹›「『(\[{][^\n]*[.!?…。！？؟][)\]}]*(?:\s|(?<=[。！？])\S)")
"""The beginning of a quotation, and a sentence that ends in it or after it."""
LAST_WORD = re.compile(r"(?<!\S)([^\W\d_]+)\.\s+")
"""A word with a full stop, followed by white space."""
BULLETS = "-–—*•‣◦▪·"
BULLET = re.compile(rf"[{BULLETS}]+\s+")
WORD = re.compile(r"(\S+)\s*")
JOINERS = "\u200d\ufe0f"
"""Characters that join or style emoji."""
# Without the lookbehind, a run of commas would be searched again from each of them.
CLAUSE_END = re.compile(r"(?<![,;:–—])[,;:–—]+[\"'”’»)\]]*(?=\s)|[，、；：،؛]+[」』）”]*")
SCRIPTS_WITHOUT_BLANKS = (
    *("Bopo", "Hani", "Hans", "Hant", "Hira", "Hrkt", "Jpan", "Kana"),
    *("Khmr", "Laoo", "Mymr", "Thai", "Tibt"),
)
"""ISO 15924 codes of the scripts that write no blank between sentences."""
SENTENCE_WINDOW = 4096
"""Number of characters that sentencex splits at once. Its time is quadratic, for example for unclosed quotes."""
TOKEN_WINDOW = 16384
"""Number of characters of a long sentence that are encoded at once, which limits the memory for spans."""

Spans = Sequence[tuple[int, int]]
"""The half-open character span of each token of a text."""


@runtime_checkable
class Characters(Container[str], Hashable, Protocol):
    """A set of characters."""


def split_sentences(
    text: str, language: str, known: Characters | None = None, sentence_ends: Container[str] = ()
) -> list[str]:
    """Split a text into sentences, in linear time. Each one includes the white space that follows it.

    language: the text's language, see ``languages.py``. sentencex falls back to a similar language or to English.
    known: the characters that the model can read, or None for all. Others at the ends of a sentence are split off.
    sentence_ends: words that end a sentence although sentencex takes them for abbreviations, such as "me" (Maine).
    """
    stripped = text.lstrip()
    segments = [
        piece
        for line in LINE_BREAK.split(stripped)
        for segment in _segments(line, language)
        for quoted in _split_inside_quotes(segment, language)
        for piece in (_split_after(sentence_ends, quoted) if sentence_ends else [quoted])
    ]
    first, *others = list(_join_enumerators(_join_white_space(segments))) or [""]
    sentences = [text[: len(text) - len(stripped)] + first, *others]
    return [piece for sentence in sentences for piece in _split_off_symbols(sentence, known) if piece]


def _segments(line: str, language: str) -> list[str]:
    """Return the segments that sentencex finds in a line. White space at its end belongs to the last one."""
    text = line.rstrip()
    if len(text) <= SENTENCE_WINDOW:
        segments = _segments_of_window(text, language)
        return [*segments[:-1], segments[-1] + line[len(text) :]]
    ends, begin = [], 0
    while begin < len(text):
        window = text[begin : begin + SENTENCE_WINDOW]
        # The last segment ends with the window, not with a sentence.
        found = list(itertools.accumulate(map(len, _segments_of_window(window, language)[:-1]), initial=begin))[1:]
        if begin + len(window) < len(text):
            # What follows a boundary decides about it, so boundaries near the end of the window are found anew.
            found = [end for end in found if end <= begin + SENTENCE_WINDOW * 3 // 4] or found[:1]
        ends += found
        begin = found[-1] if found and begin + len(window) < len(text) else begin + len(window)
    return [line[begin:end] for begin, end in itertools.pairwise([0, *ends, len(line)])]


def _split_inside_quotes(segment: str, language: str) -> list[str]:
    """Split a segment after the sentences inside a quotation or brackets, which sentencex keeps together."""
    if len(segment) > SENTENCE_WINDOW or not QUOTED_SENTENCE.search(segment):
        return [segment]

    def starts_sentence(rest: str) -> bool:
        first = QUOTE.sub("", rest).lstrip()[:1]
        return first != "" and not first.islower()

    lengths = map(len, _segments_of_window(QUOTE.sub(" ", segment).rstrip(), language))
    ends = [
        end
        for end in itertools.accumulate(lengths)
        # '"What?" Tom asked.' is one sentence, but "(What?) Tom asked." is two.
        if segment[:end].rstrip().rstrip(")]}")[-1:] in SENTENCE_MARKS and starts_sentence(segment[end:])
    ]
    cuts = [0, *ends, len(segment)]
    return [segment[begin:end] for begin, end in itertools.pairwise(cuts)]


def _split_after(words: Container[str], segment: str) -> list[str]:
    """Split a segment after each of the words that is followed by a full stop and a capital letter."""
    ends = [
        match.end()
        for match in LAST_WORD.finditer(segment)
        if match[1] in words and segment[match.end() : match.end() + 1].isupper()
    ]
    return [segment[begin:end] for begin, end in itertools.pairwise([0, *ends, len(segment)])]


def is_abbreviation(word: str, language: str) -> bool:
    """Return whether sentencex takes a word with a full stop for an abbreviation, which does not end a sentence."""
    return len(_segments_of_window(f"x {word}. Xxx xxx.", language)) == 1


def _segments_of_window(window: str, language: str) -> list[str]:
    segments = list(sentencex.segment(find_language(language).code, window)) if window else []
    # No text may be lost, whatever the library does.
    return segments if segments and "".join(segments) == window else [window]


def _join_white_space(segments: Sequence[str]) -> Iterator[str]:
    """Join white space with the sentence before it."""
    pieces: list[str] = []  # Adding millions of line breaks to a string one by one may take quadratic time.
    for segment in segments:
        if pieces and segment.strip():
            yield "".join(pieces)
            pieces = []
        pieces.append(segment)
    yield "".join(pieces)


def _join_enumerators(segments: Iterable[str]) -> Iterator[str]:
    """Join each enumerator with the sentence that follows it."""
    sentence = ""
    for segment in segments:
        if not sentence or ENUMERATOR.fullmatch(sentence):
            sentence += segment
            continue
        # In "1. Apples 2. Pears", sentencex splits after the "2."
        first = NUMBER_AT_START.match(sentence)
        last = NUMBER_AT_END.search(sentence) if first else None
        cut = last.start() if first and last and int(last[1]) == int(first[1]) + 1 else len(sentence)
        yield sentence[:cut]
        sentence = sentence[cut:] + segment
    if sentence:
        yield sentence


def _split_off_symbols(sentence: str, known: Characters | None) -> tuple[str, str, str]:
    """Return the symbols or the bullet before a sentence, the sentence, and the symbols after it.

    A model that has never seen a symbol would lose it, or invent words for it.
    """
    before, inner, after = _split_at_edges(sentence, known)
    if known is None or not (before or after):
        return before, inner, after
    # A quote inside belongs to the one at the edge, so both stay.
    has_unknown = any(_is_unknown_punctuation(character, known) for character in inner)
    return _split_at_edges(sentence, None) if has_unknown else (before, inner, after)


def _split_at_edges(sentence: str, known: Characters | None) -> tuple[str, str, str]:
    text = sentence.strip()
    if not text:
        return sentence, "", ""
    start, end = _count_symbols(sentence, known), len(sentence)
    enumerator = ENUMERATOR.match(sentence, start)
    if bullet := BULLET.match(sentence, start):
        start = bullet.end()
    elif known is not None and enumerator and not any(mark.isalnum() and mark in known for mark in enumerator[0]):
        start = enumerator.end()
    if start < end and (symbols := _count_symbols(sentence[:start:-1], known)):
        end -= symbols
        end += len(sentence[end:]) - len(sentence[end:].lstrip())
    if not sentence[start:end].strip():
        return sentence, "", ""
    return sentence[:start], sentence[start:end], sentence[end:]


def _count_symbols(text: str, known: Characters | None) -> int:
    """Return the number of characters before the first one that is neither a symbol nor white space.

    A word of punctuation marks, such as ``:-)``, is a symbol if the model cannot read it completely. Return 0 if the
    characters are all white space.
    """
    count = 0
    for match in WORD.finditer(text):
        word = match[1]
        symbols = next((index for index, mark in enumerate(word) if not _is_symbol(mark, known)), len(word))
        if symbols < len(word) and known is not None and not any(map(str.isalnum, word)):
            # Without its question mark, a question would become a statement.
            is_readable = all(mark in known for mark in word) or any(mark in known for mark in word if mark in ".?!")
            symbols = symbols if is_readable else len(word)
        count = match.end() if symbols == len(word) else match.start(1) + symbols if symbols else count
        if symbols < len(word):
            break
    return count


@functools.lru_cache(4096)
def _is_symbol(character: str, known: Characters | None) -> bool:
    """Return whether a character is an emoji, or a punctuation mark or symbol that the model cannot read."""
    return (
        unicodedata.category(character) in ("So", "Sk")
        or character in JOINERS
        or (known is not None and _is_unknown_punctuation(character, known))
    )


@functools.lru_cache(4096)
def _is_unknown_punctuation(character: str, known: Characters) -> bool:
    return unicodedata.category(character)[0] in "PS" and character not in known


def split_long_sentence(text: str, find_spans: Callable[[str], Spans], max_tokens: int) -> list[str]:
    """Split a sentence into parts of at most ``max_tokens`` tokens, in linear time.

    A part ends after a clause if one ends in its second half, otherwise between words if possible. A single character
    with more tokens is one part. Encoding a part anew may give a few tokens more.

    find_spans: returns the spans of the tokens of a text.
    """

    @functools.lru_cache(8)  # The windows of a repetitive text are equal.
    def split_window(window: str) -> list[str]:
        return _split_tokens(window, find_spans(window), max_tokens)

    parts: list[str] = []
    begin, size = 0, TOKEN_WINDOW
    while begin + size < len(text):
        # The last part may continue after the window.
        complete = split_window(text[begin : begin + size])[:-1]
        parts += complete
        begin += sum(map(len, complete))
        size = TOKEN_WINDOW if complete else 2 * size
    return parts + split_window(text[begin:])


def _split_tokens(text: str, spans: Spans, max_tokens: int) -> list[str]:
    """Return the parts of ``split_long_sentence`` for a text with these spans."""
    starts = [start for start, _ in spans]
    clause_ends = [match.end() for match in CLAUSE_END.finditer(text)]
    word_ends = [match.start() for match in re.finditer(r"\s+", text)]
    parts, token, begin = [], 0, 0
    while len(starts) - token > max_tokens:
        limit = starts[token + max_tokens]
        end = (
            _last_between(clause_ends, (begin + limit) // 2, limit)
            or _last_between(word_ends, begin, limit)
            or max(limit, begin + 1)
        )
        parts.append(text[begin:end])
        token, begin = bisect.bisect_left(starts, end, token + 1), end
    return [*parts, text[begin:]] if begin < len(text) else parts


def _last_between(positions: Sequence[int], low: int, high: int) -> int | None:
    """Return the last of the sorted positions that is above ``low`` and at most ``high``."""
    index = bisect.bisect_right(positions, high) - 1
    return positions[index] if index >= 0 and positions[index] > low else None


def sentence_blank(language: str) -> str:
    """Return the white space between two sentences of a language: a blank, or nothing."""
    return "" if find_language(language).script in SCRIPTS_WITHOUT_BLANKS else " "
