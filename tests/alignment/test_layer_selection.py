"""For two models, the alignment rules are chosen whose links agree most."""

import numpy as np

from transformer_jax.alignment.layer_selection import dice_coefficient, most_agreeing_rules
from transformer_jax.alignment.reading import AlignmentRule, PairAttention
from transformer_jax.alignment.report import METHODS, ModelAttention

RULES = [AlignmentRule(method, ((layer, 0),)) for method in METHODS for layer in range(2)]


def model_with(*layers, is_reverse=False):
    """Return a model with one head per layer, which links the three target words of a pair to these source words."""
    cross = np.array([[np.eye(4)[[*layer, 3]]] for layer in layers])
    return ModelAttention("model", [PairAttention(cross, (0, 1, 2, -1), (0, 1, 2, -1))], is_reverse)


def test_the_layers_that_agree_are_chosen():
    forward = model_with([0, 0, 0], [1, 0, 2])  # Layer 1 swaps two words.
    reverse = model_with([1, 0, 2], [2, 2, 2], is_reverse=True)  # Layer 0 swaps the same words.
    assert most_agreeing_rules((forward, reverse), (RULES, RULES)) == [RULES[0]._replace(heads=((1, 0),)), RULES[0]]


def test_the_method_that_agrees_is_chosen():
    # Rows 1 to 3 are diagonal, but rows 0 to 2 are not. Row t + 1 is the step that reads word t.
    forward = model_with([0, 0, 1])
    forward.pairs[0].cross[0, 0, 3] = np.eye(4)[2]
    reverse = ModelAttention("reverse", forward.pairs, is_reverse=True)
    candidates = [rule for rule in RULES if rule.heads == ((0, 0),)]
    rules = most_agreeing_rules((forward, reverse), (candidates, candidates))
    assert rules == [AlignmentRule("shifted", ((0, 0),))] * 2


def test_dice_coefficient_is_1_for_equal_links_and_0_without_any():
    links = [frozenset({(0, 0), (1, 1)}), frozenset({(2, 0)})]
    assert dice_coefficient(links, links) == 1
    assert dice_coefficient(links, [frozenset({(0, 0)}), frozenset()]) == 2 / 4
    assert dice_coefficient([frozenset()], [frozenset()]) == 0
