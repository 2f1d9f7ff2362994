"""The statistics of the training text are measured, saved and checked."""

import json
import math

import pytest

from transformer_jax.config import TokenizerConfig
from transformer_jax.data.batches import encode_pairs
from transformer_jax.data.records import Pair
from transformer_jax.data.run_tokenizers import train_tokenizers
from transformer_jax.data.text_statistics import TextStatistics, measure_text, needs_splitting, tokens_per_character
from transformer_jax.errors import InputError

PAIRS = [
    Pair("Tom likes me.", "Tom mag mich."),
    Pair("Give it to me.", "Gib es mir."),
    Pair("I met Mr. Smith.", "Ich traf Herrn Smith."),
    Pair("Is it “no”? Yes.", "Ist es „nein“? Ja."),
    Pair("Ask Mr.", "Frag den Herrn."),
]


def measure(pairs=PAIRS, valid=PAIRS):
    tokenizers = train_tokenizers(TokenizerConfig(size=300, normalization="text"), pairs)
    encoded, _ = encode_pairs(pairs, tokenizers, max_length=99)
    return measure_text(pairs, encoded, valid, tokenizers.source, "en"), encoded


def test_lengths_and_sentences_are_counted():
    statistics, encoded = measure()
    assert statistics.longest_source == max(encoded.source.lengths()) - 1
    assert statistics.longest_target == max(encoded.target.lengths()) - 2
    assert statistics.multi_sentence_share == 1 / 5
    assert statistics.has_single_sentences is False


def test_characters_are_those_of_the_normalized_sources():
    statistics, _ = measure([*PAIRS, Pair("cafe\u0301\u00a0“a”", "ß")])
    assert statistics.source_characters == "".join(sorted(set(statistics.source_characters)))
    assert {"é", " ", "“"} <= set(statistics.source_characters)
    assert not {"\u0301", "\u00a0", "ß"} & set(statistics.source_characters)


def test_words_that_end_sources_are_not_abbreviations():
    assert measure()[0].sentence_ends == ["me"]  # "Mr." is followed by text as often as it ends a source.


def test_few_pairs_have_wide_length_ratios():
    statistics, encoded = measure()
    source_lengths, target_lengths = encoded.lengths()
    median = sorted(target_lengths / source_lengths)[2]
    assert (statistics.min_length_ratio, statistics.max_length_ratio) == pytest.approx((0.4 * median, 2.5 * median))


def test_many_pairs_have_measured_length_ratios():
    pairs = [Pair("one two three", "eins zwei drei")] * 1009 + [Pair("one two three", "eins")]
    statistics, encoded = measure(pairs)
    source_lengths, target_lengths = encoded.lengths()
    ratios = sorted(target_lengths / source_lengths)
    assert ratios[0] < statistics.min_length_ratio <= ratios[1] == statistics.max_length_ratio


def test_tokens_per_character_ignores_two_tokens():
    assert tokens_per_character("abcd", [5, 6, 7]) == 1 / 4
    assert tokens_per_character("a", [5, 6]) == tokens_per_character("", []) == 0


def test_statistics_survive_saving(tmp_path):
    assert TextStatistics.load(tmp_path) is None
    statistics, _ = measure()
    statistics.save(tmp_path)
    assert TextStatistics.load(tmp_path) == statistics
    TextStatistics.remove(tmp_path)
    assert TextStatistics.load(tmp_path) is None


def test_statistics_of_earlier_versions_are_read(tmp_path):
    values = {"longest_source": 7, "longest_target": 5, "multi_sentence_share": 0.0}
    (tmp_path / "text_statistics.json").write_text(json.dumps(values))
    statistics = TextStatistics.load(tmp_path)
    assert statistics.source_characters == ""
    assert statistics.max_length_ratio == math.inf


@pytest.mark.parametrize(
    "changes",
    [
        {"longest_source": 0},
        {"longest_source": "7"},
        {"longest_source": 3.5},
        {"longest_source": True},
        {"longest_source": math.nan},
        {"longest_source": 10**30},
        {"multi_sentence_share": 1.5},
        {"source_characters": 3},
        {"max_length_ratio": "2"},
        {"min_length_ratio": -1.0},
        {"max_tokens_per_character": None},
        {"sentence_ends": [1]},
        {"sentence_ends": 1},
        {"sentence_ends": "abc"},
        {"max_length_ratio": math.nan},
        {"source_characters": "\ud800"},
        {"other": 1},
    ],
)
def test_damaged_statistics_are_refused(changes, tmp_path):
    values = TextStatistics(7, 5, 0.0, "ab", 0.5, 2.0, 0.3, ["me"])._asdict() | changes
    path = tmp_path / "text_statistics.json"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"text_statistics\.json is damaged"):
        TextStatistics.load(tmp_path)


@pytest.mark.parametrize(
    ("option", "share", "expected"),
    [("auto", None, True), ("auto", 0.01, True), ("auto", 0.5, False), ("always", 0.5, True), ("never", None, False)],
)
def test_texts_are_split_as_the_run_was_trained(option, share, expected):
    statistics = None if share is None else TextStatistics(7, 5, share)
    assert needs_splitting(option, statistics) is expected
