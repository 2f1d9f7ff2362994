"""Texts are split into sentences and long sentences into parts, without losing a character."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.data import sentences as sentences_module
from transformer_jax.data.sentences import is_abbreviation, sentence_blank, split_long_sentence, split_sentences


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


texts = st.text(st.sampled_from('abé 1.!?。！,;\n\r\u2028\t"“」…🙂駅'), max_size=60) | st.text()


@given(text=texts, window=st.integers(1, 40), language=st.sampled_from(["en", "de", "ja", "ar", "xx"]))
def test_sentences_put_together_are_the_text(text, window, language):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences_module, "SENTENCE_WINDOW", window)
        sentences = split_sentences(text, language)
    assert "".join(sentences) == text
    assert all(sentences)
    assert all(sentence.strip() for sentence in sentences) or not text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "." * 10**6,
        "a" * 10**6,
        "a!" * 10**6,
        "a! " * 10**5,
        "1. " * 10**5,
        "\n" * 10**6,
        "\u2028" * 10**5,
        "🙂 " * 10**5,
        "“" * 10**5,
    ],
    ids=lambda text: repr(text[:3]),
)
def test_any_megabyte_is_split(text):
    assert "".join(split_sentences(text, "en")) == text


@pytest.mark.parametrize("text", ["a", "“", "“a ", "古。", "a. ", "Mr. ", "He said “no. ", "a" * 3000 + ". b. "])
def test_time_of_sentencex_is_linear(monkeypatch, text):
    windows = []

    def segment(language, window):
        windows.append(window)
        return sentencex.segment(language, window)

    sentencex = sentences_module.sentencex
    monkeypatch.setattr(sentences_module, "sentencex", SimpleNamespace(segment=segment))
    text = text * (50_000 // len(text))
    assert "".join(split_sentences(text, "en")) == text
    assert max(map(len, windows)) <= sentences_module.SENTENCE_WINDOW
    assert sum(map(len, windows)) <= 3 * len(text)


def test_a_long_line_has_the_sentences_of_short_lines():
    sentences = ["Good morning, Mr. Smith. ", "“Where is it? ", "Here?” ", "I paid 3.50 for 2 tickets. ", "Bye! "] * 999
    assert split_sentences("".join(sentences), "en") == sentences


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
    assert split_long_sentence(text, characters, 9 if "," in text else 8) == parts


@given(texts, st.integers(1, 9), st.integers(1, 4), st.integers(1, 20))
def test_parts_fit_and_put_together_are_the_text(text, max_tokens, tokens_per_character, window):
    def find_spans(text):
        return [span for span in characters(text) for _ in range(tokens_per_character)]

    at_once = split_long_sentence(text, find_spans, max_tokens)
    assert "".join(at_once) == text
    assert all(len(part) == 1 or len(part) * tokens_per_character <= max_tokens for part in at_once)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences_module, "TOKEN_WINDOW", window)
        assert split_long_sentence(text, find_spans, max_tokens) == at_once


@pytest.mark.parametrize("text", ["a" * 300_000, "ab, " * 50_000, "古い、" * 50_000, "a" + "," * 300_000 + "b"])
@pytest.mark.parametrize("token_length", [1, 7, 50_000])
def test_a_long_sentence_is_encoded_in_linear_time(text, token_length):
    encoded_characters = 0

    def find_spans(window):
        nonlocal encoded_characters
        encoded_characters += len(window)
        return [(start, start + token_length) for start in range(0, len(window), token_length)]

    assert "".join(split_long_sentence(text, find_spans, 3)) == text
    assert encoded_characters <= 4 * len(text)


def test_languages_without_blanks_get_none():
    assert [sentence_blank(language) for language in ("de", "ja", "zh-Hans", "zh_TW", "JA")] == [" ", "", "", "", ""]


LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,?!'- ")


@pytest.mark.parametrize(
    "pieces",
    [
        ['"', "Where is it?", '"'],
        ["(", "Where is it?", ")"],
        ["1. ", "The dog. ", "2. ", "The cat."],
        ["The soup is salty ", ":-)"],
        ["-> ", "Where is it?"],
        ["The ticket costs two ", "€"],
        ["'Where is it?'"],
        ['He says "the soup is good."'],
        ['"so" and "so"'],
        ["🙂 ", 'He says "so."'],
    ],
)
def test_unknown_symbols_at_the_ends_of_a_sentence_are_split_off(pieces):
    assert split_sentences("".join(pieces), "en", LETTERS) == pieces


def test_known_symbols_stay_in_their_sentence():
    known = LETTERS | frozenset('"()€:123')
    for text in ('"Where is it?"', "(Where is it?)", "1. The dog.", "The soup is salty :-)", "It costs 3 €"):
        assert split_sentences(text, "en", known) == split_sentences(text, "en") == [text]


@given(st.text(st.sampled_from("ab .?!'\"()-:🙂€1\n"), max_size=40))
def test_no_character_is_lost_next_to_unknown_symbols(text):
    assert "".join(split_sentences(text, "en", LETTERS)) == text


def test_words_that_end_training_sources_end_sentences():
    text = "Give it to me. Tom is ill. So am I. I met Mr. Smith, no. 5. He is ok."
    assert split_sentences(text, "en")[0] == "Give it to me. Tom is ill. "
    expected = ["Give it to me. ", "Tom is ill. "]
    assert split_sentences(text, "en", sentence_ends={"me", "no"})[:2] == expected
    assert "".join(split_sentences(text, "en", sentence_ends={"me", "no"})) == text
    assert split_sentences("See no. 5, me. or Me. Tom.", "en", sentence_ends={"me", "no"}) == [
        "See no. 5, me. or Me. Tom."
    ]


def test_abbreviations_are_those_of_sentencex():
    assert is_abbreviation("Mr", "en")
    assert is_abbreviation("me", "en")
    assert not is_abbreviation("dog", "en")


@pytest.mark.parametrize(
    "sentences",
    [
        ["„Tom is here. ", "Mary is there.“"],
        ["Tom said: “I am here. ", "Mary is there. ", "We are happy.”"],
        ["(Tom is here. ", "Mary is there.)"],
        ["[Tom is here.] ", "Yes."],
        ["「我来了。", "你呢？」"],
        ['"Go!" he said.'],
        ['He said "Stop." and left.'],
        ["I met (e.g. in Rome) Mr. Smith."],
    ],
)
def test_sentences_inside_quotes_are_split(sentences):
    assert split_sentences("".join(sentences), "en") == sentences


@pytest.mark.parametrize("text", ["Where is Tom 🙂?", "Go 🙂!"])
def test_a_known_final_mark_stays_with_its_sentence(text):
    assert split_sentences(text, "en", LETTERS) == [text]
