"""Captured weights equal those of the model's own forward pass, without padding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tiny_run import PAIRS, SOURCES, TINY_CONFIG, random_params

from transformer_jax.attention import capture
from transformer_jax.attention.capture import LENGTH_MULTIPLE, MAX_ALTERNATIVES, capture_attention
from transformer_jax.data.normalization import Normalization
from transformer_jax.data.run_tokenizers import train_tokenizers
from transformer_jax.model.transformer import Transformer


@pytest.fixture(scope="module")
def tokenizers():
    return train_tokenizers(TINY_CONFIG.tokenizer, PAIRS)


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
    labels = [[tokenizers.target.tokens([token_id])[0] for token_id in ids] for ids in top_k_ids.tolist()]
    assert captured.alternatives == tuple(map(tuple, labels))
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


@pytest.mark.parametrize("ending", ["[EOS]", "none"])
def test_bytes_of_a_character_are_one_row_and_column(ending, case, tokenizers):
    source_text, target_text = "a 日é b", "é 日"
    source, target = (tokenizers.source.encode([text])[0] for text in (source_text, target_text))
    target = [*target, tokenizers.target.eos_id] if ending == "[EOS]" else target
    merged = capture_attention(*case, tokenizers, source_text, target_text, source, target)
    inputs, (s, t) = [tokenizers.target.sos_id, *target[:-1]], (len(source), len(target))
    raw = capture._teacher_forced_pass(*case, *map(capture._pad, (source, inputs, target)), s, t)
    encoder, decoder, cross = raw.encoder[..., :s, :s], raw.decoder[..., :t, :t], raw.cross[..., :t, :s]
    assert "".join(merged.source_tokens).replace("▁", " ") == source_text
    assert "".join(merged.target_tokens).replace("▁", " ").removesuffix("[EOS]") == target_text
    assert merged.target_inputs == ("[SOS]", *merged.target_tokens[:-1])
    for weights in (merged.encoder, merged.decoder, merged.cross):
        assert weights.dtype == np.float32
        assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert not np.triu(merged.decoder, 1).any()
    # "é" is two bytes, the first of which is predicted from [SOS].
    assert_allclose(merged.cross[..., 0, 0], cross[..., 0, 0], rtol=1e-5)
    assert_allclose(merged.decoder[..., 1, 1], decoder[..., 2, 1:3].sum(-1), rtol=1e-5)
    # The source tokens are "a", " ", three bytes, two bytes, " " and "b".
    assert_allclose(merged.encoder[..., 3, 0], encoder[..., 5:7, 0].mean(-1), rtol=1e-5)


def test_attention_of_a_normalized_text_shows_the_typed_words(case, tokenizers):
    normalizing = tokenizers._replace(
        source=tokenizers.source.with_normalization(Normalization.learn([*SOURCES, "It's."]))
    )
    typed, plain = "Wh\u00adere\u00a0\u00a0is it’s dog…", "Where is it's dog..."
    [source], [target] = normalizing.source.encode([typed]), tokenizers.target.encode(["Wo ist es?"])
    assert source == tokenizers.source.encode([plain])[0] != tokenizers.source.encode([typed])[0]
    of_typed = capture_attention(*case, normalizing, typed, "Wo ist es?", source, target)
    of_plain = capture_attention(*case, tokenizers, plain, "Wo ist es?", source, target)
    assert of_typed.source == typed
    assert of_typed.source_texts == ("Wh\u00adere", "is", "it’s", "dog…")
    assert of_typed.source_words == of_plain.source_words
    assert of_typed.source_tokens == of_plain.source_tokens
    for name in ("encoder", "decoder", "cross"):
        assert_allclose(getattr(of_typed, name), getattr(of_plain, name))


def test_chosen_byte_is_shown_as_its_character(case, tokenizers):
    target = [*tokenizers.target.encode(["é"])[0], tokenizers.target.eos_id]
    labels = capture._label_alternatives(
        tokenizers.target, np.asarray([[target[0], target[1]]], np.int32), target[:1], ["é"]
    )
    assert labels == (("é", "�"),)


def test_similar_lengths_share_one_compiled_program(case, tokenizers):
    before = capture._teacher_forced_pass._cache_size()
    for length in (2, 3, 5):
        text, ids = encoded(tokenizers.source, length)
        capture_attention(*case, tokenizers, text, text, ids, ids)
    assert capture._teacher_forced_pass._cache_size() - before <= 1
