"""Word alignment of raw texts with their translations, including long, copied and empty texts."""

import dataclasses

import pytest
from tiny_run import tiny_run  # noqa: F401

from transformer_jax import Translator
from transformer_jax.alignment.reading import AlignmentRule, PairAttention, link_target_words, word_weights
from transformer_jax.alignment.word_links import word_links
from transformer_jax.attention.words import source_words, target_words

TEXT = " Where  is the dog? "
LONG = "Where is the old station? The old dog is here, 3.5 stations from the old dog. Where is the old dog?"
UNBROKEN = "駅" * 9 + " 駅"


@pytest.fixture(scope="module")
def translator(tiny_run):  # noqa: F811
    return Translator.load(tiny_run)


def links_of(translator, *texts):
    translations = translator.translate(texts)
    return word_links(translator, texts, translations), translations


def test_links_come_from_the_attention_of_the_translation(translator):
    [links], [translation] = links_of(translator, TEXT)
    tokens = PairAttention(
        translator.attention(TEXT, translation).cross,
        source_words(translator.tokenizers.source, translation.source, translation.source_ids),
        target_words(translator.tokenizers.target, translation.text, translation.target_ids),
    )
    assert links == link_target_words(word_weights(tokens, AlignmentRule.default(2, 2)))
    assert {target for _, target in links} == set(range(len(translation.text.split())))
    assert {source for source, _ in links} <= set(range(4))


@pytest.mark.parametrize("text", [LONG, UNBROKEN])
def test_links_of_parts_are_moved_to_their_positions(text, translator):
    [links], [translation] = links_of(translator, text)
    assert len(translation.parts) > 1
    expected, end, target_end = set(), 0, 0
    for part in translation.parts:
        start = text.index(part.source, end)
        before = text[:start]
        starts_within_a_word = not before[-1:].isspace() and bool(before)
        source_offset = len(before.split()) - starts_within_a_word
        [alone] = word_links(translator, [part.source], [dataclasses.replace(part, parts=())])
        target_start = translation.text.index(part.text, target_end)
        before = translation.text[:target_start]
        starts_within_a_word = bool(before) and not (before[-1:].isspace() or part.text[:1].isspace())
        target_offset = len(before.split()) - starts_within_a_word
        expected |= {(source_offset + source, target_offset + target) for source, target in alone}
        end, target_end = start + len(part.source), target_start + len(part.text)
    assert links == expected
    assert max(target for _, target in links) == len(translation.text.split()) - 1
    assert max(source for source, _ in links) < len(text.split())


def test_links_do_not_depend_on_other_texts(translator):
    texts = (TEXT, LONG, "", "?! 🙂", TEXT)
    together, _ = links_of(translator, *texts)
    assert together == [links_of(translator, text)[0][0] for text in texts]


def test_a_copied_text_is_linked_to_itself(translator):
    links, translations = links_of(translator, " ", " ?!  🙂 ")
    assert [translation.text for translation in translations] == ["", "?!  🙂"]
    assert links == [frozenset(), {(0, 0), (1, 1)}]


def test_an_empty_translation_has_no_links(translator):
    [translation] = translator.translate([TEXT])
    empty = dataclasses.replace(translation, text="", tokens=("[EOS]",), target_ids=translation.target_ids[-1:])
    assert word_links(translator, [TEXT], [empty]) == [frozenset()]
