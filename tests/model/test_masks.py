import jax.numpy as jnp
from numpy.testing import assert_array_equal

from transformer_jax.model.masks import causal_mask, padding_mask, segment_mask


def test_causal_mask_allows_a_position_itself_and_all_before():
    assert_array_equal(causal_mask(3), [[[[True, False, False], [True, True, False], [True, True, True]]]])


def test_padding_mask_forbids_the_given_id_and_nothing_else():
    tokens = jnp.array([[5, 0, 7], [7, 7, 0]])
    assert_array_equal(padding_mask(tokens, pad_id=7), [[[[True, True, False]]], [[[False, False, True]]]])
    assert_array_equal(padding_mask(tokens, pad_id=0), [[[[True, False, True]]], [[[True, True, False]]]])


def test_segment_mask_allows_the_same_sentence_and_never_padding():
    queries = jnp.array([[1, 2, 0]])
    keys = jnp.array([[1, 1, 2, 3, 0]])
    first, second, padding = [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]
    assert_array_equal(segment_mask(queries, keys), jnp.array([[[first, second, padding]]], dtype=bool))


def test_segment_mask_keeps_rows_apart():
    segments = jnp.array([[1, 1], [1, 0]])
    mask = segment_mask(segments, segments)
    assert_array_equal(mask[0, 0], [[True, True], [True, True]])
    assert_array_equal(mask[1, 0], [[True, False], [False, False]])
