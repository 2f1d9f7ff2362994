"""Texts are split into sentences and long sentences into parts, without losing a character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.data.sentences import sentence_blank, split_long_sentence, split_sentences


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ["Good morning. ", "Where is the station? ", "I would like two tickets."]),
        ("en", ["Hello!", "How are you?", "I am fine."]),
        ("en", ["hello. ", "how are you? ", "i am fine."]),
        ("en", ["Mr. Smith pays 3.50 at www.example.com/a?b=c. ", "See you at 5 p.m. ", "Bye!"]),
        ("en", ['He said "no." ', "Then he left."]),
        ("en", ["Wait... what? ", "No!!! ", "Really?! ", "Yes."]),
        ("en", ["1. Go home. ", "2. Eat."]),
        ("en", ["I have two. ", "1. Apples ", "2. Pears are good."]),
        ("en", ["a) First. ", "b) Second."]),
        ("en", ["I am 5. ", "You are 6."]),
        ("en", ["A title\n", "Its first sentence. ", "The second\n\n", "- ", "an item\r\n", "- ", "another one"]),
        ("en", ["  Hi.  ", "There.  "]),
        ("de", ["Das ist z. B. gut. ", "Am 3. Oktober. ", "Nein."]),
        ("fr", ["Qui est là ? ", "C'est moi !"]),
        ("ja", ["駅はどこですか。", "「古い駅です。」", "犬がいます！"]),
        ("zh", ["车站在哪里？", "我不知道。"]),
        ("ar", ["كيف حالك؟ ", "أنا بخير."]),
        ("hi", ["आप कैसे हैं? ", "मैं ठीक हूँ।"]),
        ("xx", ["Hello. ", "World."]),
        ("en", ["🙂 ", "Good morning. ", "👩\u200d👧🏽 ", "I like it! ", "🙂🙂"]),
        ("en", ["- ", "Bread\n", "• ", "Milk ", "🥛\n"]),
        ("en", ["-5 degrees is cold. ", "*Very* cold."]),
        ("en", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(language, sentences):
    assert split_sentences("".join(sentences), language) == sentences


texts = st.text(st.sampled_from('abé 1.!?。！,;\n\r\u2028\t"」…🙂駅'), max_size=60)


@given(texts)
def test_sentences_put_together_are_the_text(text):
    sentences = split_sentences(text, "en")
    assert "".join(sentences) == text
    assert all(sentences)
    assert all(sentence.strip() for sentence in sentences) or not text.strip()


@pytest.mark.parametrize(
    "text", ["." * 10**6, "a" * 10**6, "a!" * 10**6, "a! " * 10**5, "1. " * 10**5, "\n" * 10**6, "🙂 " * 10**5]
)
def test_any_megabyte_is_split(text):
    assert "".join(split_sentences(text, "en")) == text


def characters(text):
    """One token per character."""
    return [(index, index + 1) for index, _ in enumerate(text)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("one, two, three four", ["one, two,", " three", " four"]),
        ("One two three", ["One two", " three"]),
        ("antidisestablishment is", ["antidise", "stablish", "ment is"]),
        ("古い、駅です古い駅、です古い", ["古い、駅です古い", "駅、です古い"]),
        ("short", ["short"]),
    ],
)
def test_parts_end_after_clauses_then_between_words(text, parts):
    assert split_long_sentence(text, characters(text), 9 if "," in text else 8) == parts


@given(texts, st.integers(1, 9), st.integers(1, 4))
def test_parts_fit_and_put_together_are_the_text(text, max_tokens, tokens_per_character):
    spans = [span for span in characters(text) for _ in range(tokens_per_character)]
    parts = split_long_sentence(text, spans, max_tokens)
    assert "".join(parts) == text
    assert all(len(part) == 1 or len(part) * tokens_per_character <= max_tokens for part in parts)


def test_languages_without_blanks_get_none():
    assert [sentence_blank(language) for language in ("de", "ja", "zh-Hans", "zh_TW", "JA")] == [" ", "", "", "", ""]
