"""Captured weights equal those of the model's own forward pass, without padding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny_run import SOURCES, TARGETS, TINY_CONFIG, random_params

from transformer_jax.attention import capture
from transformer_jax.attention.capture import LENGTH_MULTIPLE, MAX_ALTERNATIVES, capture_attention
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
    """Return a text of symbols that BPE does not merge, and its ``length`` token ids, the last of which is [EOS]."""
    text = "".join("#$%&*+<=>@^|~"[5 * index % 13] for index in range(length - 1))
    [ids] = tokenizer.encode([text])
    assert len(ids) == length - 1
    return text, (*ids, tokenizer.eos_id)


@pytest.mark.parametrize(("s", "t"), [(7, 5), (1, 1), (LENGTH_MULTIPLE, LENGTH_MULTIPLE + 1)])
def test_weights_equal_those_of_an_unpadded_pass(s, t, case, tokenizers):
    model, params = case
    (source_text, source), (target_text, target) = encoded(tokenizers.source, s), encoded(tokenizers.target, t)
    captured = capture_attention(model, params, tokenizers, source_text, target_text, source, target)
    inputs = jnp.asarray([[tokenizers.target.sos_id, *target[:-1]]])
    ones = jnp.ones((1, s), jnp.int32), jnp.ones((1, t), jnp.int32)
    apply = jax.jit(partial(model.apply, mutable=["intermediates"]))
    _, sown = apply({"params": params}, jnp.asarray([source]), inputs, *ones)
    encoder, decoder = sown["intermediates"]["encoder"], sown["intermediates"]["decoder"]
    assert captured.encoder.shape == (1, 2, s, s)
    assert captured.decoder.shape == (2, 2, t, t)
    assert captured.cross.shape == (2, 2, t, s)
    assert_allclose(captured.encoder[0], encoder["blocks_0"]["self_attention"]["attention"][0][0], atol=1e-5)
    logits = jax.jit(model.apply)({"params": params}, jnp.asarray([source]), inputs, *ones)[0]
    probabilities = np.asarray(jax.nn.softmax(logits))
    assert_allclose(captured.probabilities, probabilities[range(t), target], rtol=1e-4)
    top_k_probabilities = np.sort(probabilities)[:, : -MAX_ALTERNATIVES - 1 : -1]
    assert_allclose(captured.alternative_probabilities, top_k_probabilities, rtol=1e-4)
    top_k_ids = np.argsort(-probabilities)[:, :MAX_ALTERNATIVES]
    assert captured.alternatives == tuple(tuple(tokenizers.target.tokens(ids)) for ids in top_k_ids)
    for layer in (0, 1):
        block = decoder[f"blocks_{layer}"]
        assert_allclose(captured.decoder[layer], block["self_attention"]["attention"][0][0], atol=1e-5)
        assert_allclose(captured.cross[layer], block["cross_attention"]["attention"][0][0], atol=1e-5)


def test_rows_sum_to_1_and_the_decoder_is_causal(case, tokenizers):
    (source_text, source), (target_text, target) = encoded(tokenizers.source, 7), encoded(tokenizers.target, 11)
    captured = capture_attention(*case, tokenizers, source_text, target_text, source, target)
    for weights in (captured.encoder, captured.decoder, captured.cross):
        assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert not np.triu(captured.decoder, 1).any()


def test_tokens_name_rows_and_columns(case, tokenizers):
    [source], [target] = tokenizers.source.encode(["Where is it?"]), tokenizers.target.encode(["Wo ist es?"])
    eos = tokenizers.source.eos_id
    captured = capture_attention(*case, tokenizers, "Where is it?", "Wo ist es?", [*source, eos], [*target, eos])
    assert captured.source_tokens == (*tokenizers.source.tokens(source), "[EOS]")
    assert captured.target_tokens == (*tokenizers.target.tokens(target), "[EOS]")
    assert captured.target_inputs == ("[SOS]", *captured.target_tokens[:-1])
    assert (captured.source, captured.translation) == ("Where is it?", "Wo ist es?")
    for token_words, tokens, text in (
        (captured.source_words, captured.source_tokens, captured.source),
        (captured.target_words, captured.target_tokens, captured.translation),
    ):
        for number, word in enumerate(text.split()):
            pieces = "".join(token for token, of_word in zip(tokens, token_words, strict=True) if of_word == number)
            assert pieces.lstrip("▁") == word
        assert token_words[-1] == -1


def test_similar_lengths_share_one_compiled_program(case, tokenizers):
    before = capture._teacher_forced_pass._cache_size()
    for length in (2, 3, 5):
        text, ids = encoded(tokenizers.source, length)
        capture_attention(*case, tokenizers, text, text, ids, ids)
    assert capture._teacher_forced_pass._cache_size() - before <= 1
