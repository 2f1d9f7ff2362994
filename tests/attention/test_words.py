"""Every token finds its word, whichever tokenizer made it, and attention between words is still attention."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose

from transformer_jax.attention.words import merge_words, merged, source_words, target_words
from transformer_jax.data.tokenizers import SPECIAL, Tokenizer

TEXTS = [
    "Where is the old station?",
    "The old dog is here.",
    "Is it 3.5?",
    "駅 はどこ ですか。",
    'He said "yes" (3).',
] * 3
SIZES = {"bpe": 317, "word": 100, "wordpiece": 101, "unigram": 70}
STRANGE = (
    *("The  old \t dog", " the dog ", "駅 はどこ 🙂👍🏽", "x\n b \x1c?! c\u3000d", "\ufffd x \ufffd", "[EOS] [PAD]"),
    *("▁the ▁", "", " ", 'don\'t (3.5) "so"', "a\u200bb e\u0301 \u202eabc", "new\u00a0york"),
)


@pytest.fixture(scope="module", params=SIZES)
def tokenizer(request):
    return Tokenizer.train(request.param, TEXTS, SIZES[request.param])


def encoded(tokenizer, text):
    return (*tokenizer.encode([text])[0], tokenizer.eos_id)


@pytest.mark.parametrize("text", [*TEXTS[:5], *STRANGE])
def test_each_word_of_an_encoded_text_has_tokens_in_order(text, tokenizer):
    words = source_words(tokenizer, text, encoded(tokenizer, text))
    assert words[-1] == -1
    found = [word for word in words if word != -1]
    assert found == sorted(found)
    assert sorted(set(found)) == list(range(len(text.split())))


@pytest.mark.parametrize("text", [*TEXTS[:5], *STRANGE])
def test_produced_tokens_that_an_encoder_would_choose_have_the_same_words(text, tokenizer):
    """What is decoded and what is encoded agree, wherever the text comes back whole."""
    ids = encoded(tokenizer, text)
    decoded = tokenizer.decode([ids])[0]
    if decoded.split() == text.split():
        expected = source_words(tokenizer, text, ids)
        # Two ends of sentence: no encoder would do that, so that the text must be decoded.
        assert target_words(tokenizer, decoded, [tokenizer.eos_id, *ids]) == (-1, *expected)


@given(data=st.data())
def test_any_produced_tokens_find_words(data, tokenizer):
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=12))
    [text] = tokenizer.decode([ids])
    words = target_words(tokenizer, text, ids)
    assert len(words) == len(ids)
    assert all(word == -1 for word, one in zip(words, ids, strict=True) if one < len(SPECIAL))
    found = [word for word in words if word != -1]
    assert found == sorted(found)
    assert sorted(set(found)) == list(range(len(text.split())))


def test_pieces_of_a_word_and_bytes_of_a_character_share_a_number():
    tokenizer = Tokenizer.train("bpe", TEXTS, SIZES["bpe"])
    # "Is", " ", "🙂" in four bytes, " it": a blank belongs to what follows.
    assert source_words(tokenizer, "Is 🙂 it", encoded(tokenizer, "Is 🙂 it")) == (0, 1, 1, 1, 1, 1, 2, -1)
    single = [id for letter in "sun s" for id in tokenizer.encode([letter])[0]]
    assert target_words(tokenizer, "sun s", [*single, tokenizer.eos_id]) == (0, 0, 0, 1, 1, -1)


def test_one_blank_of_two_belongs_to_no_word():
    tokenizer = Tokenizer.train("bpe", TEXTS, SIZES["bpe"])
    ids = encoded(tokenizer, "The   dog ")
    assert tokenizer.tokens(ids) == ["The", "▁", "▁", "▁dog", "▁", "[EOS]"]
    assert source_words(tokenizer, "The   dog ", ids) == (0, -1, -1, 1, -1, -1)


def test_a_word_outside_the_vocabulary_is_a_word_where_it_was_read_not_where_it_was_written():
    tokenizer = Tokenizer.train("word", TEXTS, SIZES["word"])
    ids = encoded(tokenizer, "The cat is here.")
    assert tokenizer.unk_id in ids
    assert source_words(tokenizer, "The cat is here.", ids) == (0, 1, 2, 3, 3, -1)
    assert target_words(tokenizer, "The is here.", ids) == (0, -1, 1, 2, 2, -1)


def test_ids_of_another_text_are_refused(tokenizer):
    ids = encoded(tokenizer, "The old dog is here.")
    for text in ("The old dog.", "Where is the old station?"):
        with pytest.raises(ValueError, match="not those of the text"):
            source_words(tokenizer, text, ids)
        with pytest.raises(ValueError, match="not those of the text"):
            target_words(tokenizer, text, ids)


# Merging


@given(
    weights=arrays.arrays(np.float32, (2, 3, 5, 7), elements=st.floats(0.125, 1, width=32)),
    queries=st.lists(st.integers(-1, 2), min_size=5, max_size=5),
    keys=st.lists(st.integers(-1, 3), min_size=7, max_size=7),
)
def test_rows_that_sum_to_1_still_do(weights, queries, keys):
    weights /= weights.sum(axis=-1, keepdims=True)
    found = merge_words(weights, queries, keys)
    assert found.dtype == np.float32
    assert found.shape == (2, 3, len(merged(queries)), len(merged(keys)))
    assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_keys_of_a_word_are_summed_and_its_queries_averaged():
    weights = np.asarray([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]], np.float32)
    assert_allclose(merge_words(weights, (0, 0, -1), (0, 1, 1)), [[0.25, 0.75], [1, 0]])
    assert merged((0, 0, -1)) == (0, -1)


def test_tokens_without_a_word_stay_alone_in_their_places():
    weights = np.arange(25, dtype=np.float32).reshape(5, 5)
    words = (-1, 0, -1, 1, -1)
    assert merged(words) == words
    assert_allclose(merge_words(weights, words, words), weights)


def test_merging_words_of_one_token_changes_nothing():
    weights = np.random.default_rng(0).random((2, 5, 7), np.float32)
    assert_allclose(merge_words(weights, range(5), range(7)), weights)
