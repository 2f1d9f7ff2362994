"""Which readings of two models to take where nobody has aligned words by hand: those whose links agree most.

Source: the layer selection criterion of Chen et al. 2020, "Accurate Word Alignment Induction from Neural Machine
Translation".
"""

from __future__ import annotations

from collections.abc import Sequence

from transformer_jax.alignment.error_rate import Links
from transformer_jax.alignment.reading import AlignmentRule
from transformer_jax.alignment.report import ModelAttention


def most_agreeing_rules(
    sides: tuple[ModelAttention, ModelAttention], readings: tuple[Sequence[AlignmentRule], Sequence[AlignmentRule]]
) -> list[AlignmentRule]:
    """One of the ``readings`` of each side, both of one method."""
    forward, reverse = (
        {reading: side.links(reading) for reading in several} for side, several in zip(sides, readings, strict=True)
    )
    found = {
        (one, other): dice_coefficient(some, others)
        for one, some in forward.items()
        for other, others in reverse.items()
        if one.method == other.method
    }
    best = max(found, key=lambda pair: found[pair])
    return list(best)


def dice_coefficient(some: Sequence[Links], others: Sequence[Links]) -> float:
    """Links found both ways, twice, over all links: 1 less the error rate of one with the other as its gold."""
    common = sum(len(one & other) for one, other in zip(some, others, strict=True))
    return 2 * common / max(1, sum(map(len, (*some, *others))))
