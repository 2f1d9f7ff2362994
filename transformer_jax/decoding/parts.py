"""The parts in which a text is translated: its sentences, and pieces of sentences that are too long for the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from transformer_jax.data.learned_text import LearnedText
from transformer_jax.data.sentences import split_long_sentence, split_sentences
from transformer_jax.data.tokenizers import Tokenizer, refuse_surrogates
from transformer_jax.errors import InputError

LANGUAGE_CODE = re.compile(r"\s*(>>\S+<<)\s*")
"""The target language at the start of a text for a multilingual imported model. Every part needs it."""
LONG_TEXT = 16384
"""Number of characters from which a text is not encoded as a whole if its beginning already has too many tokens."""
ENCODED_AT_ONCE = 4096
"""Number of texts that are encoded at once. The library needs more than 100 bytes per token."""


class Part(NamedTuple):
    """A part of a text.

    text: the part without surrounding white space, after the language code if the text has one.
    blank: the white space between this part and the next one.
    ids: the ids of the text without special tokens; empty for a part without letters and digits that the model can
        read, which is not translated.
    is_cut: whether the part is a piece of a sentence that is too long.
    """

    text: str
    blank: str
    ids: tuple[int, ...] = ()
    is_cut: bool = False


def list_texts(texts: Any) -> list[str]:
    """Return the texts as a list. A string is one text.

    Raises InputError for anything but a string or an iterable of strings, and for an unpaired surrogate.
    """
    remedy = "Pass a string or a list of strings."
    if isinstance(texts, str):
        texts = [texts]
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise InputError(f"the texts are {type(texts).__name__}. {remedy}")
    listed = list(texts)
    for number, text in enumerate(listed, start=1):
        if not isinstance(text, str):
            raise InputError(f"text {number} is {type(text).__name__}, not a string. {remedy}")
    refuse_surrogates(listed)
    return listed


def split_into_parts(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    language: str,
    max_tokens: int,
    by_sentences: bool,
    learned: LearnedText,
) -> list[list[Part]]:
    """Return the parts of each text. White space at both ends of a text belongs to no part.

    language: code of the language of the texts.
    max_tokens: maximum number of tokens of a part.
    by_sentences: whether to split every text after its sentences. Otherwise, only texts that are too long are split.
    learned: what the model has learned of the text of its sources.
    """
    splitter = _Splitter(tokenizer, language, max_tokens, learned)
    codes = [_language_code(text, tokenizer) for text in texts]
    rests = [text.removeprefix(code).strip() if code else text.strip() for text, code in zip(texts, codes, strict=True)]
    rows = [
        _texts_and_blanks(code, splitter.sentences(rest) if by_sentences else [rest])
        for rest, code in zip(rests, codes, strict=True)
    ]
    encoded = splitter.encode(text for row in rows for text, _ in row)
    return [
        list(splitter.parts(row, encoded, code, False, by_sentences)) for row, code in zip(rows, codes, strict=True)
    ]


def _language_code(text: str, tokenizer: Tokenizer) -> str:
    match = LANGUAGE_CODE.match(text) if tokenizer.kind == "sentencepiece" else None
    return match[0] if match else ""


def _texts_and_blanks(code: str, strings: Iterable[str]) -> list[tuple[str, str]]:
    """Return the text of each string that is not blank, after the language code, and the white space after it.

    White space before the first text is left out.
    """
    prefix = f"{code.strip()} " if code else ""
    rows: list[tuple[str, str]] = []
    text, blanks = "", [""]
    for string in strings:
        without_end = string.rstrip()
        if not without_end:
            blanks.append(string)
            continue
        next_text = without_end.lstrip()
        if text:
            blanks.append(without_end[: len(without_end) - len(next_text)])
            rows.append((prefix + text, "".join(blanks)))
        text, blanks = next_text, [string[len(without_end) :]]
    return [*rows, (prefix + text, "".join(blanks))] if text else rows


class _Splitter(NamedTuple):
    """Splits texts with too many tokens. The fields are arguments of ``split_into_parts``."""

    tokenizer: Tokenizer
    language: str
    max_tokens: int
    learned: LearnedText

    def sentences(self, text: str) -> list[str]:
        """Return the sentences of a text."""
        return split_sentences(text, self.language, self.learned, self.learned.sentence_ends)

    def encode(self, texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Return the ids of each distinct text, none for a text without letters and digits that the model can read.

        For a long text with more than ``max_tokens`` tokens, these may be the ids of its beginning.
        """
        encoded: dict[str, tuple[int, ...]] = dict.fromkeys(texts, ())
        distinct = [
            text for text in encoded if self.learned.can_read(text.removeprefix(_language_code(text, self.tokenizer)))
        ]
        for first in range(0, len(distinct), ENCODED_AT_ONCE):
            batch = distinct[first : first + ENCODED_AT_ONCE]
            for text, ids in zip(batch, self.tokenizer.encode([text[:LONG_TEXT] for text in batch]), strict=True):
                is_complete = len(text) <= LONG_TEXT or len(ids) > self.max_tokens
                encoded[text] = tuple(ids if is_complete else self.tokenizer.encode([text])[0])
        return encoded

    def parts(
        self,
        rows: Iterable[tuple[str, str]],
        encoded: Mapping[str, tuple[int, ...]],
        code: str,
        is_cut: bool,
        by_sentences: bool,
    ) -> Iterator[Part]:
        """Yield a part for each text and the white space after it, or several if it has too many tokens.

        encoded: the result of ``encode`` for the texts.
        code: the language code at the start of every text.
        is_cut: whether the texts are pieces of a sentence that is too long.
        by_sentences: whether the texts are sentences.
        """
        for text, blank in rows:
            ids = encoded[text]
            if len(ids) <= self.max_tokens or len(text) == 1:
                yield Part(text, blank, ids, is_cut)
            else:
                yield from self._cut(text, blank, code, is_cut, by_sentences)

    def _cut(self, text: str, blank: str, code: str, is_cut: bool, by_sentences: bool) -> Iterator[Part]:
        """Yield the pieces of a text with too many tokens, or the text if it is a single character.

        blank: the white space after the text.
        """
        content = text.removeprefix(f"{code.strip()} ") if code else text
        strings = [content] if by_sentences else self.sentences(content)
        if len(strings) == 1:
            strings = split_long_sentence(content, self._find_spans, self.max_tokens - bool(code))
        rows = _texts_and_blanks(code, strings)
        rows[-1] = rows[-1][0], blank
        if len(rows) == 1:
            [ids] = self.tokenizer.encode([text])
            yield Part(text, blank, tuple(ids), is_cut or len(ids) > self.max_tokens)
        else:  # On its own, a piece may have more tokens than in its sentence, and is cut again.
            yield from self.parts(rows, self.encode(piece for piece, _ in rows), code, True, True)

    def _find_spans(self, text: str) -> Sequence[tuple[int, int]]:
        return self.tokenizer.encode_with_spans(text)[1]
