"""Weights of many pairs at once are those of each alone."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny_run import TINY_CONFIG, random_params

from transformer_jax.alignment import cross_attention as module
from transformer_jax.alignment.cross_attention import LENGTH_MULTIPLE, TokenizedPair, compute_cross_attention
from transformer_jax.model.transformer import Transformer

VOCABULARY, START, END = 29, 2, 3


@pytest.fixture(scope="module")
def case():
    model = Transformer(TINY_CONFIG.model, VOCABULARY, VOCABULARY)
    return model, random_params(model, seed=0)


def pairs_of(*lengths):
    """Random ids, [EOS] last."""
    draw = np.random.default_rng(0).integers
    return [
        TokenizedPair("", "", *([*draw(4, VOCABULARY, length - 1).tolist(), END] for length in pair))
        for pair in lengths
    ]


def test_weights_are_those_of_an_unpadded_pass_whatever_else_is_in_the_batch(case, monkeypatch):
    monkeypatch.setattr(module, "MAX_BATCH_TOKENS", 2 * LENGTH_MULTIPLE)  # two rows in a batch
    model, params = case
    pairs = pairs_of((7, 5), (1, 1), (LENGTH_MULTIPLE, LENGTH_MULTIPLE + 1), (3, 11), (13, 2), (1, 7))
    found = dict(compute_cross_attention(model, params, START, pairs))
    assert sorted(found) == list(range(len(pairs)))
    for number in (0, 1, 2, 4):
        _, _, source, target = pairs[number]
        ones = [jnp.ones((1, len(ids)), jnp.int32) for ids in (source, target)]
        _, sown = model.apply(
            {"params": params},
            jnp.asarray([source]),
            jnp.asarray([[START, *target[:-1]]]),
            *ones,
            mutable=["intermediates"],
        )
        assert found[number].shape == (2, 2, len(target), len(source))
        assert_allclose(found[number].sum(-1), 1, atol=1e-5)
        for layer in (0, 1):
            [weights] = sown["intermediates"]["decoder"][f"blocks_{layer}"]["cross_attention"]["attention"]
            assert_allclose(found[number][layer], weights[0], atol=1e-5)


def test_few_programs_are_compiled(case):
    before = module._cross_attention_batch._cache_size()
    for count in (2, 3, 5):
        list(compute_cross_attention(*case, START, pairs_of(*[(3, 5)] * count)))
    assert module._cross_attention_batch._cache_size() - before <= 1


def test_no_pairs_have_no_weights(case):
    assert list(compute_cross_attention(*case, START, [])) == []
