"""Tokens for unknown text are counted, reported and refused."""

import logging

import pytest

from transformer_jax.config import TokenizerConfig
from transformer_jax.data.records import Pair
from transformer_jax.data.run_tokenizers import Tokenizers, train_tokenizers
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.data.unknown_text import (
    UnknownShares,
    report_unknown,
    require_known_text,
    require_vocabulary,
    unknown_shares,
)
from transformer_jax.errors import InputError

KNOWN = [Pair("a b a b", "x y x y")]


def train(kind, pairs=KNOWN, vocabulary="separate", size=300):
    return train_tokenizers(TokenizerConfig(kind=kind, vocabulary=vocabulary, size=size), pairs)


def test_unknown_words_are_counted_without_the_ends():
    tokenizers = train("word")
    assert unknown_shares(KNOWN, tokenizers) == (0, 0)
    # 2 of 5 source tokens, and 3 of 4 target tokens.
    assert unknown_shares([Pair("a c b", "z x"), Pair("d a", "z z")], tokenizers) == (2 / 5, 3 / 4)
    assert unknown_shares([Pair("", "x")], tokenizers) == (0, 0)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_unknown_characters_are_counted_in_subwords(kind):
    tokenizers = train(kind, KNOWN * 20, "joint")
    known, unknown = (unknown_shares([Pair(text, text)], tokenizers).source for text in ("a b", "日"))
    assert known == 0
    assert unknown > 0.4  # Unigram adds a token for the start of a word.


def test_partial_characters_are_counted_in_bytes():
    tokenizers = train("bpe", [Pair("ü ü ü", "ß")] * 3)
    assert unknown_shares([Pair("ü z", "ßz")], tokenizers) == (0, 0), "unlike a single byte z"
    # The three bytes of 日 are tokens, as are the two bytes of ü in the target vocabulary, which does not contain it.
    assert unknown_shares([Pair("ü日", "üß")], tokenizers) == (3 / 4, 2 / 3)


def test_a_vocabulary_of_special_tokens_is_refused():
    require_vocabulary(train("word"))
    for pairs, side in (([Pair("a b", "x x")], "source"), ([Pair("a a", "x y")], "target")):
        with pytest.raises(InputError, match=rf"the {side} vocabulary contains only special tokens.*--tokenizer\.kind"):
            require_vocabulary(train("word", pairs))


def test_text_without_a_known_word_is_refused():
    words = train("word")
    require_known_text(UnknownShares(0.99, 0), words)
    with pytest.raises(InputError, match=r"no target token of the training text\. Set --tokenizer\.kind bpe"):
        require_known_text(UnknownShares(0.0, 1.0), words)
    require_known_text(UnknownShares(1.0, 1.0), train("bpe"))  # A model of bytes.


def report(caplog, *shares, kind="word"):
    tokenizer = Tokenizer.train(kind, ["a a"], 300)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        report_unknown(UnknownShares(*shares[:2]), UnknownShares(*shares[2:]), Tokenizers(tokenizer, tokenizer))
    return [(record.levelname, record.message) for record in caplog.records]


def test_unknown_words_are_reported_if_there_are_any(caplog):
    assert report(caplog, 0, 0.0004, 0, 0) == []
    assert report(caplog, 0.0, 0.021, 0.001, 0.05) == [
        (
            "INFO",
            "unknown words: 0.0% of the source tokens (0.1% in the validation text), 2.1% of the target tokens (5.0% "
            "in the validation text)",
        )
    ]


@pytest.mark.parametrize("position", range(4))
def test_many_unknown_words_are_a_warning_with_a_remedy(position, caplog):
    shares = [0.0] * 4
    shares[position] = 0.051
    for kind, fragment in (("word", "Set --tokenizer.kind bpe or a larger"), ("bpe", "Set a larger --tokenizer.size")):
        [(level, message)] = report(caplog, *shares, kind=kind)
        assert level == "WARNING"
        assert "5.1% " in message
        assert fragment in message
