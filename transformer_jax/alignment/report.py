"""How good each way to read an alignment off the attention is: precision, recall and Alignment Error Rate."""

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
    """A model's attention in sentence pairs that people have aligned.

    name: for the heading; is_reverse: the model translates from the pairs' targets to their sources.
    """

    name: str
    pairs: Sequence[PairAttention]
    is_reverse: bool = False

    def weights(self, reading: AlignmentRule) -> list[Float[np.ndarray, "_ _"]]:
        """The weights of each pair, [source word, target word]."""
        found = (word_weights(pair, reading) for pair in self.pairs)
        return [weights.T for weights in found] if self.is_reverse else list(found)

    def links(self, reading: AlignmentRule) -> list[Links]:
        """The links of each pair, (source word, target word): one for each word that the model writes."""
        return list(map(link_source_words if self.is_reverse else link_target_words, self.weights(reading)))

    def groups(self) -> dict[str, tuple[Head, ...]]:
        """The heads that are tried together: all, those of each layer, and each alone."""
        layers, heads = self.pairs[0].cross.shape[:2]
        by_layer = [tuple((layer, head) for head in range(heads)) for layer in range(layers)]
        return (
            {"all heads": sum(by_layer, ())}
            | {f"layer {layer}": group for layer, group in enumerate(by_layer)}
            | {f"layer {layer}, head {head}": ((layer, head),) for group in by_layer for layer, head in group}
        )


def rule_name(reading: AlignmentRule) -> str:
    """For example "shifted, heads 1.0 1.3": layer, then head."""
    return f"{reading.method}, heads {' '.join(f'{layer}.{head}' for layer, head in sorted(reading.heads))}"


def table_row(name: str, found: Sequence[AlignmentScores]) -> str:
    """A line of a table: precision, recall and error rate, once or several times."""
    return f"{name:28}" + "".join(f"{one.precision:13.3f}{one.recall:9.3f}{one.error_rate:9.3f}" for one in found)


def best_rule(side: ModelAttention, gold: Sequence[GoldLinks]) -> AlignmentRule:
    """The heads whose average has the lowest error rate, as a greedy search finds them: the best, and then whichever
    improves it most, until none does. Better groups may exist, and on other sentence pairs others may be better.
    """

    def key(reading: AlignmentRule) -> tuple[float, int]:
        return score_alignments(side.links(reading), gold).error_rate, len(reading.heads)

    groups = side.groups()
    heads = groups["all heads"]
    found = min((AlignmentRule(method, group) for method in METHODS for group in groups.values()), key=key)
    for method in METHODS:
        best = min((AlignmentRule(method, (head,)) for head in heads), key=key)
        while others := [head for head in heads if head not in best.heads]:
            longer = min((AlignmentRule(method, (*best.heads, head)) for head in others), key=key)
            if key(longer) >= key(best):
                break
            best = longer
        found = min(found, best, key=key)
    return found


def report_tables(sides: Sequence[ModelAttention], gold: Sequence[GoldLinks]) -> Iterator[str]:
    """The lines of all tables: one for each model, and one for two models that translate both ways."""
    bests = [best_rule(side, gold) for side in sides]
    for side, best in zip(sides, bests, strict=True):
        yield side.name
        yield f"{'':28}" + "".join(f"{method:>13}{'':18}" for method in METHODS).rstrip()
        yield f"{'':28}" + f"{'precision':>13}{'recall':>9}{'AER':>9}" * len(METHODS)
        for name, group in side.groups().items():
            yield table_row(
                name, [score_alignments(side.links(AlignmentRule(method, group)), gold) for method in METHODS]
            )
        yield f"{table_row('best combination', [score_alignments(side.links(best), gold)])}    {rule_name(best)}"
        yield ""
    if len(sides) == 2:
        forward, reverse = sides
        yield from _both(forward, reverse, gold, bests)
        yield ""


def _both(
    forward: ModelAttention, reverse: ModelAttention, gold: Sequence[GoldLinks], bests: Sequence[AlignmentRule]
) -> Iterator[str]:
    """AER of the two directions put together in each way, where both models are read alike, and where both are best."""
    yield f"{'both ways, AER':28}" + "".join(f"{name:>25}" for name in SYMMETRIZATIONS)
    groups, others = forward.groups(), reverse.groups()
    shared = [name for name, group in groups.items() if len(group) > 1 and others.get(name) == group]
    rows = {f"{method}, {name}": [AlignmentRule(method, groups[name])] * 2 for method in METHODS for name in shared}
    for name, readings in {**rows, "best combination of each": bests}.items():
        found = [side.weights(reading) for side, reading in zip((forward, reverse), readings, strict=True)]
        errors = [score_alignments(symmetrize_all(how, *found), gold).error_rate for how in SYMMETRIZATIONS]
        yield f"{name:28}" + "".join(f"{error:25.3f}" for error in errors)


def symmetrize_all(
    how: Symmetrization,
    forward: Sequence[Float[np.ndarray, "_ _"]],
    reverse: Sequence[Float[np.ndarray, "_ _"]],
) -> list[Links]:
    """The links of each pair from the weights of both directions."""
    return [symmetrize(how, *pair) for pair in zip(forward, reverse, strict=True)]
