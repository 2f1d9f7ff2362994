"""The parts in which a text is translated: its sentences, and pieces of sentences that are too long for the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from transformer_jax.data.sentences import split_long_sentence, split_sentences
from transformer_jax.data.tokenizers import Tokenizer, refuse_surrogates
from transformer_jax.errors import InputError

SplitSentences = Literal["auto", "always", "never"]
LANGUAGE_CODE = re.compile(r"\s*(>>\S+<<)\s*")
"""The target language at the start of a text for a multilingual imported model. Every part needs it."""


class Part(NamedTuple):
    """A part of a text.

    text: the part without surrounding white space, after the language code if the text has one.
    blank: the white space between this part and the next one.
    ids: the ids of the text without special tokens; empty for a part without letters and digits, which is not
        translated.
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
    texts: Sequence[str], tokenizer: Tokenizer, language: str, max_tokens: int, by_sentences: bool
) -> list[list[Part]]:
    """Return the parts of each text. White space at both ends of a text belongs to no part.

    language: code of the language of the texts.
    max_tokens: maximum number of tokens of a part.
    by_sentences: whether to split every text after its sentences. Otherwise, only texts that are too long are split.
    """
    codes = [_language_code(text, tokenizer) for text in texts]
    rests = [text.removeprefix(code).strip() if code else text.strip() for text, code in zip(texts, codes, strict=True)]
    sentences = [
        _parts(code, split_sentences(rest, language) if by_sentences else [rest])
        for rest, code in zip(rests, codes, strict=True)
    ]
    encoded = iter(tokenizer.encode([part.text for parts in sentences for part in parts]))
    sentences = [[part._replace(ids=tuple(next(encoded))) for part in parts] for parts in sentences]
    return [
        [
            piece if any(map(str.isalnum, piece.text)) else piece._replace(ids=())
            for part in parts
            for piece in _cut(part, code, tokenizer, language, max_tokens, by_sentences)
        ]
        for parts, code in zip(sentences, codes, strict=True)
    ]


def _language_code(text: str, tokenizer: Tokenizer) -> str:
    match = LANGUAGE_CODE.match(text) if tokenizer.kind == "sentencepiece" else None
    return match[0] if match else ""


def _parts(code: str, strings: Sequence[str]) -> list[Part]:
    """Return a part for each string that is not blank. The strings begin with text, not with white space."""
    prefix = f"{code.strip()} " if code else ""
    parts: list[Part] = []
    for string in strings:
        text, without_end = string.strip(), string.rstrip()
        before, after = without_end[: len(without_end) - len(text)], string[len(without_end) :]
        if parts:
            parts[-1] = parts[-1]._replace(blank=parts[-1].blank + before + ("" if text else after))
        if text:
            parts.append(Part(prefix + text, after))
    return parts


def _cut(
    part: Part, code: str, tokenizer: Tokenizer, language: str, max_tokens: int, by_sentences: bool
) -> Iterator[Part]:
    """Yield the pieces of a part, or the part itself if it is short enough or has no letters and digits."""
    if len(part.ids) <= max_tokens or len(part.text) == 1 or not any(map(str.isalnum, part.text)):
        yield part
        return
    text = part.text.removeprefix(f"{code.strip()} ") if code else part.text
    strings = [text] if by_sentences else split_sentences(text, language)
    limit = max_tokens - bool(code)
    if len(strings) == 1:
        _, spans = tokenizer.encode_with_spans(text)
        strings = split_long_sentence(text, spans, limit)
    pieces = _parts(code, strings)
    pieces[-1] = pieces[-1]._replace(blank=part.blank)
    for piece, ids in zip(pieces, tokenizer.encode([piece.text for piece in pieces]), strict=True):
        encoded = piece._replace(ids=tuple(ids), is_cut=True)
        # On its own, a piece may have more tokens than in its sentence, and is cut again.
        yield from _cut(encoded, code, tokenizer, language, max_tokens, True) if len(pieces) > 1 else [encoded]
