"""Warnings about a translation: text that the model has not learned, and translations that are probably wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from transformer_jax.data.detokenization import readable_character
from transformer_jax.data.learned_text import LearnedText
from transformer_jax.data.text_statistics import TextStatistics, tokens_per_character
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decoding.confidence import Confidence

MIN_REPETITIONS = 4
"""Number of consecutive copies of the same tokens that count as a repetition."""
NUMBER = re.compile(r"\d+(?:[.,:]?\d+|[ \u00a0\u202f]\d{3}(?!\d))+")
"""A number of two digits or more. Languages differ in the separators."""
MAX_EXAMPLES = 10
"""Maximum number of characters or words that a message lists."""


class TranslationWarning(NamedTuple):
    """A reason to check a translation.

    code: a short constant name of the kind of warning, such as ``repetition``.
    message: a sentence for the user, without the line number.
    """

    code: str
    message: str


class Evidence(NamedTuple):
    """What the checks need to know of one translation.

    text: the source text.
    translation: the translated text.
    source_ids, target_ids: ids of source and target, with [EOS].
    max_target_length: maximum number of target tokens of the search.
    mean_log_probability: mean log-probability per target token; None if the translation is a random draw.
    """

    text: str
    translation: str
    source_ids: Sequence[int]
    target_ids: Sequence[int]
    max_target_length: int
    mean_log_probability: float | None


class Checks:
    """The checks of the translations of one run.

    source: the source tokenizer.
    statistics: statistics of the training text, or None if they are unknown.
    confidence: the confidence of the model on the validation set, or None if it is unknown.
    learned: what the model has learned of the text of its sources.
    """

    def __init__(
        self, source: Tokenizer, statistics: TextStatistics | None = None, confidence: Confidence | None = None
    ) -> None:
        self._source = source
        self._statistics = statistics
        self._min_log_probability = confidence.minimum if confidence else -math.inf
        self.learned = (
            LearnedText(source, statistics.source_characters, statistics.sentence_ends)
            if statistics
            else LearnedText(source)
        )

    def __call__(self, evidence: Evidence) -> tuple[TranslationWarning, ...]:
        """Return the warnings about one translation, first those about its source."""
        messages = {
            "unseen_characters": self._unseen_characters(evidence),
            "unknown_words": self._unknown_words(evidence),
            "unusual_spelling": self._unusual_spelling(evidence),
            "repetition": _repetition(evidence),
            "length_limit": _length_limit(evidence),
            "empty": "the translation is empty." if len(evidence.target_ids) == 1 else "",
            "length_ratio": self._length_ratio(evidence),
            "missing_number": _missing_number(evidence),
            "low_probability": self._low_probability(evidence),
        }
        return tuple(TranslationWarning(code, message) for code, message in messages.items() if message)

    def about_copy(self, text: str) -> tuple[TranslationWarning, ...]:
        """Return the warning about a text that is copied because the model can read none of its letters and digits."""
        if not any(map(str.isalnum, text)):
            return ()
        unseen = self._unseen(text)
        return (TranslationWarning("unseen_characters", f"text is copied, because the training text has no {unseen}."),)

    def _unseen_characters(self, evidence: Evidence) -> str:
        unseen = self._unseen(evidence.text)
        return unseen and f"the training text has no {unseen}."

    def _unseen(self, text: str) -> str:
        """Return the characters that the model has never seen, and their number; no text if it has seen all."""
        unknown = self.learned.unknown_in(text)
        if not unknown:
            return ""
        examples = _examples(map(readable_character, unknown), " ")
        return f"{examples} ({len(unknown)} of {len(self._source.normalize(text))} characters)"

    def _unknown_words(self, evidence: Evidence) -> str:
        unk_id = self._source.unk_id
        if unk_id not in evidence.source_ids[:-1]:
            return ""
        ids, spans = self._source.encode_with_spans(evidence.text)
        unknown = [evidence.text[slice(*span)] for token, span in zip(ids, spans, strict=True) if token == unk_id]
        return f"{len(unknown)} of {len(ids)} tokens are unknown: {_examples(unknown, ', ')}."

    def _unusual_spelling(self, evidence: Evidence) -> str:
        if not self._statistics:
            return ""
        text, ids = self._source.normalize(evidence.text), evidence.source_ids[:-1]
        if tokens_per_character(text, ids) <= self._statistics.max_tokens_per_character:
            return ""
        return f"the text is unusual: {len(ids)} tokens for {len(text)} characters. Check spelling, case and language."

    def _length_ratio(self, evidence: Evidence) -> str:
        source, target = len(evidence.source_ids), len(evidence.target_ids)
        if not self._statistics or target == 1:
            return ""
        low, high = self._statistics.min_length_ratio, self._statistics.max_length_ratio
        if low <= target / source <= high:
            return ""
        length = "short" if target < low * source else "long"
        return f"the translation is unusually {length}: {target} tokens for {source} source tokens."

    def _low_probability(self, evidence: Evidence) -> str:
        value = evidence.mean_log_probability
        if value is None or not value < self._min_log_probability:  # The minimum may be NaN.
            return ""
        probability, usual = math.exp(value), math.exp(self._min_log_probability)
        return f"the model is unsure: its mean probability per token is {probability:.2f}, usually above {usual:.2f}."


def _missing_number(evidence: Evidence) -> str:
    numbers, groups = _numbers(evidence.translation), set(re.findall(r"\d+", evidence.translation))
    missing = [
        number
        for number in NUMBER.findall(evidence.text)
        # "10:30" may be "10 Uhr 30".
        if not (_numbers(number) <= numbers or set(re.findall(r"\d+", number)) <= groups)
    ]
    return f"the translation does not contain {_examples(missing, ', ')} in digits." if missing else ""


def _numbers(text: str) -> set[str]:
    """Return the numbers in a text, without separators of thousands and with a point for all other separators."""
    without_thousands = re.sub(r"(?<=\d)[., \u00a0\u202f'’](?=\d{3}(?!\d))", "", text)
    return set(re.findall(r"\d+(?:\.\d+)*", re.sub(r"(?<=\d)[,:](?=\d)", ".", without_thousands)))


def _repetition(evidence: Evidence) -> str:
    repeated = has_repetition(evidence.target_ids[:-1]) and not has_repetition(evidence.source_ids[:-1])
    return f"the translation repeats the same tokens {MIN_REPETITIONS} times or more." if repeated else ""


def _length_limit(evidence: Evidence) -> str:
    if len(evidence.target_ids) < evidence.max_target_length:
        return ""
    return f"the translation ends at its limit of {evidence.max_target_length} tokens and may be incomplete."


def has_repetition(ids: Sequence[int]) -> bool:
    """Return whether the same sequence of tokens occurs ``MIN_REPETITIONS`` times in a row."""
    tokens = np.asarray(ids)
    for length in range(1, len(tokens) // MIN_REPETITIONS + 1):
        # A run of equal tokens at this distance is a repetition.
        differs = np.flatnonzero(tokens[length:] != tokens[:-length])
        runs = np.diff(differs, prepend=-1, append=len(tokens) - length) - 1
        if runs.max() >= (MIN_REPETITIONS - 1) * length:
            return True
    return False


def join_warnings(parts: Iterable[tuple[bool, Sequence[TranslationWarning]]]) -> tuple[TranslationWarning, ...]:
    """Return the warnings about a text of several parts: for each kind the first one, with the number of its sentence.

    parts: whether each part is translated, and its warnings. A part that is copied has no number.
    """
    first: dict[str, TranslationWarning] = {}
    number = 0
    for is_translated, warnings in parts:
        number += is_translated
        for code, message in warnings:
            place = f"sentence {number}: " if is_translated else ""
            first.setdefault(code, TranslationWarning(code, f"{place}{message}"))
    return tuple(first.values())


def _examples(items: Iterable[str], separator: str) -> str:
    """Return the distinct items as one string, at most ``MAX_EXAMPLES`` of them."""
    distinct = list(dict.fromkeys(items))
    return separator.join(distinct[:MAX_EXAMPLES]) + ("..." if len(distinct) > MAX_EXAMPLES else "")
