"""Texts of several sentences, and sentences that are too long, are translated in parts without losing a character."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import TINY_CONFIG, tiny_run  # noqa: F401

from transformer_jax import Translator
from transformer_jax.data import sentences as sentences_module
from transformer_jax.data.learned_text import LearnedText
from transformer_jax.data.text_statistics import TextStatistics
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decoding import parts as parts_module
from transformer_jax.decoding import translator as translator_module
from transformer_jax.decoding.parts import list_texts, split_into_parts
from transformer_jax.errors import InputError

SENTENCES = ["Where is the dog?", "The old dog is here.", "Is it 3.5?"]


@pytest.fixture(scope="module")
def translator(tiny_run):  # noqa: F811
    return Translator.load(tiny_run)


def parts_of(translator, text, max_tokens=16, by_sentences=True):
    tokenizer = translator.tokenizers.source
    [parts] = split_into_parts([text], tokenizer, "en", max_tokens, by_sentences, LearnedText(tokenizer))
    return parts


ordinary = st.text(st.sampled_from('ab é1.!?。,;\n\u2028\t"“…🙂駅'), max_size=60)
texts = ordinary | st.text(st.characters(exclude_categories=["Cs"]))


def assert_complete(text, parts, max_tokens):
    assert "".join(part.text + part.blank for part in parts) == text.strip()
    for part in parts:
        assert part.text == part.text.strip() != ""
        assert not part.blank.strip()
        assert bool(part.ids) == any(map(str.isalnum, part.text))
        assert len(part.ids) <= max_tokens or len(part.text) == 1


@given(text=texts, max_tokens=st.integers(1, 9), by_sentences=st.booleans())
def test_parts_and_blanks_put_together_are_the_text(translator, text, max_tokens, by_sentences):
    assert_complete(text, parts_of(translator, text, max_tokens, by_sentences), max_tokens)


@pytest.fixture(scope="module", params=["bpe", "word", "wordpiece", "unigram"])
def tokenizer(request):
    return Tokenizer.train(request.param, [*SENTENCES, "é 駅はどこですか。", "ab 🙂"] * 3, 300)


@given(
    lines=st.lists(texts, max_size=4),
    max_tokens=st.integers(1, 9),
    by_sentences=st.booleans(),
    window=st.integers(1, 9),
)
def test_every_line_is_complete_with_any_tokenizer(tokenizer, lines, max_tokens, by_sentences, window):
    with pytest.MonkeyPatch.context() as patch:  # Short lines take the paths of long ones.
        patch.setattr(sentences_module, "SENTENCE_WINDOW", 4 * window)
        patch.setattr(sentences_module, "TOKEN_WINDOW", window)
        patch.setattr(parts_module, "LONG_TEXT", window)
        patch.setattr(parts_module, "ENCODED_AT_ONCE", 2)
        rows = split_into_parts(lines, tokenizer, "en", max_tokens, by_sentences, LearnedText(tokenizer))
    for line, parts in zip(lines, rows, strict=True):
        assert_complete(line, parts, max_tokens)
        for part in parts:
            assert part.ids in ((), *map(tuple, tokenizer.encode([part.text])))


def test_every_line_has_one_translation(translator):
    lines = ["", " ", ".", "🙂", "a! a!", "\u2028a\u2028b\x85", "\r", "a" * 99, "“" * 99, "\x00", *SENTENCES]
    translations = translator.translate(lines)
    assert len(translations) == len(lines)
    assert not any("\n" in translation.text for translation in translations)


def test_long_text_is_split_even_if_sentences_are_not(translator):
    text = " ".join(SENTENCES)
    assert [part.text for part in parts_of(translator, text, 16, False)] == SENTENCES
    assert [part.text for part in parts_of(translator, text, 99, False)] == [text]


@pytest.mark.parametrize(
    "text",
    [".", "a", "a!", "a! ", "ab ", "x, ", "“", "古。", "(", "\u2028a", "a ,,"],
    ids=lambda text: repr(text[:4]),
)
def test_hostile_text_is_split_into_parts(translator, text):
    text = text * 10**4
    assert_complete(text, parts_of(translator, text), 16)


@pytest.mark.slow
@pytest.mark.parametrize("text", [".", "a", "a!", "a! ", "hello ", "“", "古。"])
def test_ten_megabytes_are_split_into_parts(translator, text):
    text = text * (10**7 // len(text.encode()))
    assert_complete(text, parts_of(translator, text), 16)


@pytest.mark.parametrize("middle", [",", " ", "\u2028", "\u200b", "“"])
def test_long_runs_between_words_are_split(translator, middle):
    text = f"a{middle * 10**5}b"
    assert_complete(text, parts_of(translator, text), 16)


@pytest.mark.parametrize("blank", [" ", "  ", "\n", "\u2003", " 🙂 "])
def test_sentences_are_translated_as_if_alone(translator, blank):
    [translation] = translator.translate([f"  {blank.join(SENTENCES)} "])
    alone = translator.translate(SENTENCES)
    assert translation.text == blank.join(sentence.text for sentence in alone)
    assert [part.source for part in translation.sentences] == SENTENCES
    assert [part.text for part in translation.sentences] == [sentence.text for sentence in alone]
    assert translation.score == pytest.approx(sum(sentence.score for sentence in alone), rel=1e-5)
    assert translation.tokens == tuple(token for sentence in alone for token in sentence.tokens)


def test_sentences_without_white_space_are_joined_by_a_blank(translator):
    [translation] = translator.translate("Where is the dog?The old dog is here.")
    assert translation.text == " ".join(part.text for part in translation.parts)
    japanese = dataclasses.replace(translator.config, data=dataclasses.replace(TINY_CONFIG.data, target="ja"))
    [translation] = Translator(japanese, translator.tokenizers, translator.params).translate("Where is it?The dog.")
    assert translation.text == "".join(part.text for part in translation.parts)
    assert len(translation.parts) == 2


@pytest.mark.parametrize(
    ("option", "share", "sentences"),
    [("auto", None, 2), ("auto", 0.01, 2), ("auto", 0.5, 1), ("always", 0.5, 2), ("never", None, 1)],
)
def test_texts_are_split_as_the_run_was_trained(translator, option, share, sentences):
    statistics = None if share is None else TextStatistics(30, 30, share)
    learned = Translator(translator.config, translator.tokenizers, translator.params, statistics)
    [translation] = learned.translate("Is it? The dog.", split_sentences=option)
    assert len(translation.sentences) == sentences


def test_sentences_longer_than_the_longest_trained_are_cut(translator):
    learned = Translator(translator.config, translator.tokenizers, translator.params, TextStatistics(5, 5, 0.0))
    [translation] = learned.translate(SENTENCES[1])
    assert len(translation.parts) > 1
    assert all(len(part.source_ids) <= 6 for part in translation.parts)


def test_a_repeated_sentence_is_searched_once(translator, monkeypatch):
    searched = []

    def record(model, params, sources, *options):
        searched.extend(sources)
        return search(model, params, sources, *options)

    search = translator_module.search
    monkeypatch.setattr(translator_module, "search", record)
    first, second = translator.translate(["Is it? Is it? The dog.", "Is it?"])
    assert len(searched) == 2
    assert first.parts[0] == first.parts[1] == second


def test_one_string_and_any_iterable_are_accepted(translator):
    expected = translator.translate(SENTENCES[:1])
    assert translator.translate(SENTENCES[0]) == expected
    assert translator.translate(sentence for sentence in SENTENCES[:1]) == expected
    assert translator.translate({SENTENCES[0]: 1}) == expected
    assert translator.translate([]) == translator.translate(iter(())) == []


@pytest.mark.parametrize("texts", [None, b"text", 3, [None], ["a", b"a"], [3.5], [["a"]]])
def test_anything_but_text_is_refused(texts):
    with pytest.raises(InputError, match=re.escape("Pass a string or a list of strings.")):
        list_texts(texts)


def test_pieces_of_a_word_are_joined_without_a_blank(translator):
    learned = Translator(translator.config, translator.tokenizers, translator.params, TextStatistics(5, 5, 0.0))
    [translation] = learned.translate("dog" * 20)
    assert len(translation.parts) > 2
    assert translation.text == "".join(part.text for part in translation.parts)
