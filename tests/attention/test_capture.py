"""Captured weights are those of the model that translated, without the padding of the pass that collects them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny_run import SETTINGS, SOURCES, TARGETS, random_params

from transformer_jax.attention import capture as module
from transformer_jax.attention.alignment import strongest_sources
from transformer_jax.attention.capture import LENGTHS, capture
from transformer_jax.attention.dump import Attention
from transformer_jax.data.tokenizers import train_tokenizers
from transformer_jax.model.transformer import Transformer


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(SETTINGS.tokenizer, SOURCES, TARGETS)


@pytest.fixture(scope="module")
def case(tokenizers):
    model = Transformer(SETTINGS.model, len(tokenizers.source), len(tokenizers.target))
    return model, random_params(model, seed=0)


def ids_of(tokenizer, length):
    """Token ids of that many, [EOS] last."""
    return (*np.random.default_rng(length).integers(4, len(tokenizer), length - 1).tolist(), tokenizer.eos_id)


@pytest.mark.parametrize(("s", "t"), [(7, 5), (1, 1), (LENGTHS, LENGTHS + 1)])
def test_weights_are_those_of_an_unpadded_pass(s, t, case, tokenizers):
    model, params = case
    source, target = ids_of(tokenizers.source, s), ids_of(tokenizers.target, t)
    found = capture(model, params, tokenizers, "source", "target", source, target)
    inputs = jnp.asarray([[tokenizers.target.sos_id, *target[:-1]]])
    ones = jnp.ones((1, s), jnp.int32), jnp.ones((1, t), jnp.int32)
    apply = jax.jit(partial(model.apply, mutable=["intermediates"]))
    _, sown = apply({"params": params}, jnp.asarray([source]), inputs, *ones)
    encoder, decoder = sown["intermediates"]["encoder"], sown["intermediates"]["decoder"]
    assert found.encoder.shape == (1, 2, s, s)
    assert found.decoder.shape == (2, 2, t, t)
    assert found.cross.shape == (2, 2, t, s)
    assert_allclose(found.encoder[0], encoder["blocks_0"]["self_attention"]["attention"][0][0], atol=1e-5)
    for layer in (0, 1):
        block = decoder[f"blocks_{layer}"]
        assert_allclose(found.decoder[layer], block["self_attention"]["attention"][0][0], atol=1e-5)
        assert_allclose(found.cross[layer], block["cross_attention"]["attention"][0][0], atol=1e-5)


def test_rows_sum_to_1_and_the_decoder_looks_back_only(case, tokenizers):
    found = capture(*case, tokenizers, "s", "t", ids_of(tokenizers.source, 7), ids_of(tokenizers.target, 11))
    for weights in (found.encoder, found.decoder, found.cross):
        assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert not np.triu(found.decoder, 1).any()


def test_tokens_name_rows_and_columns(case, tokenizers):
    [source], [target] = tokenizers.source.encode(["Where is it?"]), tokenizers.target.encode(["Wo ist es?"])
    eos = tokenizers.source.eos_id
    found = capture(*case, tokenizers, "Where is it?", "Wo ist es?", [*source, eos], [*target, eos])
    assert found.source_tokens == (*tokenizers.source.tokens(source), "[EOS]")
    assert found.target_tokens == (*tokenizers.target.tokens(target), "[EOS]")
    assert found.target_inputs == ("[SOS]", *found.target_tokens[:-1])
    assert (found.source, found.translation) == ("Where is it?", "Wo ist es?")


def test_few_programs_are_compiled(case, tokenizers):
    before = module._weights._cache_size()
    for length in (2, 3, 5):
        capture(*case, tokenizers, "s", "t", ids_of(tokenizers.source, length), ids_of(tokenizers.target, length))
    assert module._weights._cache_size() - before <= 1


def test_alignment_is_the_source_token_with_the_most_weight_over_all_layers_and_heads():
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
