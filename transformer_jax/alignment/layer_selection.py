"""Selection of alignment rules without gold alignments, for two models that translate in opposite directions.

Source: the layer selection criterion of Chen et al. 2020, "Accurate Word Alignment Induction from Neural Machine
Translation".
"""

from __future__ import annotations

from collections.abc import Sequence

from transformer_jax.alignment.error_rate import Links
from transformer_jax.alignment.reading import AlignmentRule
from transformer_jax.alignment.report import ModelAttention


def most_agreeing_rules(
    models: tuple[ModelAttention, ModelAttention],
    candidates: tuple[Sequence[AlignmentRule], Sequence[AlignmentRule]],
) -> list[AlignmentRule]:
    """Return one rule per model, chosen so that the links of the two models agree most.

    Both rules have the same method.

    candidates: for each model, the rules to choose from.
    """
    forward, reverse = (
        {rule: model.links(rule) for rule in rules} for model, rules in zip(models, candidates, strict=True)
    )
    agreements = {
        (forward_rule, reverse_rule): dice_coefficient(forward_links, reverse_links)
        for forward_rule, forward_links in forward.items()
        for reverse_rule, reverse_links in reverse.items()
        if forward_rule.method == reverse_rule.method
    }
    best = max(agreements, key=lambda rules: agreements[rules])
    return list(best)


def dice_coefficient(predictions: Sequence[Links], others: Sequence[Links]) -> float:
    """Return the Dice coefficient 2 |A ∩ B| / (|A| + |B|) of two alignments of the same sentence pairs.

    It equals 1 - AER when one alignment is scored with the other as the gold alignment.
    """
    common = sum(len(links & other_links) for links, other_links in zip(predictions, others, strict=True))
    return 2 * common / max(1, sum(map(len, (*predictions, *others))))
