"""Links come from the correct rows, heads and columns of the weights."""

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


def links_of(pair, rule):
    """Return the links of a model that writes the target."""
    return link_target_words(word_weights(pair, rule))


def one_head(*rows):
    """Return the weights of one layer with one head."""
    return np.asarray([[rows]], np.float32)


def test_plain_uses_the_predicting_step_and_shifted_the_next():
    # Three steps read [SOS], y0, y1, predict y0, y1, [EOS], and attend to words 2, 0 and 1.
    pair = PairAttention(one_head([0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]), (0, 1, 2, -1), (0, 1, -1))
    assert links_of(pair, AlignmentRule("plain", HEAD)) == {(2, 0), (0, 1)}
    assert links_of(pair, AlignmentRule("shifted", HEAD)) == {(0, 0), (1, 1)}


def test_tokens_without_a_word_get_no_link():
    pair = PairAttention(one_head([0.1, 0.5, 0.4], [0.3, 0.1, 0.6], [0, 0, 1]), (0, -1, -1), (-1, 0, -1))
    assert links_of(pair, AlignmentRule("plain", HEAD)) == {(0, 0)}


def test_weights_are_summed_over_source_and_averaged_over_target():
    # The target word has two tokens. The source has two words, the first with two tokens. [EOS] gets a quarter.
    pair = PairAttention(
        one_head([0.4, 0.25, 0.1, 0.25], [0, 0.25, 0.5, 0.25], [1, 0, 0, 0]), (0, 0, 1, -1), (0, 0, -1)
    )
    np.testing.assert_allclose(word_weights(pair, AlignmentRule("plain", HEAD)), [[0.45], [0.3]], rtol=1e-6)


def test_a_word_without_tokens_or_weight_gets_no_link():
    weights = np.asarray([[0.5, 0, 0.1], [0, 0, 0], [0.2, 0, 0.3]])
    assert link_target_words(weights) == {(0, 0), (2, 2)}
    assert link_source_words(weights) == {(0, 0), (2, 2)}
    # Target word 1 has no token, like a word that decoding omits.
    pair = PairAttention(one_head([1, 0, 0], [0, 1, 0], [0, 0, 1]), (0, 1, -1), (0, 2, -1))
    assert links_of(pair, AlignmentRule("plain", HEAD)) == {(0, 0), (1, 2)}


def test_the_weights_of_the_chosen_heads_are_averaged():
    rng = np.random.default_rng(0)
    cross = rng.random((2, 3, 6, 8), np.float32)
    words = (*range(7), -1), (*range(5), -1)
    heads = ((0, 1), (1, 0), (1, 2))
    average = (cross[0, 1] + cross[1, 0] + cross[1, 2]) / 3
    for method in ("plain", "shifted"):
        expected = links_of(PairAttention(average[None, None], *words), AlignmentRule(method, HEAD))
        assert links_of(PairAttention(cross, *words), AlignmentRule(method, heads)) == expected


def test_a_model_of_the_other_direction_links_source_words():
    # The model writes the source words of the pair. The first one comes from word 2, the second from word 0.
    pair = PairAttention(one_head([0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]), (0, 1, 2, -1), (0, 1, -1))
    assert link_source_words(word_weights(pair, AlignmentRule("plain", HEAD)).T) == {(0, 2), (1, 0)}


@pytest.mark.parametrize("words", [((-1,), (-1,)), ((-1,), (0, -1)), ((0, -1), (-1,))])
def test_an_empty_source_or_target_has_no_links(words):
    cross = np.ones((1, 1, len(words[1]), len(words[0])), np.float32)
    assert links_of(PairAttention(cross, *words), AlignmentRule("shifted", HEAD)) == frozenset()


def test_strongest_source_tokens_have_the_largest_mean_weight():
    # Two layers with one head, two target tokens, three source tokens. The means are (.3, .5, .2) and (.35, .2, .45).
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
