"""Splitting of long texts: every part fits, and only white space is lost."""

import re

from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.decoding.long_text import split_text


def count_words(text):
    return len(text.split())


def test_a_text_that_fits_is_unchanged():
    assert split_text(" One. Two. ", count_words, 2) == [" One. Two. "]
    assert split_text("", count_words, 0) == [""]


def test_a_text_is_split_after_as_many_sentences_as_fit():
    text = "One two. Three four! Five six? Seven."
    assert split_text(text, count_words, 4) == ["One two. Three four!", "Five six? Seven."]
    assert split_text(text, count_words, 3) == ["One two.", "Three four!", "Five six? Seven."]


def test_closing_marks_stay_with_their_sentence():
    assert split_text('He said "no." (Twice!) And left.', count_words, 3) == ['He said "no."', "(Twice!) And left."]


def test_a_line_break_ends_a_sentence():
    assert split_text("A heading\nand a text", count_words, 3) == ["A heading", "and a text"]


def test_a_long_sentence_is_split_between_words():
    assert split_text("One two three four five. Six.", count_words, 2) == ["One two", "three four", "five.", "Six."]


def test_a_long_word_is_split_between_characters():
    assert split_text("an antidisestablishment is", len, 7) == ["an", "antidis", "establi", "shment", "is"]


def test_a_full_stop_within_a_word_does_not_end_a_sentence():
    text = "Pay 3.50 at www.example.com/a?b=c now. Or later."
    assert split_text(text, count_words, 5) == ["Pay 3.50 at www.example.com/a?b=c now.", "Or later."]
    assert split_text(text, count_words, 1) == text.split()


def test_japanese_is_split_after_sentences_without_spaces():
    text = "駅はどこですか。「古い駅です。」犬がいます！"
    assert split_text(text, len, 9) == ["駅はどこですか。", "「古い駅です。」", "犬がいます！"]
    assert split_text(text, len, 5) == ["駅はどこで", "すか。", "「古い駅で", "す。」", "犬がいます", "！"]


def test_a_character_with_too_many_tokens_is_one_part():
    assert split_text("a 🙂 b", lambda text: len(text.encode()), 3) == ["a", "🙂", "b"]


def test_long_white_space_is_removed():
    assert split_text("a" + " " * 31 + "b", len, 3) == ["a", "b"]
    assert split_text(" " * 31, len, 3) == []


texts = st.text(st.sampled_from('abé .!?。！\n\u2028\t"」…🙂駅'), min_size=1, max_size=60)


@given(texts, st.integers(1, 9))
def test_every_part_fits_and_only_white_space_is_lost(text, max_tokens):
    parts = split_text(text, len, max_tokens)
    assert all(len(part) <= max_tokens for part in parts)
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)
    rest = text
    for part in parts:  # The parts occur in the text unchanged and in order.
        before, match, rest = rest.partition(part)
        assert match == part
        assert not before.strip()


@given(texts, st.integers(1, 9))
def test_parts_have_no_surrounding_white_space(text, max_tokens):
    parts = split_text(text, len, max_tokens)
    assert len(parts) == 1 or all(part == part.strip() != "" for part in parts)
