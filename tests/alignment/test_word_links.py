"""Links between the words of raw texts and those of their translations, also where no model stood between the two."""

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


def test_links_are_those_of_the_attention_of_the_translation(translator):
    [links], [translation] = links_of(translator, TEXT)
    tokens = PairAttention(
        translator.attention(TEXT, translation).cross,
        source_words(translator.tokenizers.source, TEXT, translation.source_ids),
        target_words(translator.tokenizers.target, translation.text, translation.target_ids),
    )
    assert links == link_target_words(word_weights(tokens, AlignmentRule.default(2, 2)))
    assert {target for _, target in links} == set(range(len(translation.text.split())))
    assert {source for source, _ in links} <= set(range(4))


@pytest.mark.parametrize("text", [LONG, UNBROKEN])
def test_links_of_a_text_in_parts_are_those_of_its_parts_moved_to_their_places(text, translator):
    [links], [whole] = links_of(translator, text)
    assert len(whole.parts) > 1
    sources, targets, expected, end = 0, 0, set(), 0
    for part in whole.parts:
        begin = text.index(part.source, end)
        # All that stands before the part, and whether it goes on with a word that has begun.
        before = text[:begin]
        sources = len(before.split()) - (not before[-1:].isspace() and bool(before))
        [alone] = word_links(translator, [part.source], [dataclasses.replace(part, parts=())])
        expected |= {(sources + source, targets + target) for source, target in alone}
        targets += len(part.text.split())
        end = begin + len(part.source)
    assert links == expected
    assert targets == len(whole.text.split())
    assert max(target for _, target in links) == targets - 1
    assert max(source for source, _ in links) < len(text.split())


def test_each_text_has_its_own_links_whatever_stands_beside_it(translator):
    texts = (TEXT, LONG, "", "?! 🙂", TEXT)
    together, _ = links_of(translator, *texts)
    assert together == [links_of(translator, text)[0][0] for text in texts]


def test_a_blank_text_has_no_links_and_one_passed_on_comes_from_itself(translator):
    together, translations = links_of(translator, " ", " ?!  🙂 ")
    assert [one.text for one in translations] == ["", "?!  🙂"]
    assert together == [frozenset(), {(0, 0), (1, 1)}]


def test_an_empty_translation_has_no_links(translator):
    [translation] = translator.translate([TEXT])
    empty = dataclasses.replace(translation, text="", tokens=("[EOS]",), target_ids=translation.target_ids[-1:])
    assert word_links(translator, [TEXT], [empty]) == [frozenset()]
