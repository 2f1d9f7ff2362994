"""Batched cross-attention weights equal those of each pair alone."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny_run import TINY_CONFIG, random_params

from transformer_jax.alignment import cross_attention as cross_attention_module
from transformer_jax.alignment.cross_attention import LENGTH_MULTIPLE, TokenizedPair, compute_cross_attention
from transformer_jax.model.transformer import Transformer

VOCAB_SIZE, SOS, EOS = 29, 2, 3


@pytest.fixture(scope="module")
def case():
    model = Transformer(TINY_CONFIG.model, VOCAB_SIZE, VOCAB_SIZE)
    return model, random_params(model, seed=0)


def pairs_of(*lengths):
    """Return pairs of random ids, [EOS] last, with these source and target lengths."""
    draw = np.random.default_rng(0).integers
    return [
        TokenizedPair("", "", *([*draw(4, VOCAB_SIZE, length - 1).tolist(), EOS] for length in pair))
        for pair in lengths
    ]


def test_weights_equal_those_of_unpadded_single_passes(case, monkeypatch):
    monkeypatch.setattr(cross_attention_module, "MAX_BATCH_TOKENS", 2 * LENGTH_MULTIPLE)  # two pairs per batch
    model, params = case
    pairs = pairs_of((7, 5), (1, 1), (LENGTH_MULTIPLE, LENGTH_MULTIPLE + 1), (3, 11), (13, 2), (1, 7))
    weights = dict(compute_cross_attention(model, params, SOS, pairs))
    assert sorted(weights) == list(range(len(pairs)))
    for index in (0, 1, 2, 4):
        _, _, source, target = pairs[index]
        ones = [jnp.ones((1, len(ids)), jnp.int32) for ids in (source, target)]
        _, sown = model.apply(
            {"params": params},
            jnp.asarray([source]),
            jnp.asarray([[SOS, *target[:-1]]]),
            *ones,
            mutable=["intermediates"],
        )
        assert weights[index].shape == (2, 2, len(target), len(source))
        assert_allclose(weights[index].sum(-1), 1, atol=1e-5)
        for layer in (0, 1):
            [expected] = sown["intermediates"]["decoder"][f"blocks_{layer}"]["cross_attention"]["attention"]
            assert_allclose(weights[index][layer], expected[0], atol=1e-5)


def test_batches_of_one_length_share_a_program(case):
    before = cross_attention_module._cross_attention_batch._cache_size()
    for count in (2, 3, 5):
        list(compute_cross_attention(*case, SOS, pairs_of(*[(3, 5)] * count)))
    assert cross_attention_module._cross_attention_batch._cache_size() - before <= 1


def test_no_pairs_have_no_weights(case):
    assert list(compute_cross_attention(*case, SOS, [])) == []
