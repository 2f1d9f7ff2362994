"""Doubtful translations have warnings, ordinary ones have none. The checks are tested one by one, then together."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import SOURCES, tiny_run  # noqa: F401

from transformer_jax import Translator
from transformer_jax.data.text_statistics import TextStatistics
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decoding.confidence import PERCENTILES, Confidence
from transformer_jax.decoding.search import Sampling
from transformer_jax.decoding.warnings import Checks, Evidence, TranslationWarning, has_repetition, join_warnings
from transformer_jax.errors import InputError

EOS = 3
TEXT = "Where is the old dog?"
BPE = Tokenizer.train("bpe", SOURCES, 300)
STATISTICS = TextStatistics(30, 30, 0.0, "".join(sorted(set("".join(SOURCES)))), 0.5, 2.0, 0.5)
CONFIDENCE = Confidence(7, tuple(math.log(0.2 + 0.01 * index) for index, _ in enumerate(PERCENTILES)))


def warnings_of(text=TEXT, target=None, limit=50, mean=-0.1, tokenizer=BPE, statistics=STATISTICS, translation=""):
    """Return the codes and messages of the warnings about a translation with the given target ids."""
    [ids] = tokenizer.encode([text])
    target = list(range(10, 10 + len(ids))) if target is None else target
    evidence = Evidence(text, translation, (*ids, EOS), (*target, EOS), limit, mean)
    return dict(Checks(tokenizer, statistics, CONFIDENCE)(evidence))


def test_an_ordinary_translation_has_no_warning():
    assert warnings_of() == {}


@pytest.mark.parametrize(
    ("text", "counts", "examples"),
    [
        ("Where is the 🚂?", "1 of 15", "🚂"),
        ("駅はどこ?", "4 of 5", "駅 は ど こ"),
        ("the dog�", "1 of 8", "�"),
        ("the\x01dog", "1 of 7", r"\x01"),
    ],
)
def test_unseen_characters_are_counted_and_shown(text, counts, examples):
    message = warnings_of(text)["unseen_characters"]
    assert message == f"the training text has no {examples} ({counts} characters)."


def test_many_unseen_characters_are_abridged():
    message = warnings_of("абвгдежзийклмн")["unseen_characters"]
    assert "no а б в г д е ж з и й... (14 of 14 characters)" in message


def test_unknown_words_are_named():
    words = Tokenizer.train("word", SOURCES, 50)
    assert "unknown_words" not in warnings_of(TEXT, tokenizer=words)
    assert warnings_of("Where is the cat?", tokenizer=words)["unknown_words"] == "1 of 5 tokens are unknown: cat."


def test_shuffled_letters_are_unusual():
    assert "unusual_spelling" not in warnings_of("the old station")
    assert "unusual_spelling" in warnings_of("teh lod nttsaio")


@pytest.mark.parametrize(("length", "word"), [(1, "short"), (2, "short"), (3, None), (13, None), (14, "long")])
def test_unusual_length_ratios_are_reported(length, word):
    [ids] = BPE.encode([TEXT])
    assert len(ids) == 6  # With [EOS], 4 to 14 target tokens are usual.
    message = warnings_of(target=list(range(20, 20 + length))).get("length_ratio", "")
    assert (f"unusually {word}: {length + 1} tokens for 7 " in message) if word else message == ""


def test_an_empty_translation_is_reported_even_without_statistics():
    assert warnings_of(target=[], statistics=None) == {"empty": "the translation is empty."}
    assert set(warnings_of(target=[])) == {"empty"}


def test_a_translation_at_its_limit_is_reported():
    assert "length_limit" in warnings_of(limit=7)
    assert "length_limit" not in warnings_of(limit=8)


@pytest.mark.parametrize(
    ("text", "translation", "missing"),
    [
        ("It costs 1,250.75.", "Es kostet 1.250,75.", ""),
        ("At 14:30", "um 14.30 Uhr", ""),
        ("In 2004, 12 dogs", "2004: Hunde", "12"),
        ("In 2004, 12 dogs", "vier Hunde", "2004, 12"),
        ("3 dogs", "drei Hunde", ""),
        ("12 dogs", "112 Hunde", "12"),
        ("the 1990s", "die 1990er", ""),
        ("12 34", "12 und 34", ""),
        ("1234", "12 34", "1234"),
        ("1.80 m", "180 m", "1.80"),
        ("2.5 km", "25 km", "2.5"),
        ("2.5 km", "2,5 km", ""),
        ("300 000", "300.000", ""),
        ("300\u00a0000", "300000", ""),
        ("At 10:30", "um 10 Uhr 30", ""),
        ("101,102", "101 und 102", ""),
    ],
)
def test_missing_numbers_are_named(text, translation, missing):
    message = warnings_of(text, translation=translation, statistics=None).get("missing_number", "")
    assert message == (f"the translation does not contain {missing} in digits." if missing else "")


def test_an_unsure_model_is_reported_unless_translations_are_drawn():
    assert "0.19, usually above 0.20" in warnings_of(mean=math.log(0.19))["low_probability"]
    assert "low_probability" not in warnings_of(mean=math.log(0.201))
    assert "low_probability" not in warnings_of(mean=None)


def test_a_repetition_of_the_source_is_no_warning():
    loop = [50, 51] * 4
    assert "repetition" in warnings_of(target=loop)
    assert "repetition" not in warnings_of("dog dog dog dog dog dog", target=loop)


@given(before=st.lists(st.integers(0, 3), max_size=7), unit=st.lists(st.integers(4, 9), min_size=1, max_size=5))
def test_four_copies_in_a_row_are_a_repetition(before, unit):
    assert has_repetition(before + unit * 4)
    assert has_repetition(unit * 4 + before)


@given(st.lists(st.integers(0, 2), max_size=24))
def test_repetitions_are_those_found_by_comparing_all_slices(ids):
    expected = any(
        ids[start : start + length] * 4 == ids[start : start + 4 * length]
        for length in range(1, len(ids) // 4 + 1)
        for start in range(len(ids) - 4 * length + 1)
    )
    assert has_repetition(ids) == expected


def test_joined_warnings_keep_the_first_of_each_kind():
    first = [TranslationWarning("a", "is 1."), TranslationWarning("b", "is 2.")]
    second = [TranslationWarning("c", "is 3."), TranslationWarning("a", "is 4.")]
    copied = [TranslationWarning("d", "is 5.")]
    expected = [("a", "sentence 2: is 1."), ("b", "sentence 2: is 2."), ("d", "is 5."), ("c", "sentence 3: is 3.")]
    parts = [(True, ()), (False, ()), (True, first), (False, copied), (True, second)]
    assert join_warnings(parts) == tuple(TranslationWarning(*warning) for warning in expected)


def test_translations_of_a_run_have_warnings(tiny_run):  # noqa: F811
    translator = Translator.load(tiny_run)
    learned = Translator(translator.config, translator.tokenizers, translator.params, STATISTICS, CONFIDENCE)
    copied, joined, symbols, garbled = learned.translate(["駅はどこ", "Where is it? 駅", "?!", TEXT])
    assert copied.text == "駅はどこ"
    assert [code for code, _ in copied.warnings] == ["unseen_characters"]
    assert copied.warnings[0].message.startswith(
        "text is copied, because the training text has no 駅 は ど こ (4 of 4 "
    )
    assert dict(joined.warnings)["unseen_characters"].startswith("text is copied, because the training text has no 駅 ")
    assert joined.text.endswith(" 駅")
    assert [code for code, _ in symbols.warnings] == ["copied"]
    assert "low_probability" in dict(garbled.warnings)  # Its parameters are random.
    [[drawn]] = learned.translate_n_best([TEXT], 1, sampling=Sampling())
    assert "low_probability" not in dict(drawn.warnings)


@pytest.mark.parametrize("alpha", [0.0, 0.6])
@pytest.mark.parametrize("beam", [1, 3])
def test_mean_log_probability_is_free_of_the_length_penalty(alpha, beam, tiny_run):  # noqa: F811
    translator = Translator.load(tiny_run)
    [best] = translator.translate([TEXT], beam, alpha)
    length = len(best.target_ids)
    penalty = ((5 + length) / 6) ** alpha if beam > 1 else 1
    assert best.mean_log_probability == pytest.approx(best.score * penalty / length)


def test_confidence_survives_saving_and_damage_is_refused(tmp_path):
    assert Confidence.load(tmp_path) is None
    Confidence.measure(7, [-0.1 * number for number in range(1, 201)]).save(tmp_path)
    loaded = Confidence.load(tmp_path)
    assert loaded.step == 7
    assert loaded.minimum == pytest.approx(-20 + 0.002 * 19.9)
    path = tmp_path / "confidence.json"
    above_0 = {str(percentile): 0.5 for percentile in PERCENTILES}
    for damage in (
        "",
        "[]",
        "{}",
        json.dumps({"step": 7, "percentiles": above_0}),
        json.dumps({"step": 7, "percentiles": {"50": -1}}),
        '{"step": 1e999}',
    ):
        path.write_text(damage)
        with pytest.raises(InputError, match="is damaged"):
            Confidence.load(tmp_path)


def test_a_run_without_validated_sentences_has_no_minimum(tmp_path):
    Confidence.measure(1, []).save(tmp_path)
    evidence = Evidence("dog", "Hund", (5, EOS), (5, EOS), 10, -99.0)
    assert Checks(BPE, None, Confidence.load(tmp_path))(evidence) == ()
