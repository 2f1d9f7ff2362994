"""Links are read off the right row, the right heads and the right columns."""

import numpy as np
import pytest

from transformer_jax.alignment.reading import (
    AlignmentRule,
    PairAttention,
    link_source_words,
    link_target_words,
    strongest_source_tokens,
    word_weights,
)
from transformer_jax.attention.weights import Attention

HEAD = ((0, 0),)


def read_links(pair, reading):
    """What a model that writes the target finds."""
    return link_target_words(word_weights(pair, reading))


def one_head(*rows):
    """A layer of one head."""
    return np.asarray([[rows]], np.float32)


def test_plain_reads_a_word_off_the_step_that_predicts_it_and_shifted_off_the_next():
    # Three steps, which read [SOS], y0, y1 and predict y0, y1, [EOS]; they attend to words 2, 0 and 1.
    pair = PairAttention(one_head([0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]), (0, 1, 2, -1), (0, 1, -1))
    assert read_links(pair, AlignmentRule("plain", HEAD)) == {(2, 0), (0, 1)}
    assert read_links(pair, AlignmentRule("shifted", HEAD)) == {(0, 0), (1, 1)}


def test_tokens_without_a_word_are_no_ones_translation():
    pair = PairAttention(one_head([0.1, 0.5, 0.4], [0.3, 0.1, 0.6], [0, 0, 1]), (0, -1, -1), (-1, 0, -1))
    assert read_links(pair, AlignmentRule("plain", HEAD)) == {(0, 0)}


def test_weights_between_words_are_summed_over_the_pieces_read_and_averaged_over_those_that_read():
    # A target word of two pieces, and two source words, the first of two pieces; a quarter is read off [EOS].
    pair = PairAttention(
        one_head([0.4, 0.25, 0.1, 0.25], [0, 0.25, 0.5, 0.25], [1, 0, 0, 0]), (0, 0, 1, -1), (0, 0, -1)
    )
    np.testing.assert_allclose(word_weights(pair, AlignmentRule("plain", HEAD)), [[0.45], [0.3]], rtol=1e-6)


def test_a_word_without_tokens_or_weight_has_no_link():
    weights = np.asarray([[0.5, 0, 0.1], [0, 0, 0], [0.2, 0, 0.3]])
    assert link_target_words(weights) == {(0, 0), (2, 2)}
    assert link_source_words(weights) == {(0, 0), (2, 2)}
    # Target word 1 has no token, as one that is left out in decoding.
    pair = PairAttention(one_head([1, 0, 0], [0, 1, 0], [0, 0, 1]), (0, 1, -1), (0, 2, -1))
    assert read_links(pair, AlignmentRule("plain", HEAD)) == {(0, 0), (1, 2)}


def test_the_weights_of_the_chosen_heads_are_averaged():
    rng = np.random.default_rng(0)
    cross = rng.random((2, 3, 6, 8), np.float32)
    words = (*range(7), -1), (*range(5), -1)
    heads = ((0, 1), (1, 0), (1, 2))
    average = (cross[0, 1] + cross[1, 0] + cross[1, 2]) / 3
    for method in ("plain", "shifted"):
        alone = read_links(PairAttention(average[None, None], *words), AlignmentRule(method, HEAD))
        assert read_links(PairAttention(cross, *words), AlignmentRule(method, heads)) == alone


def test_a_model_that_translates_the_other_way_links_each_source_word():
    # The pair's source words are those that the model writes: the first is read off word 2, the second off word 0.
    pair = PairAttention(one_head([0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]), (0, 1, 2, -1), (0, 1, -1))
    assert link_source_words(word_weights(pair, AlignmentRule("plain", HEAD)).T) == {(0, 2), (1, 0)}


@pytest.mark.parametrize("words", [((-1,), (-1,)), ((-1,), (0, -1)), ((0, -1), (-1,))])
def test_a_side_without_words_has_no_links(words):
    cross = np.ones((1, 1, len(words[1]), len(words[0])), np.float32)
    assert read_links(PairAttention(cross, *words), AlignmentRule("shifted", HEAD)) == frozenset()


def test_the_strongest_source_is_the_token_with_the_most_weight_over_all_layers_and_heads():
    # Two layers of one head, two target and three source tokens. Means: (.3, .5, .2) and (.35, .2, .45).
    cross = np.asarray([[[[0.6, 0.3, 0.1], [0.0, 0.4, 0.6]]], [[[0.0, 0.7, 0.3], [0.7, 0.0, 0.3]]]], np.float32)
    attention = Attention(
        encoder=np.zeros((1, 1, 3, 3), np.float32),
        decoder=np.zeros((2, 1, 2, 2), np.float32),
        cross=cross,
        source_tokens=("a", "b", "[EOS]"),
        target_tokens=("c", "[EOS]"),
        target_inputs=("[SOS]", "c"),
        source="ab",
        translation="c",
    )
    assert strongest_source_tokens(attention) == [1, 2]
