"""Every token is assigned to its word for every tokenizer, and rows of attention between words sum to 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose

from transformer_jax.attention.words import (
    displayed_source_words,
    displayed_target_words,
    merge_words,
    source_words,
    target_words,
    word_axis,
)
from transformer_jax.data.normalization import Normalization
from transformer_jax.data.tokenizers import SPECIAL_TOKENS, Tokenizer

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
def test_every_word_of_an_encoded_text_has_tokens_in_order(text, tokenizer):
    words = source_words(tokenizer, text, encoded(tokenizer, text))
    assert words[-1] == -1
    in_words = [word for word in words if word != -1]
    assert in_words == sorted(in_words)
    assert sorted(set(in_words)) == list(range(len(text.split())))


@pytest.mark.parametrize("text", [*TEXTS[:5], *STRANGE])
def test_encoded_and_decoded_tokens_have_the_same_words(text, tokenizer):
    ids = encoded(tokenizer, text)
    decoded = tokenizer.decode([ids])[0]
    if decoded.split() == text.split():
        expected = source_words(tokenizer, text, ids)
        # No encoder produces a leading [EOS], so target_words must decode the ids.
        assert target_words(tokenizer, decoded, [tokenizer.eos_id, *ids]) == (-1, *expected)


@given(data=st.data())
def test_arbitrary_token_ids_are_assigned_to_words(data, tokenizer):
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=12))
    [text] = tokenizer.decode([ids])
    words = target_words(tokenizer, text, ids)
    assert len(words) == len(ids)
    assert all(word == -1 for word, token_id in zip(words, ids, strict=True) if token_id < len(SPECIAL_TOKENS))
    in_words = [word for word in words if word != -1]
    assert in_words == sorted(in_words)
    assert sorted(set(in_words)) == list(range(len(text.split())))
    displayed = displayed_target_words(tokenizer, text, ids)
    assert sorted(set(displayed.numbers) - {-1}) == list(range(len(displayed.texts)))
    assert "".join(displayed.texts).replace("\ufffd", "") == "".join(text.split()).replace("\ufffd", "")


# Displayed words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Where is it?", ("Where", "is", "it?")),
        ("駅はどこですか。", ("駅", "は", "ど", "こ", "で", "す", "か", "。")),
        ("我喜欢 Python 3.5，和「咖啡」", ("我", "喜", "欢", "Python", "3.5，", "和", "「", "咖", "啡", "」")),
        ("東京タワーで", ("東", "京", "タワー", "で")),
        ("ที่นี่ 3.5", ("ที่", "นี่", "3.5")),
        ("안녕 세상", ("안녕", "세상")),
    ],
)
def test_scripts_without_spaces_are_displayed_as_characters(text, words):
    tokenizer = Tokenizer.train("bpe", ["a"], SIZES["bpe"])  # Its tokens are single bytes.
    displayed = displayed_source_words(tokenizer, text, encoded(tokenizer, text))
    assert displayed.texts == words
    assert len(set(displayed.numbers[:-1])) == len(words)


def test_tokens_are_never_divided_into_displayed_words():
    tokenizer = Tokenizer.train("bpe", ["駅はどこですか。"] * 3, SIZES["bpe"])
    ids = encoded(tokenizer, "駅はどこですか。")
    assert tokenizer.tokens(ids) == ["駅はどこですか", "。", "[EOS]"]
    assert displayed_source_words(tokenizer, "駅はどこですか。", ids) == (("駅はどこですか", "。"), (0, 1, -1))


@pytest.mark.parametrize("text", [*TEXTS[:5], *STRANGE])
def test_displayed_words_refine_those_between_spaces(text, tokenizer):
    ids = encoded(tokenizer, text)
    displayed = displayed_source_words(tokenizer, text, ids)
    assert len(displayed.numbers) == len(ids)
    assert "".join(displayed.texts) == "".join(text.split())
    assert len(displayed.texts) >= len(text.split())


def test_pieces_of_a_word_and_bytes_of_a_character_share_a_word():
    tokenizer = Tokenizer.train("bpe", TEXTS, SIZES["bpe"])
    # "Is", " ", "🙂" in four bytes, " it": a space belongs to the following word.
    assert source_words(tokenizer, "Is 🙂 it", encoded(tokenizer, "Is 🙂 it")) == (0, 1, 1, 1, 1, 1, 2, -1)
    letter_ids = [token_id for letter in "sun s" for token_id in tokenizer.encode([letter])[0]]
    assert target_words(tokenizer, "sun s", [*letter_ids, tokenizer.eos_id]) == (0, 0, 0, 1, 1, -1)


def test_only_the_space_before_a_word_belongs_to_it():
    tokenizer = Tokenizer.train("bpe", TEXTS, SIZES["bpe"])
    ids = encoded(tokenizer, "The   dog ")
    assert tokenizer.tokens(ids) == ["The", "▁", "▁", "▁dog", "▁", "[EOS]"]
    assert source_words(tokenizer, "The   dog ", ids) == (0, -1, -1, 1, -1, -1)


def test_unknown_tokens_have_words_in_the_source_only():
    tokenizer = Tokenizer.train("word", TEXTS, SIZES["word"])
    ids = encoded(tokenizer, "The cat is here.")
    assert tokenizer.unk_id in ids
    assert source_words(tokenizer, "The cat is here.", ids) == (0, 1, 2, 3, 3, -1)
    assert target_words(tokenizer, "The is here.", ids) == (0, -1, 1, 2, 2, -1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The\u00a0 old\u00a0dog", ("The", "old", "dog")),
        ("the sta\u00adtion is", ("the", "sta\u00adtion", "is")),
        ("Where… is it", ("Where…", "is", "it")),
        ("He said\u2009“yes”—here.", ("He", "said", "“yes”—here.")),
        ("« yes » is", ("«", "yes", "»", "is")),
        ("\u200bThe \u200bdog\u200b", ("\u200bThe", "\u200bdog\u200b")),
        (" The old ", ("The", "old")),
    ],
)
def test_normalized_tokens_have_the_words_of_the_typed_text(text, words, tokenizer):
    normalizing = tokenizer.with_normalization(Normalization.learn([*TEXTS, "It's - so."]))
    ids = encoded(normalizing, text)
    assert ids != encoded(tokenizer, text) or tokenizer.kind in ("word", "wordpiece")
    numbers = source_words(normalizing, text, ids)
    displayed = displayed_source_words(normalizing, text, ids)
    assert displayed == (words, numbers)
    assert [number for number in numbers if number != -1] == sorted(number for number in numbers if number != -1)
    assert {*numbers} == {-1, *range(len(words))}
    for number, word in enumerate(words):
        pieces = [token_id for token_id, of_word in zip(ids, numbers, strict=True) if of_word == number]
        [read] = tokenizer.decode([pieces])
        if tokenizer.unk_id not in pieces:
            assert read.strip() == normalizing.normalize(word).strip()


def test_words_of_removed_characters_have_no_tokens():
    tokenizer = Tokenizer.train("word", TEXTS, SIZES["word"]).with_normalization(Normalization.learn(TEXTS))
    text = "The \u00ad dog \u200b"
    assert displayed_source_words(tokenizer, text, encoded(tokenizer, text)).numbers == (0, 2, -1)


def test_ids_of_another_text_raise_an_error(tokenizer):
    ids = encoded(tokenizer, "The old dog is here.")
    for text in ("The old dog.", "Where is the old station?"):
        with pytest.raises(ValueError, match="the ids do not encode the text"):
            source_words(tokenizer, text, ids)
        with pytest.raises(ValueError, match="the ids do not encode the text"):
            target_words(tokenizer, text, ids)


# Merging


@given(
    weights=arrays.arrays(np.float32, (2, 3, 5, 7), elements=st.floats(0.125, 1, width=32)),
    queries=st.lists(st.integers(-1, 2), min_size=5, max_size=5),
    keys=st.lists(st.integers(-1, 3), min_size=7, max_size=7),
)
def test_merged_rows_still_sum_to_1(weights, queries, keys):
    weights /= weights.sum(axis=-1, keepdims=True)
    merged = merge_words(weights, queries, keys)
    assert merged.dtype == np.float32
    assert merged.shape == (2, 3, len(word_axis(queries)), len(word_axis(keys)))
    assert_allclose(merged.sum(axis=-1), 1, atol=1e-5)


def test_key_pieces_are_summed_and_query_pieces_averaged():
    weights = np.asarray([[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]], np.float32)
    assert_allclose(merge_words(weights, (0, 0, -1), (0, 1, 1)), [[0.25, 0.75], [1, 0]])
    assert word_axis((0, 0, -1)) == (0, -1)


def test_tokens_without_a_word_keep_their_own_rows():
    weights = np.arange(25, dtype=np.float32).reshape(5, 5)
    words = (-1, 0, -1, 1, -1)
    assert word_axis(words) == words
    assert_allclose(merge_words(weights, words, words), weights)


def test_merging_single_token_words_changes_nothing():
    weights = np.random.default_rng(0).random((2, 5, 7), np.float32)
    assert_allclose(merge_words(weights, range(5), range(7)), weights)
