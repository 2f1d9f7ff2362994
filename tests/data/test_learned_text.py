"""A model can read the characters of its training sources, and those that normalization turns into them."""

import pytest

from transformer_jax.data.learned_text import LearnedText
from transformer_jax.data.normalization import Normalization
from transformer_jax.data.tokenizers import Tokenizer

TEXTS = ['It\'s "so", he said.', "Is it a café?", 'A "dog"?'] * 5
PLAIN = Tokenizer.train("bpe", TEXTS, 300)
NORMALIZING = PLAIN.with_normalization(Normalization.learn(TEXTS))
CHARACTERS = "".join(sorted(set("".join(TEXTS))))


@pytest.mark.parametrize("text", ["It’s a café", "“so”", "cafe\u0301", "a\u00a0dog", "s\u00ado", "„so“"])
def test_characters_that_are_normalized_are_known(text):
    assert LearnedText(NORMALIZING, CHARACTERS).unknown_in(text) == []
    assert LearnedText(PLAIN, CHARACTERS).unknown_in(text) != []


def test_unlearned_text_are_listed_in_order():
    known = LearnedText(NORMALIZING, CHARACTERS)
    assert known.unknown_in("駅 so 駅 🙂?") == ["駅", "駅", "🙂"]
    assert "駅" not in known
    assert "s" in known
    assert None not in known


def test_an_unknown_accent_is_unknown_however_it_is_encoded():
    known = LearnedText(NORMALIZING, CHARACTERS)
    assert known.unknown_in("caf\u00e8") == known.unknown_in("cafe\u0300") == ["\u00e8"]
    assert known.unknown_in("d\u0301") == ["\u0301"]


@pytest.mark.parametrize(("text", "expected"), [("駅はどこ", False), ("駅 so", True), ("?!", False), ("12", False)])
def test_a_text_needs_a_known_letter_or_digit_to_be_read(text, expected):
    assert LearnedText(NORMALIZING, CHARACTERS).can_read(text) is expected


def test_without_statistics_every_character_is_known():
    known = LearnedText(PLAIN)
    assert known.unknown_in("駅🙂") == []
    assert known.can_read("駅")
    assert not known.can_read("🙂")
