"""The tables say which heads align well, and the search finds heads that are better together."""

import numpy as np
import pytest

from transformer_jax.alignment.error_rate import GoldLinks, score_alignments
from transformer_jax.alignment.reading import AlignmentRule, PairAttention
from transformer_jax.alignment.report import ModelAttention, best_rule, report_tables

WORDS = (0, 1, 2, -1)
DIAGONAL = frozenset({(0, 0), (1, 1), (2, 2)})
GOLD = [GoldLinks(DIAGONAL, DIAGONAL)]


def rows(*sources):
    """Weights of one head whose row t attends to the given source word most."""
    weights = np.full((4, 4), 0.1, np.float32)
    weights[range(4), list(sources)] = 0.7
    return weights


def side(*layers, is_reverse=False):
    return ModelAttention("model", [PairAttention(np.asarray(layers, np.float32), WORDS, WORDS)], is_reverse)


def test_the_best_head_and_method_are_found():
    model = side([rows(2, 2, 2, 2), rows(1, 1, 1, 1)], [rows(0, 0, 0, 0), rows(3, 0, 1, 2)])
    assert best_rule(model, GOLD) == AlignmentRule("shifted", ((1, 1),))


def test_heads_that_complete_each_other_are_found():
    # One head is right, and sure, about word 0, another about 1 and 2; a third is wrong, and sure, everywhere.
    first, second, third = rows(0, 2, 1, 3), rows(1, 1, 2, 3), rows(2, 0, 0, 3)
    first[0], second[0], first[1:3] = [0.9, 0, 0, 0.1], [0.3, 0.4, 0.2, 0.1], 0.25
    model = side([first, second, third])
    found = best_rule(model, GOLD)
    assert found.method == "plain"
    assert sorted(found.heads) == [(0, 0), (0, 1)]
    assert score_alignments(model.links(found), GOLD).error_rate == 0


def test_a_table_has_a_row_for_each_layer_and_head_and_a_column_for_each_method():
    lines = list(report_tables([side([rows(2, 0, 1, 2), rows(0, 1, 2, 3)])], GOLD))
    assert lines[0] == "model"
    assert [line.split() for line in lines[4:7]] == [
        ["layer", "0", *lines[3].split()[2:]],
        ["layer", "0,", "head", "0", "0.000", "0.000", "1.000", "1.000", "1.000", "0.000"],
        ["layer", "0,", "head", "1", "1.000", "1.000", "0.000", "0.000", "0.000", "1.000"],
    ]
    assert lines[7].split()[:5] == ["best", "combination", "1.000", "1.000", "0.000"]


def test_a_model_of_the_other_direction_is_turned_round():
    shift = frozenset({(1, 0), (2, 1), (0, 2)})
    gold = [GoldLinks(shift, shift)]
    plain = AlignmentRule("plain", ((0, 0),))
    assert score_alignments(side([rows(1, 2, 0, 3)]).links(plain), gold).error_rate == 0
    assert score_alignments(side([rows(2, 0, 1, 3)], is_reverse=True).links(plain), gold).error_rate == 0


@pytest.mark.parametrize("layers", [1, 2])
def test_both_directions_are_read_alike_where_both_have_the_layer(layers):
    good = [rows(0, 1, 2, 3), rows(0, 1, 2, 3)]
    lines = list(report_tables([side(good), side(*[good] * layers, is_reverse=True)], GOLD))
    both = lines[next(n for n, line in enumerate(lines) if line.startswith("both ways")) :]
    shared = ["all heads", "layer 0"] if layers == 1 else ["layer 0"]
    expected = [f"{method}, {name}" for method in ("plain", "shifted") for name in shared]
    assert [line.split("  ")[0] for line in both[1:-2]] == expected
    assert both[1].split()[-4:] == ["0.000"] * 4
