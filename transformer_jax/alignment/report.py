"""Tables of precision, recall and alignment error rate for every alignment rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from transformer_jax.alignment.error_rate import AlignmentScores, GoldLinks, Links, score_alignments
from transformer_jax.alignment.reading import (
    AlignmentRule,
    Head,
    Method,
    PairAttention,
    link_source_words,
    link_target_words,
    word_weights,
)
from transformer_jax.alignment.symmetrization import Symmetrization, symmetrize

METHODS: tuple[Method, ...] = get_args(Method)
SYMMETRIZATIONS: tuple[Symmetrization, ...] = get_args(Symmetrization)


class ModelAttention(NamedTuple):
    """The attention of one model on a set of sentence pairs.

    name: heading of the model's table.
    pairs: the attention of each pair.
    is_reverse: whether the model translates from the targets of the pairs to their sources.
    """

    name: str
    pairs: Sequence[PairAttention]
    is_reverse: bool = False

    def weights(self, rule: AlignmentRule) -> list[Float[np.ndarray, "_ _"]]:
        """Return the word weights of each pair (axes: source word, target word)."""
        weights = [word_weights(pair, rule) for pair in self.pairs]
        return [matrix.T for matrix in weights] if self.is_reverse else weights

    def links(self, rule: AlignmentRule) -> list[Links]:
        """Return the links (source word, target word) of each pair, at most one per word that the model predicts."""
        return list(map(link_source_words if self.is_reverse else link_target_words, self.weights(rule)))

    def head_groups(self) -> dict[str, tuple[Head, ...]]:
        """Return the groups of heads to compare, by name: all heads, all heads of each layer, and each single head."""
        layers, heads = self.pairs[0].cross.shape[:2]
        by_layer = [tuple((layer, head) for head in range(heads)) for layer in range(layers)]
        return (
            {"all heads": sum(by_layer, ())}
            | {f"layer {layer}": group for layer, group in enumerate(by_layer)}
            | {f"layer {layer}, head {head}": ((layer, head),) for group in by_layer for layer, head in group}
        )


def rule_name(rule: AlignmentRule) -> str:
    """Return the name of a rule, such as "shifted, heads 1.0 1.3" for heads 0 and 3 of layer 1."""
    return f"{rule.method}, heads {' '.join(f'{layer}.{head}' for layer, head in sorted(rule.heads))}"


def table_row(name: str, columns: Sequence[AlignmentScores]) -> str:
    """Return a table row with the precision, recall and error rate of each entry of ``columns``."""
    return f"{name:28}" + "".join(
        f"{scores.precision:13.3f}{scores.recall:9.3f}{scores.error_rate:9.3f}" for scores in columns
    )


def best_rule(model: ModelAttention, gold: Sequence[GoldLinks]) -> AlignmentRule:
    """Return the rule with the lowest error rate that a search finds.

    The candidates are all groups of ``head_groups`` and the results of a greedy search. The search starts with the best
    single head and repeatedly adds the head that lowers the error rate most, until no head lowers it. The result may
    not be optimal, and other sentence pairs may have another best rule.
    """

    def cost(rule: AlignmentRule) -> tuple[float, int]:
        return score_alignments(model.links(rule), gold).error_rate, len(rule.heads)

    groups = model.head_groups()
    heads = groups["all heads"]
    best = min((AlignmentRule(method, group) for method in METHODS for group in groups.values()), key=cost)
    for method in METHODS:
        rule = min((AlignmentRule(method, (head,)) for head in heads), key=cost)
        while others := [head for head in heads if head not in rule.heads]:
            extended = min((AlignmentRule(method, (*rule.heads, head)) for head in others), key=cost)
            if cost(extended) >= cost(rule):
                break
            rule = extended
        best = min(best, rule, key=cost)
    return best


def report_tables(models: Sequence[ModelAttention], gold: Sequence[GoldLinks]) -> Iterator[str]:
    """Yield the lines of one table per model and, for two models, of a table of their symmetrizations."""
    best_rules = [best_rule(model, gold) for model in models]
    for model, best in zip(models, best_rules, strict=True):
        yield model.name
        yield f"{'':28}" + "".join(f"{method:>13}{'':18}" for method in METHODS).rstrip()
        yield f"{'':28}" + f"{'precision':>13}{'recall':>9}{'AER':>9}" * len(METHODS)
        for name, group in model.head_groups().items():
            links = [model.links(AlignmentRule(method, group)) for method in METHODS]
            yield table_row(name, [score_alignments(predictions, gold) for predictions in links])
        yield f"{table_row('best combination', [score_alignments(model.links(best), gold)])}    {rule_name(best)}"
        yield ""
    if len(models) == 2:
        yield from _symmetrization_table(models[0], models[1], gold, best_rules)
        yield ""


def _symmetrization_table(
    forward: ModelAttention, reverse: ModelAttention, gold: Sequence[GoldLinks], best_rules: Sequence[AlignmentRule]
) -> Iterator[str]:
    """Yield the lines of a table with the error rate of each symmetrization.

    The rows are the groups of two or more heads that both models have, and the best rules of both models.
    """
    yield f"{'both ways, AER':28}" + "".join(f"{name:>25}" for name in SYMMETRIZATIONS)
    groups, reverse_groups = forward.head_groups(), reverse.head_groups()
    shared = [name for name, group in groups.items() if len(group) > 1 and reverse_groups.get(name) == group]
    rows = {f"{method}, {name}": [AlignmentRule(method, groups[name])] * 2 for method in METHODS for name in shared}
    for name, rules in {**rows, "best combination of each": best_rules}.items():
        weights = [model.weights(rule) for model, rule in zip((forward, reverse), rules, strict=True)]
        links = (symmetrize_all(symmetrization, *weights) for symmetrization in SYMMETRIZATIONS)
        yield f"{name:28}" + "".join(f"{score_alignments(row, gold).error_rate:25.3f}" for row in links)


def symmetrize_all(
    symmetrization: Symmetrization,
    forward: Sequence[Float[np.ndarray, "_ _"]],
    reverse: Sequence[Float[np.ndarray, "_ _"]],
) -> list[Links]:
    """Return the links of each sentence pair from the word weights of two models; see ``symmetrize``."""
    return [symmetrize(symmetrization, *weights) for weights in zip(forward, reverse, strict=True)]
