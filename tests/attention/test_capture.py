"""Captured weights are those of the model that translated, without the padding of the pass that collects them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny_run import SOURCES, TARGETS, TINY_CONFIG, random_params

from transformer_jax.attention import capture as module
from transformer_jax.attention.capture import ALTERNATIVES, LENGTHS, capture
from transformer_jax.data.tokenizers import train_tokenizers
from transformer_jax.model.transformer import Transformer


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(TINY_CONFIG.tokenizer, SOURCES, TARGETS)


@pytest.fixture(scope="module")
def case(tokenizers):
    model = Transformer(TINY_CONFIG.model, len(tokenizers.source), len(tokenizers.target))
    return model, random_params(model, seed=0)


def encoded(tokenizer, length):
    """A text of marks that no merge joins, and its token ids: that many, [EOS] last."""
    text = "".join("#$%&*+<=>@^|~"[5 * place % 13] for place in range(length - 1))
    [ids] = tokenizer.encode([text])
    assert len(ids) == length - 1
    return text, (*ids, tokenizer.eos_id)


@pytest.mark.parametrize(("s", "t"), [(7, 5), (1, 1), (LENGTHS, LENGTHS + 1)])
def test_weights_are_those_of_an_unpadded_pass(s, t, case, tokenizers):
    model, params = case
    (source_text, source), (target_text, target) = encoded(tokenizers.source, s), encoded(tokenizers.target, t)
    found = capture(model, params, tokenizers, source_text, target_text, source, target)
    inputs = jnp.asarray([[tokenizers.target.sos_id, *target[:-1]]])
    ones = jnp.ones((1, s), jnp.int32), jnp.ones((1, t), jnp.int32)
    apply = jax.jit(partial(model.apply, mutable=["intermediates"]))
    _, sown = apply({"params": params}, jnp.asarray([source]), inputs, *ones)
    encoder, decoder = sown["intermediates"]["encoder"], sown["intermediates"]["decoder"]
    assert found.encoder.shape == (1, 2, s, s)
    assert found.decoder.shape == (2, 2, t, t)
    assert found.cross.shape == (2, 2, t, s)
    assert_allclose(found.encoder[0], encoder["blocks_0"]["self_attention"]["attention"][0][0], atol=1e-5)
    logits = jax.jit(model.apply)({"params": params}, jnp.asarray([source]), inputs, *ones)[0]
    probabilities = np.asarray(jax.nn.softmax(logits))
    assert_allclose(found.probabilities, probabilities[range(t), target], rtol=1e-4)
    assert_allclose(found.alternative_probabilities, np.sort(probabilities)[:, : -ALTERNATIVES - 1 : -1], rtol=1e-4)
    likeliest = np.argsort(-probabilities)[:, :ALTERNATIVES]
    assert found.alternatives == tuple(tuple(tokenizers.target.tokens(ids)) for ids in likeliest)
    for layer in (0, 1):
        block = decoder[f"blocks_{layer}"]
        assert_allclose(found.decoder[layer], block["self_attention"]["attention"][0][0], atol=1e-5)
        assert_allclose(found.cross[layer], block["cross_attention"]["attention"][0][0], atol=1e-5)


def test_rows_sum_to_1_and_the_decoder_looks_back_only(case, tokenizers):
    (source_text, source), (target_text, target) = encoded(tokenizers.source, 7), encoded(tokenizers.target, 11)
    found = capture(*case, tokenizers, source_text, target_text, source, target)
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
    for words, tokens, text in (
        (found.source_words, found.source_tokens, found.source),
        (found.target_words, found.target_tokens, found.translation),
    ):
        for number, word in enumerate(text.split()):
            pieces = "".join(token for token, one in zip(tokens, words, strict=True) if one == number)
            assert pieces.lstrip("▁") == word
        assert words[-1] == -1


def test_few_programs_are_compiled(case, tokenizers):
    before = module._run._cache_size()
    for length in (2, 3, 5):
        text, ids = encoded(tokenizers.source, length)
        capture(*case, tokenizers, text, text, ids, ids)
    assert module._run._cache_size() - before <= 1
