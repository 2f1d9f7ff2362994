"""Choice of alignment rules for two models of opposite directions without gold alignments.

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
    """Return the rules, one per model and both with the same method, whose links agree most.

    candidates: the rules to choose from, for each model.
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
    """Return 2 |A ∩ B| / (|A| + |B|) of two alignments of the same sentence pairs.

    It equals 1 minus the alignment error rate of one alignment with the other as gold.
    """
    common = sum(len(links & other_links) for links, other_links in zip(predictions, others, strict=True))
    return 2 * common / max(1, sum(map(len, (*predictions, *others))))
