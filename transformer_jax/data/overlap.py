"""Detection of test sentences that also occur in the training text and inflate the test score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from transformer_jax.data.records import Pair


class Overlap(NamedTuple):
    """Counts of test pairs that occur in the training text.

    sentences: number of test pairs.
    sources: number of test pairs whose source sentence occurs in the training text.
    pairs: number of test pairs that occur in the training text with the same target sentence.
    """

    sentences: int
    sources: int
    pairs: int

    def __str__(self) -> str:
        """Return the counts as a warning."""
        return (
            f"the test score is too high, because the training text contains {self.sources:,} of {self.sentences:,} "
            f"test sentences ({self.sources / self.sentences:.1%}), {self.pairs:,} of them with the same translation"
        )


def count_overlap(test: Sequence[Pair], training: Iterable[Pair]) -> Overlap:
    """Count the test pairs that also occur in the training text. Only exact matches count.

    The training text is read once; only the test set is kept in memory.
    """
    test_pairs, test_sources = set(test), {pair.source for pair in test}
    seen_pairs, seen_sources = set(), set()
    for pair in training:
        if pair.source in test_sources:
            seen_sources.add(pair.source)
            if pair in test_pairs:
                seen_pairs.add(pair)
    return Overlap(
        len(test), sum(pair.source in seen_sources for pair in test), sum(pair in seen_pairs for pair in test)
    )
