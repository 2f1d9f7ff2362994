"""Facts about the training text that translation needs, in the file ``text_statistics.json`` of a run directory."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from transformer_jax.data.batches import EncodedPairs
from transformer_jax.data.records import SURROGATE, Pair
from transformer_jax.data.sentences import LAST_WORD, SplitSentences, is_abbreviation, split_sentences
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

FILE_NAME = "text_statistics.json"
SINGLE_SENTENCE_SHARE = 0.1
"""A run was trained on single sentences if fewer of its sources than this have several. Multi30k: 0.0001, Tatoeba:
0.011."""
RARE_RATIOS = 0.001
"""Share of the training pairs with a length ratio below the range, and of those above it."""
RARE_SOURCES = 0.002
"""Share of the validation sources with more tokens per character than the maximum."""
MAX_WORD_LENGTH = 40
"""Number of characters at the end of a source in which its last word is searched."""
MIN_PAIRS = 1000
"""Number of training pairs from which rare length ratios are estimated."""


class TextStatistics(NamedTuple):
    """Statistics of the training pairs of a run. Runs of earlier versions have the default values.

    longest_source, longest_target: number of tokens of the longest text, without special tokens.
    multi_sentence_share: share of the sources that have more than one sentence.
    source_characters: all characters of the sources after normalization, sorted; empty if unknown.
    min_length_ratio, max_length_ratio: range of the target length divided by the source length, both with [EOS].
    max_tokens_per_character: maximum of ``tokens_per_character`` of the validation sources.
    sentence_ends: words that end sources more often than they precede a full stop within one, although
        ``sentences.is_abbreviation`` takes them for abbreviations.
    """

    longest_source: int
    longest_target: int
    multi_sentence_share: float
    source_characters: str = ""
    min_length_ratio: float = 0.0
    max_length_ratio: float = math.inf
    max_tokens_per_character: float = math.inf
    sentence_ends: Sequence[str] = ()

    @property
    def has_single_sentences(self) -> bool:
        """Whether the run was trained on single sentences, so that it cannot translate several at once."""
        return self.multi_sentence_share < SINGLE_SENTENCE_SHARE

    def validate(self) -> None:
        """Raise ValueError if a value has the wrong type or is out of range."""
        for length in self[:2]:
            if type(length) is not int or not 0 < length < 2**31:
                raise ValueError(f"the length {length!r} is invalid")
        for number in (self.multi_sentence_share, *self[4:7]):
            if type(number) not in (int, float) or not number >= 0:  # False for NaN.
                raise ValueError(f"the number {number!r} is invalid")
        if self.multi_sentence_share > 1:
            raise ValueError("multi_sentence_share is above 1")
        if not isinstance(self.sentence_ends, (list, tuple)):
            raise ValueError("sentence_ends is not a list")
        for text in (self.source_characters, *self.sentence_ends):
            if not isinstance(text, str) or SURROGATE.search(text):
                raise ValueError(f"the text {text!r} is invalid")

    def save(self, directory: Path) -> None:
        """Write the statistics to a run directory."""
        text = json.dumps(self._asdict(), indent=2, ensure_ascii=False)
        atomic.write_text(directory / FILE_NAME, text + "\n")

    @staticmethod
    def remove(directory: Path) -> None:
        """Remove the file that ``save`` writes, if it exists."""
        (directory / FILE_NAME).unlink(missing_ok=True)

    @classmethod
    def load(cls, directory: Path) -> TextStatistics | None:
        """Read the statistics of a run; None for imported runs and for runs of earlier versions.

        Raises InputError if the file is damaged.
        """
        path = directory / FILE_NAME
        if not path.exists():
            return None
        try:
            statistics = cls(**json.loads(path.read_text(encoding="utf-8")))
            statistics.validate()
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}). Copy the complete run directory again.") from error
        return statistics


def needs_splitting(option: SplitSentences, statistics: TextStatistics | None) -> bool:
    """Return whether to split texts into sentences for a run.

    option: always, never, or if the run was trained on single sentences (auto).
    statistics: statistics of the training text. If they are unknown, ``auto`` splits texts.
    """
    return option == "always" or (option == "auto" and (statistics is None or statistics.has_single_sentences))


def tokens_per_character(text: str, ids: Sequence[int]) -> float:
    """Return the number of tokens per character of a text, after deducting two tokens, which any short text may have.

    Text unlike the training text, such as shuffled letters or another language, has few long tokens in common with it.
    """
    return max(len(ids) - 2, 0) / max(len(text), 1)


def measure_text(
    pairs: Iterable[Pair], encoded: EncodedPairs, valid: Sequence[Pair], source: Tokenizer, language: str
) -> TextStatistics:
    """Return the statistics of the training pairs.

    encoded: the same pairs, without those that are empty or too long.
    valid: the validation pairs.
    source: the tokenizer of the sources.
    language: code of the source language.
    """
    characters: set[str] = set()
    last_words: Counter[str] = Counter()
    inner_words: Counter[str] = Counter()
    count = multiple = 0
    for pair in pairs:
        text = source.normalize(pair.source.strip())
        characters.update(text)
        count += 1
        multiple += len(split_sentences(text, language)) > 1
        # The last full stop is not followed by white space.
        inner_words.update(LAST_WORD.findall(text))
        last_words.update(LAST_WORD.findall(f"{text[-MAX_WORD_LENGTH:]} ")[-1:] if text.endswith(".") else [])
    source_lengths, target_lengths = encoded.lengths()
    texts = [source.normalize(pair.source.strip()) for pair in valid]
    fragmentation = list(map(tokens_per_character, texts, source.encode(texts)))
    return TextStatistics(
        # The lengths include [EOS].
        int(source_lengths.max()) - 1,
        int(target_lengths.max()) - 1,
        multiple / max(count, 1),
        "".join(sorted(characters)),
        *_length_ratios(source_lengths, target_lengths),
        float(np.quantile(fragmentation, 1 - RARE_SOURCES)),
        [
            word
            for word, ends in sorted(last_words.items())
            # A single letter may be an initial.
            if ends > max(1, inner_words[word]) and len(word) > 1 and is_abbreviation(word, language)
        ],
    )


def _length_ratios(source_lengths: Int[np.ndarray, "P"], target_lengths: Int[np.ndarray, "P"]) -> tuple[float, float]:
    """Return the range of length ratios outside which a translation is suspicious."""
    low, median, high = np.quantile(target_lengths / source_lengths, [RARE_RATIOS, 0.5, 1 - RARE_RATIOS])
    if len(source_lengths) < MIN_PAIRS:  # Too few to estimate rare ratios.
        low, high = 0.0, math.inf
    return float(max(low, 0.4 * median)), float(min(high, 2.5 * median))
