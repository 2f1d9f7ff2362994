"""Tables of alignment scores, and the search for the best combination of heads."""

import numpy as np
import pytest

from transformer_jax.alignment.error_rate import GoldLinks, score_alignments
from transformer_jax.alignment.reading import AlignmentRule, PairAttention
from transformer_jax.alignment.report import ModelAttention, best_rule, report_tables

WORDS = (0, 1, 2, -1)
DIAGONAL = frozenset({(0, 0), (1, 1), (2, 2)})
GOLD = [GoldLinks(DIAGONAL, DIAGONAL)]


def rows(*sources):
    """Return the weights of one head. Row t has its largest weight at the t-th of these source words."""
    weights = np.full((4, 4), 0.1, np.float32)
    weights[range(4), list(sources)] = 0.7
    return weights


def model_with(*layers, is_reverse=False):
    return ModelAttention("model", [PairAttention(np.asarray(layers, np.float32), WORDS, WORDS)], is_reverse)


def test_the_best_rule_may_be_a_single_head():
    model = model_with([rows(2, 2, 2, 2), rows(1, 1, 1, 1)], [rows(0, 0, 0, 0), rows(3, 0, 1, 2)])
    assert best_rule(model, GOLD) == AlignmentRule("shifted", ((1, 1),))


def test_the_best_rule_may_combine_heads():
    # The first head is correct for word 0, the second for words 1 and 2. The third is wrong for all words.
    first, second, third = rows(0, 2, 1, 3), rows(1, 1, 2, 3), rows(2, 0, 0, 3)
    first[0], second[0], first[1:3] = [0.9, 0, 0, 0.1], [0.3, 0.4, 0.2, 0.1], 0.25
    model = model_with([first, second, third])
    rule = best_rule(model, GOLD)
    assert rule.method == "plain"
    assert sorted(rule.heads) == [(0, 0), (0, 1)]
    assert score_alignments(model.links(rule), GOLD).error_rate == 0


def test_a_table_has_rows_for_layers_and_heads():
    lines = list(report_tables([model_with([rows(2, 0, 1, 2), rows(0, 1, 2, 3)])], GOLD))
    assert lines[0] == "model"
    assert [line.split() for line in lines[4:7]] == [
        ["layer", "0", *lines[3].split()[2:]],
        ["layer", "0,", "head", "0", "0.000", "0.000", "1.000", "1.000", "1.000", "0.000"],
        ["layer", "0,", "head", "1", "1.000", "1.000", "0.000", "0.000", "0.000", "1.000"],
    ]
    assert lines[7].split()[:5] == ["best", "combination", "1.000", "1.000", "0.000"]


def test_the_links_of_a_reverse_model_are_transposed():
    shift = frozenset({(1, 0), (2, 1), (0, 2)})
    gold = [GoldLinks(shift, shift)]
    plain = AlignmentRule("plain", ((0, 0),))
    assert score_alignments(model_with([rows(1, 2, 0, 3)]).links(plain), gold).error_rate == 0
    assert score_alignments(model_with([rows(2, 0, 1, 3)], is_reverse=True).links(plain), gold).error_rate == 0


@pytest.mark.parametrize("layers", [1, 2])
def test_symmetrizations_are_listed_for_layers_of_both_models(layers):
    good = [rows(0, 1, 2, 3), rows(0, 1, 2, 3)]
    lines = list(report_tables([model_with(good), model_with(*[good] * layers, is_reverse=True)], GOLD))
    table = lines[next(index for index, line in enumerate(lines) if line.startswith("both ways")) :]
    shared = ["all heads", "layer 0"] if layers == 1 else ["layer 0"]
    expected = [f"{method}, {name}" for method in ("plain", "shifted") for name in shared]
    assert [line.split("  ")[0] for line in table[1:-2]] == expected
    assert table[1].split()[-4:] == ["0.000"] * 4
