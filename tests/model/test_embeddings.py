import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from transformer_jax.model.embeddings import InputEmbeddings, PositionalEncoding, sinusoids


def test_position_zero_encodes_zeros_and_ones():
    assert_array_equal(sinusoids(jnp.array([[0]]), 6), [[[0, 1, 0, 1, 0, 1]]])


def test_sinusoids_match_hand_computed_values():
    # D = 4: the angles of the pairs grow by 1 / 10000^(0/4) = 1 and 1 / 10000^(2/4) = 1/100 per position.
    expected = [
        [[np.sin(1), np.cos(1), np.sin(0.01), np.cos(0.01)], [np.sin(3), np.cos(3), np.sin(0.03), np.cos(0.03)]]
    ]
    assert_allclose(sinusoids(jnp.array([[1, 3]]), 4), expected, atol=1e-6)
    assert_allclose(expected[0][0], [0.8415, 0.5403, 0.0100, 0.99995], atol=5e-5)


def test_sinusoids_are_accurate_at_large_positions():
    positions = np.array([[499, 997]])
    angles = positions[..., None] / 10_000.0 ** (np.arange(0, 22, 2) / 22)
    expected = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(1, 2, 22)
    assert_allclose(sinusoids(jnp.asarray(positions), 22), expected, atol=2e-4)


def test_similarity_of_positions_depends_only_on_distance():
    encoded = np.asarray(sinusoids(jnp.arange(23)[None], 22))[0]
    similarity = encoded @ encoded.T
    for distance in range(1, 13):
        assert_allclose(np.diagonal(similarity, distance), similarity[0, distance], rtol=1e-4)


def test_embedding_is_the_table_row_times_root_of_d_model():
    table = jnp.arange(5 * 16, dtype=jnp.float32).reshape(5, 16)
    embedded = InputEmbeddings(5, 16).apply({"params": {"table": table}}, jnp.array([[3, 0, 3]]))
    assert_array_equal(embedded, 4 * jnp.stack([table[3], table[0], table[3]])[None])


def test_embeddings_start_with_unit_variance():
    tokens = jnp.arange(997)[None]
    embedded, _ = InputEmbeddings(997, 22).init_with_output(jax.random.key(0), tokens)
    assert_allclose(embedded.std(), 1, atol=0.02)  # 21,934 values: the standard error is 0.005
    assert_allclose(embedded.mean(), 0, atol=0.02)


def test_embeddings_use_the_given_dtype_and_a_float32_table():
    embedded, variables = InputEmbeddings(5, 6, jnp.bfloat16).init_with_output(jax.random.key(0), jnp.array([[1]]))
    assert embedded.dtype == jnp.bfloat16
    assert variables["params"]["table"].dtype == jnp.float32


def test_positional_encoding_adds_sinusoids_of_given_positions():
    x = jnp.linspace(-1, 1, 3 * 5 * 6).reshape(3, 5, 6)
    positions = jnp.array([[0, 1, 2, 0, 1]])  # a second sentence starts at the fourth position of every row
    encoded = PositionalEncoding().apply({}, x, positions)
    assert_allclose(
        encoded[:, :3] - x[:, :3], jnp.broadcast_to(sinusoids(jnp.arange(3)[None], 6), (3, 3, 6)), atol=1e-6
    )
    assert_allclose(encoded[:, 3:] - x[:, 3:], encoded[:, :2] - x[:, :2], atol=1e-6)


def test_positional_encoding_keeps_the_input_dtype():
    x = jnp.zeros((1, 2, 6), jnp.bfloat16)
    assert PositionalEncoding().apply({}, x, jnp.array([[0, 1]])).dtype == jnp.bfloat16


@pytest.mark.parametrize("key", [None, 0])
def test_dropout_applies_to_embedding_plus_position(key):
    x = jnp.full((1, 97, 22), 5.0)  # at least 4 with any sinusoid added
    rngs = None if key is None else {"dropout": jax.random.key(key)}
    encoded = PositionalEncoding(dropout=0.5).apply({}, x, jnp.arange(97)[None], rngs=rngs)
    total = x + sinusoids(jnp.arange(97)[None], 22)
    if key is None:
        assert_allclose(encoded, total, rtol=1e-6)
    else:
        dropped = encoded == 0
        assert_allclose(dropped.mean(), 0.5, atol=0.05)
        assert_allclose(encoded, jnp.where(dropped, 0, 2 * total), rtol=1e-6)


def test_halves_layout_puts_all_sines_first():
    positions = jnp.array([[0, 1, 7]])
    interleaved, halves = (np.asarray(sinusoids(positions, 6, layout)) for layout in ("interleaved", "halves"))
    assert_array_equal(halves, interleaved[..., [0, 2, 4, 1, 3, 5]])


def test_embeddings_without_scale_are_table_rows():
    table = jnp.arange(15.0).reshape(5, 3)
    embedded = InputEmbeddings(5, 3, scale="none").apply({"params": {"table": table}}, jnp.array([[3, 0]]))
    assert_array_equal(embedded, [[[9, 10, 11], [0, 1, 2]]])
