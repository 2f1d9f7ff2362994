import jax.numpy as jnp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_array_equal

from transformer_jax.model.masks import causal_mask, padding_mask, segment_mask


def test_causal_mask_allows_current_and_earlier_positions():
    assert_array_equal(causal_mask(3), [[[[True, False, False], [True, True, False], [True, True, True]]]])


def test_padding_mask_excludes_only_the_padding_id():
    tokens = jnp.array([[5, 0, 7], [7, 7, 0]])
    assert_array_equal(padding_mask(tokens, pad_id=7), [[[[True, True, False]]], [[[False, False, True]]]])
    assert_array_equal(padding_mask(tokens, pad_id=0), [[[[True, False, True]]], [[[True, True, False]]]])


def test_segment_mask_allows_the_same_sentence_but_no_padding():
    queries = jnp.array([[1, 2, 0]])
    keys = jnp.array([[1, 1, 2, 3, 0]])
    first, second, padding = [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]
    assert_array_equal(segment_mask(queries, keys), jnp.array([[[first, second, padding]]], dtype=bool))


def test_segment_mask_separates_rows():
    segments = jnp.array([[1, 1], [1, 0]])
    mask = segment_mask(segments, segments)
    assert_array_equal(mask[0, 0], [[True, True], [True, True]])
    assert_array_equal(mask[1, 0], [[True, False], [False, False]])


SEGMENTS = arrays.arrays("int32", (2, 7), elements=st.integers(0, 3))


@given(SEGMENTS, SEGMENTS)
def test_masks_follow_their_definition_for_every_pair(queries, keys):
    mask = segment_mask(jnp.asarray(queries), jnp.asarray(keys))
    assert mask.tolist() == [
        [[[bool(key == query and key) for key in key_row] for query in query_row]]
        for query_row, key_row in zip(queries.tolist(), keys.tolist(), strict=True)
    ]
    assert_array_equal(padding_mask(jnp.asarray(keys), pad_id=0), (keys != 0)[:, None, None, :])


@given(arrays.arrays("int32", (1, 7), elements=st.integers(1, 3)).map(lambda segments: segments.cumsum(-1)))
def test_packed_rows_see_only_earlier_tokens_of_the_sentence(segments):
    mask = (segment_mask(jnp.asarray(segments), jnp.asarray(segments)) & causal_mask(7))[0, 0].tolist()
    row = segments[0].tolist()
    assert mask == [[s <= t and row[s] == row[t] for s in range(7)] for t in range(7)]
