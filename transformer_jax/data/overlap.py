"""Test sentences that stand in the training text as well: whoever has learnt them by heart translates them well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from transformer_jax.data.sources import Pair


class Overlap(NamedTuple):
    """Of ``sentences`` test pairs: how many have a source that is trained on; how many, with the same target."""

    sentences: int
    sources: int
    pairs: int

    def __str__(self) -> str:
        """For a warning."""
        return (
            f"{self.sources:,} of {self.sentences:,} test sentences ({self.sources / self.sentences:.1%}) stand in the "
            f"training data, {self.pairs:,} with the same translation: they flatter the score"
        )


def count_overlap(test: Sequence[Pair], training: Iterable[Pair]) -> Overlap:
    """Look for the test set in the training text, letter by letter. Memory grows with the test set alone."""
    pairs, sources = set(test), {pair.source for pair in test}
    met_pairs, met_sources = set(), set()
    for pair in training:
        if pair.source in sources:
            met_sources.add(pair.source)
            if pair in pairs:
                met_pairs.add(pair)
    return Overlap(len(test), sum(pair.source in met_sources for pair in test), sum(pair in met_pairs for pair in test))
