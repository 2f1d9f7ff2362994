"""Links are read off the right row, the right heads and the right columns."""

import numpy as np
import pytest

from transformer_jax.attention.alignment import AlignedTokens, Reading, read_links, strongest_sources, turned
from transformer_jax.attention.dump import Attention

HEAD = ((0, 0),)


def one_head(*rows):
    """A layer of one head."""
    return np.asarray([[rows]], np.float32)


def test_plain_reads_a_word_off_the_step_that_predicts_it_and_shifted_off_the_next():
    # Three steps, which read [SOS], y0, y1 and predict y0, y1, [EOS]; they attend to words 2, 0 and 1.
    pair = AlignedTokens(one_head([0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]), (0, 1, 2, -1), (0, 1, -1))
    assert read_links(pair, Reading("plain", HEAD)) == {(2, 0), (0, 1)}
    assert read_links(pair, Reading("shifted", HEAD)) == {(0, 0), (1, 1)}


def test_tokens_without_a_word_are_no_ones_translation():
    pair = AlignedTokens(one_head([0.1, 0.5, 0.4], [0.3, 0.1, 0.6], [0, 0, 1]), (0, -1, -1), (-1, 0, -1))
    assert read_links(pair, Reading("plain", HEAD)) == {(0, 0)}


def test_a_word_is_linked_to_all_that_its_pieces_are_linked_to():
    # A target word of two pieces, and two source words, the first of two pieces: each piece has a link of its own.
    cross = one_head([0.4, 0.3, 0.3, 0], [0.2, 0.3, 0.5, 0], [1, 0, 0, 0])
    assert read_links(AlignedTokens(cross, (0, 0, 1, -1), (0, 0, -1)), Reading("plain", HEAD)) == {(0, 0), (1, 0)}


def test_the_weights_of_the_chosen_heads_are_averaged():
    rng = np.random.default_rng(0)
    cross = rng.random((2, 3, 6, 8), np.float32)
    words = (*range(7), -1), (*range(5), -1)
    heads = ((0, 1), (1, 0), (1, 2))
    average = (cross[0, 1] + cross[1, 0] + cross[1, 2]) / 3
    for method in ("plain", "shifted"):
        alone = read_links(AlignedTokens(average[None, None], *words), Reading(method, HEAD))
        assert read_links(AlignedTokens(cross, *words), Reading(method, heads)) == alone


def test_links_of_a_model_that_translates_the_other_way_are_turned_round():
    cross = one_head([0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0])
    pair = AlignedTokens(cross, (0, 1, 2, -1), (0, 1, -1))
    assert turned(read_links(pair, Reading("plain", HEAD))) == {(0, 2), (1, 0)}


@pytest.mark.parametrize("words", [((-1,), (-1,)), ((-1,), (0, -1)), ((0, -1), (-1,))])
def test_a_side_without_words_has_no_links(words):
    cross = np.ones((1, 1, len(words[1]), len(words[0])), np.float32)
    assert read_links(AlignedTokens(cross, *words), Reading("shifted", HEAD)) == frozenset()


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
    assert strongest_sources(attention) == [1, 2]
