"""Lines of several sentences: sentence pairs, their word numbers, links and gold links."""

import dataclasses
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import TINY_CONFIG

from transformer_jax.alignment.error_rate import GoldLinks, score_alignments
from transformer_jax.alignment.sentence_pairs import (
    join_links,
    needs_single_sentences,
    split_gold_links,
    split_pairs,
    warn_of_unequal_counts,
)
from transformer_jax.data.sources import Pair
from transformer_jax.data.text_statistics import TextStatistics

SOURCE = ["The old dog is here.", "Where is it?", "It is at the old station now."]  # 5, 3 and 7 words.
TARGET = ["Wo?", "Der alte Hund ist nun hier am Bahnhof bei dem alten.", "Er ist es."]  # 1, 11 and 3 words.


def translator(source="en", target="de", kind="bpe"):
    """A stand-in for a translator: all that splitting reads."""
    data = dataclasses.replace(TINY_CONFIG.data, source=source, target=target)
    return SimpleNamespace(
        config=SimpleNamespace(data=data), tokenizers=SimpleNamespace(source=SimpleNamespace(kind=kind))
    )


def split(*pairs, by_sentences=True, **languages):
    return split_pairs([Pair(*pair) for pair in pairs], translator(**languages), by_sentences, first=11)


def words(sentence_pairs):
    return [(list(pair.source_words), list(pair.target_words)) for pair in sentence_pairs]


LINE = (f"  {SOURCE[0]} \u3000 {SOURCE[1]}\t{SOURCE[2]} ", " ".join(TARGET))
NUMBERS = [
    (list(range(5)), [0]),
    (list(range(5, 8)), list(range(1, 12))),
    (list(range(8, 15)), list(range(12, 15))),
]


def test_words_of_each_sentence_have_their_numbers_in_the_line():
    sentence_pairs = split(LINE)
    assert [pair.pair for pair in sentence_pairs] == list(map(Pair, SOURCE, TARGET))
    assert words(sentence_pairs) == NUMBERS
    line_words = [text.split() for text in LINE]
    for (source, target), *_ in sentence_pairs:
        assert source.split() + target.split() == [
            line_words[side].pop(0) for side, text in enumerate((source, target)) for _ in text.split()
        ]


def test_links_are_joined_per_line():
    sentence_pairs = split(("One.", "Eins."), LINE, ("Two. Three.", "Zwei."))
    links = list(map(frozenset, [{(0, 0)}, {(4, 0)}, {(0, 0), (2, 10)}, {(6, 2)}, set()]))
    assert [pair.line for pair in sentence_pairs] == [11, 12, 12, 12, 13]
    assert join_links(sentence_pairs, links) == [{(0, 0)}, {(4, 0), (5, 1), (7, 11), (14, 14)}, set()]


@pytest.mark.parametrize(
    "pair",
    [
        (" The old  dog. ", "Der alte Hund.\t"),
        ("1. Mr. Smith", "1. Herr Smith"),
        ("🙂 The dog! 🙂", "🙂 Der Hund! 🙂"),
        ("- Yes.", "Ja."),
        ("?!", "?!"),
        ("One. Two.", "Eins und zwei."),
        ("One. Two.", "Eins. Zwei. Drei."),
    ],
)
def test_a_pair_that_is_not_split_is_unchanged(pair):
    [sentence_pair] = split(pair)
    assert sentence_pair.pair == pair
    assert words([sentence_pair]) == [tuple(list(range(len(text.split()))) for text in pair)]
    assert split(pair, by_sentences=False)[0][:4] == sentence_pair[:4]


def test_lines_are_split_only_if_requested():
    [whole] = split(LINE, by_sentences=False)
    assert whole.pair == LINE


def test_symbols_stay_with_their_sentence():
    sentence_pairs = split(("🙂 The dog. 🙂 It is.", "🙂 Der Hund. Es ist."))
    assert [pair.pair for pair in sentence_pairs] == [("🙂 The dog. 🙂", "🙂 Der Hund."), ("It is.", "Es ist.")]


