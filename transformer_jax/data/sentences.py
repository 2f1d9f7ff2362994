"""Splitting of a text into sentences, and of a long sentence into parts. The pieces put together are the text.

Sentences are found by the library sentencex, which knows the abbreviations and the punctuation of about 300 languages.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections.abc import Iterator, Sequence

import sentencex

LINE_BREAK = re.compile(r"(?<=[\n\r\x0b\x0c\x85\u2028\u2029])(?=[^\n])")
"""The end of a line. A line break also ends a sentence, as in a list or after a title."""
ENUMERATOR = re.compile(r"\s*[(\[]?(?:\d{1,3}|[^\W\d_]|[ivx]{1,5}|[IVX]{1,5})[.)\]]+\s*")
"""The number or letter of a list item, such as "1." or "(b)", which sentencex takes for a sentence."""
NUMBER_AT_START, NUMBER_AT_END = re.compile(r"\s*(\d{1,3})\.\s"), re.compile(r"(?<=\s)(\d{1,3})\.\s+$")
BULLET = re.compile(r"[-–—*•‣◦▪·]+\s+")
JOINERS = "\u200d\ufe0f"
"""Characters that join or style emoji."""
CLAUSE_END = re.compile(r"[,;:–—]+[\"'”’»)\]]*(?=\s)|[，、；：،؛]+[」』）”]*")
LANGUAGES_WITHOUT_BLANKS = ("bo", "dz", "ja", "km", "lo", "my", "th", "wuu", "yue", "zh")
"""Languages that write no blank between sentences."""


def split_sentences(text: str, language: str) -> list[str]:
    """Split a text into sentences. Each one includes the white space that follows it.

    language: code of the text's language, such as ``de``. sentencex falls back to a similar language or to English.
    """
    stripped = text.lstrip()
    segments = [segment for line in LINE_BREAK.split(stripped) for segment in _segments(line, language)]
    first, *others = list(_join_enumerators(segments)) or [""]
    sentences = [text[: len(text) - len(stripped)] + first, *others]
    return [piece for sentence in sentences for piece in _split_off_symbols(sentence) if piece]


def _segments(line: str, language: str) -> list[str]:
    """Return the segments that sentencex finds in a line. White space at its end belongs to the last one."""
    stripped = line.rstrip()
    segments = list(sentencex.segment(language, stripped)) if stripped else [""]
    if "".join(segments) != stripped:  # No text may be lost, whatever the library does.
        segments = [stripped]
    return [*segments[:-1], segments[-1] + line[len(stripped) :]]


def _join_enumerators(segments: Sequence[str]) -> Iterator[str]:
    """Join each enumerator with the sentence that follows it, and white space with the sentence before it."""
    sentence = ""
    for segment in segments:
        if not sentence or not segment.strip() or ENUMERATOR.fullmatch(sentence):
            sentence += segment
            continue
        # In "1. Apples 2. Pears", sentencex splits after the "2."
        first, last = NUMBER_AT_START.match(sentence), NUMBER_AT_END.search(sentence)
        cut = last.start() if first and last and int(last[1]) == int(first[1]) + 1 else len(sentence)
        yield sentence[:cut]
        sentence = sentence[cut:] + segment
    if sentence:
        yield sentence


def _split_off_symbols(sentence: str) -> tuple[str, str, str]:
    """Return the emoji or the bullet before a sentence, the sentence, and the emoji after it.

    A model that has never seen a symbol would lose it, or invent words for it.
    """
    if not sentence.strip():
        return sentence, "", ""
    start, end = _count_symbols(sentence), len(sentence)
    if bullet := BULLET.match(sentence, start):
        start = bullet.end()
    if start < end and (symbols := _count_symbols(sentence[:start:-1])):
        end -= symbols
        end += len(sentence[end:]) - len(sentence[end:].lstrip())
    if not sentence[start:end].strip():
        return sentence, "", ""
    return sentence[:start], sentence[start:end], sentence[end:]


def _count_symbols(text: str) -> int:
    """Return the number of characters before the first one that is neither a symbol nor white space, or 0."""
    count = next((index for index, character in enumerate(text) if not _is_symbol(character)), len(text))
    return 0 if not text[:count].strip() else count


def _is_symbol(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("So", "Sk") or character in JOINERS


def split_long_sentence(text: str, spans: Sequence[tuple[int, int]], max_tokens: int) -> list[str]:
    """Split a sentence into parts of at most ``max_tokens`` tokens, in linear time.

    A part ends after a clause if one ends in its second half, otherwise between words if possible. A single character
    with more tokens is one part. Encoding a part anew may give a few tokens more.

    spans: the half-open character span of each token of the text.
    """
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
    return "" if re.split("[-_]", language.lower())[0] in LANGUAGES_WITHOUT_BLANKS else " "
