"""Facts about the training text that translation needs, in the file ``text_statistics.json`` of a run directory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from transformer_jax.data.batches import EncodedPairs
from transformer_jax.data.sentences import split_sentences
from transformer_jax.data.sources import Pair
from transformer_jax.errors import InputError
from transformer_jax.storage import atomic

FILE_NAME = "text_statistics.json"
SINGLE_SENTENCE_SHARE = 0.1
"""A run was trained on single sentences if fewer of its sources than this have several. Multi30k: 0.0001, Tatoeba:
0.011."""


class TextStatistics(NamedTuple):
    """Statistics of the training pairs that a run is trained on.

    longest_source, longest_target: number of tokens of the longest text, without special tokens.
    multi_sentence_share: share of the sources that have more than one sentence.
    """

    longest_source: int
    longest_target: int
    multi_sentence_share: float

    @property
    def has_single_sentences(self) -> bool:
        """Whether the run was trained on single sentences, so that it cannot translate several at once."""
        return self.multi_sentence_share < SINGLE_SENTENCE_SHARE

    def save(self, directory: Path) -> None:
        """Write the statistics to a run directory."""
        atomic.write_text(directory / FILE_NAME, json.dumps(self._asdict(), indent=2) + "\n")

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
            if min(statistics.longest_source, statistics.longest_target) < 1 or not 0 <= statistics[2] <= 1:
                raise ValueError("a number is out of range")
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}). Copy the complete run directory again.") from error
        return statistics


def measure_text(pairs: Iterable[Pair], encoded: EncodedPairs, language: str) -> TextStatistics:
    """Return the statistics of the training pairs.

    encoded: the same pairs, without those that are empty or too long.
    language: code of the source language.
    """
    sentences = [len(split_sentences(pair.source.strip(), language)) for pair in pairs]
    source_lengths, target_lengths = encoded.lengths()
    # Each length includes [EOS].
    longest = int(source_lengths.max()) - 1, int(target_lengths.max()) - 1
    return TextStatistics(*longest, sum(count > 1 for count in sentences) / max(len(sentences), 1))
