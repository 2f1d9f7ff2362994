"""Of two models' readings those are chosen whose links agree, whatever else the models do."""

import numpy as np

from transformer_jax.alignment.layer_selection import dice_coefficient, most_agreeing_rules
from transformer_jax.alignment.reading import AlignmentRule, PairAttention
from transformer_jax.alignment.report import METHODS, ModelAttention

LAYERS = [AlignmentRule(method, ((layer, 0),)) for method in METHODS for layer in range(2)]


def side(*layers, is_reverse=False):
    """A model of one head a layer, which attends from each target token of a pair of three words to these of four."""
    cross = np.array([[np.eye(4)[[*layer, 3]]] for layer in layers])
    return ModelAttention("model", [PairAttention(cross, (0, 1, 2, -1), (0, 1, 2, -1))], is_reverse)


def test_the_layers_that_agree_are_found_in_each_model():
    forward = side([0, 0, 0], [1, 0, 2])  # Layer 1 swaps two words,
    reverse = side([1, 0, 2], [2, 2, 2], is_reverse=True)  # as layer 0 does the other way.
    assert most_agreeing_rules((forward, reverse), (LAYERS, LAYERS)) == [LAYERS[0]._replace(heads=((1, 0),)), LAYERS[0]]


def test_the_method_is_chosen_with_them():
    # The step that has just read word t is the next one: rows 1 to 3 are diagonal, rows 0 to 2 are not.
    late = side([0, 0, 1])
    late.pairs[0].cross[0, 0, 3] = np.eye(4)[2]
    back = ModelAttention("back", late.pairs, is_reverse=True)
    open_readings = [reading for reading in LAYERS if reading.heads == ((0, 0),)]
    assert (
        most_agreeing_rules((late, back), (open_readings, open_readings)) == [AlignmentRule("shifted", ((0, 0),))] * 2
    )


def test_agreement_is_one_for_the_same_links_and_none_without_any():
    links = [frozenset({(0, 0), (1, 1)}), frozenset({(2, 0)})]
    assert dice_coefficient(links, links) == 1
    assert dice_coefficient(links, [frozenset({(0, 0)}), frozenset()]) == 2 / 4
    assert dice_coefficient([frozenset()], [frozenset()]) == 0
