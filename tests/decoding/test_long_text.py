"""Splitting texts that are too long: nothing but blanks is lost, and every part fits."""

import re

from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.decoding.long_text import split_text


def words(text):
    return len(text.split())


def test_a_text_that_fits_is_left_alone():
    assert split_text(" One. Two. ", words, 2) == [" One. Two. "]
    assert split_text("", words, 0) == [""]


def test_a_text_is_split_after_sentences_and_as_many_as_fit_stay_together():
    text = "One two. Three four! Five six? Seven."
    assert split_text(text, words, 4) == ["One two. Three four!", "Five six? Seven."]
    assert split_text(text, words, 3) == ["One two.", "Three four!", "Five six? Seven."]


def test_quotation_marks_and_brackets_belong_to_the_sentence_that_they_close():
    assert split_text('He said "no." (Twice!) And left.', words, 3) == ['He said "no."', "(Twice!) And left."]


def test_a_line_is_a_sentence():
    assert split_text("A heading\nand a text", words, 3) == ["A heading", "and a text"]


def test_a_sentence_that_does_not_fit_is_split_between_words():
    assert split_text("One two three four five. Six.", words, 2) == ["One two", "three four", "five.", "Six."]


def test_a_word_that_does_not_fit_is_split_between_characters():
    assert split_text("an antidisestablishment is", len, 7) == ["an", "antidis", "establi", "shment", "is"]


def test_a_full_stop_within_a_word_ends_no_sentence():
    text = "Pay 3.50 at www.example.com/a?b=c now. Or later."
    assert split_text(text, words, 5) == ["Pay 3.50 at www.example.com/a?b=c now.", "Or later."]
    assert split_text(text, words, 1) == text.split()


def test_japanese_is_split_after_sentences_though_it_has_no_blanks():
    text = "駅はどこですか。「古い駅です。」犬がいます！"
    assert split_text(text, len, 9) == ["駅はどこですか。", "「古い駅です。」", "犬がいます！"]
    assert split_text(text, len, 5) == ["駅はどこで", "すか。", "「古い駅で", "す。」", "犬がいます", "！"]


def test_a_character_of_more_tokens_than_fit_is_a_part():
    assert split_text("a 🙂 b", lambda text: len(text.encode()), 3) == ["a", "🙂", "b"]


def test_blanks_that_do_not_fit_are_lost_without_end():
    assert split_text("a" + " " * 31 + "b", len, 3) == ["a", "b"]
    assert split_text(" " * 31, len, 3) == []


texts = st.text(st.sampled_from('abé .!?。！\n\u2028\t"」…🙂駅'), min_size=1, max_size=60)


@given(texts, st.integers(1, 9))
def test_every_part_fits_and_nothing_but_blanks_is_lost(text, most):
    parts = split_text(text, len, most)
    assert all(len(part) <= most for part in parts)
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)
    rest = text
    for part in parts:  # Each part stands in the text as it is, one after the other.
        before, found, rest = rest.partition(part)
        assert found == part
        assert not before.strip()


@given(texts, st.integers(1, 9))
def test_parts_have_no_blanks_around_them(text, most):
    parts = split_text(text, len, most)
    assert len(parts) == 1 or all(part == part.strip() != "" for part in parts)