def test_text_without_white_space_is_not_split():
    line = ("你好。你在哪里？", "Hello. Where are you?")
    [whole] = split(line, source="zh", target="en")
    assert whole.pair == line
    assert words([whole]) == [([0], [0, 1, 2, 3])]


def test_sentences_are_joined_where_one_side_has_no_white_space():
    line = ("你好。你在哪里？ 我 很 好 。", "Hello. Where are you? I am very well.")
    sentence_pairs = split(line, source="zh", target="en")
    assert [pair.pair for pair in sentence_pairs] == [
        ("你好。你在哪里？", "Hello. Where are you?"),
        ("我 很 好 。", "I am very well."),
    ]
    assert words(sentence_pairs) == [([0], [0, 1, 2, 3]), ([1, 2, 3, 4], [4, 5, 6, 7])]


def test_a_language_code_is_repeated_for_every_sentence():
    line = (">>de<< The old dog. Is it?", "Der Hund. Ist es?")
    sentence_pairs = split(line, kind="sentencepiece")
    assert [pair.pair.source for pair in sentence_pairs] == [">>de<< The old dog.", ">>de<< Is it?"]
    assert words(sentence_pairs) == [([0, 1, 2, 3], [0, 1]), ([0, 4, 5], [2, 3])]
    assert [pair.pair.source for pair in split(line)] == [">>de<< The old dog.", "Is it?"]


texts = st.lists(st.sampled_from(["One.", "Two words!", "你好。", "🙂", "-", "1.", " ", "\t", "..."]), min_size=1)


@given(texts.map("".join), texts.map(" ".join))
def test_every_word_of_a_line_belongs_to_one_sentence(source, target):
    sentence_pairs = split((source, target))
    for side, text in enumerate((source, target)):
        assert " ".join(pair.pair[side] for pair in sentence_pairs).split() == text.split()
        assert [word for numbers in words(sentence_pairs) for word in numbers[side]] == list(range(len(text.split())))


def test_unequal_sentence_counts_cause_one_warning(caplog):
    warn_of_unequal_counts(split(LINE, ("One. Two.", "Eins."), LINE, ("One.", "Eins. Zwei. Drei."), ("One.", "Eins.")))
    [message] = caplog.messages
    assert message.startswith("line 12 and 1 other line: ")
    assert "different numbers of sentences (2 and 1) and are not split." in message
    assert message.endswith("Write one sentence per line, or set --split-sentences never.")
    caplog.clear()
    warn_of_unequal_counts(split(LINE, ("One.", "Eins.")))
    warn_of_unequal_counts(split(("One. Two.", "Eins."), by_sentences=False))
    assert not caplog.messages


numbers = st.frozensets(st.tuples(st.integers(0, 14), st.integers(0, 14)), min_size=1)


@given(numbers, numbers, numbers)
def test_split_gold_links_give_the_scores_of_joined_links(sure, possible, predicted):
    sentence_pairs = split(LINE, ("One.", "Eins."))
    gold = [GoldLinks(sure, sure | possible), GoldLinks(frozenset({(0, 0)}), frozenset({(0, 0)}))]
    links = [
        frozenset(link for link in predicted if link[0] < len(pair.source_words) and link[1] < len(pair.target_words))
        for pair in sentence_pairs
    ]
    split_gold = split_gold_links(sentence_pairs, gold)
    assert score_alignments(links, split_gold) == score_alignments(join_links(sentence_pairs, links), gold)


@pytest.mark.parametrize(
    ("option", "shares", "expected"),
    [
        ("auto", (None,), True),
        ("auto", (0.01,), True),
        ("auto", (0.5,), False),
        ("auto", (0.5, 0.01), True),
        ("always", (0.5,), True),
        ("never", (None, 0.01), False),
    ],
)
def test_pairs_are_split_as_the_runs_were_trained(option, shares, expected):
    runs = [SimpleNamespace(statistics=share and TextStatistics(7, 7, share)) for share in shares]
    assert needs_single_sentences(option, runs) is expected
