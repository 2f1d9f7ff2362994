"""Scores are what sacreBLEU and multi-bleu.perl give, and say what they were computed on."""

import math

import pytest
from sacrebleu.metrics import BLEU

from transformer_jax.errors import InputError
from transformer_jax.evaluation import detokenize, is_tokenized, score

TOKENS = ["der hund ist hier .", "wo ist er ?", "er sagt , er sei &quot; hier &quot; ."]
TEXT = ["Der Hund ist hier.", "Wo ist er?", "Er sagt, er sei „hier“."]


def test_raw_text_has_no_score_of_tokens_and_keeps_its_case():
    scores = score(TEXT, TEXT)
    assert list(scores) == ["BLEU", "chrF"]
    assert [round(each.value) for each in scores.values()] == [100, 100]
    assert all("case:mixed" in each.signature for each in scores.values())


def test_tokens_are_scored_as_they_are_and_as_text():
    # 4 of 5 words are right, 3 of 4 pairs of words, 2 of 3 triples, 1 of 2 quadruples; the lengths are equal.
    scores = score(["ein hund ist hier ."], TOKENS[:1])
    assert scores["BLEU-tokenized"].value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))
    assert "case:lc|eff:no|tok:none" in scores["BLEU-tokenized"].signature
    assert "case:lc|eff:no|tok:13a" in scores["BLEU"].signature


@pytest.mark.parametrize(
    ("language", "translation", "reference", "tokenizer"),
    [
        ("zh", "我今天去了学校。", "我昨天去了学校。", "zh"),
        ("ja", "私は今日学校に行きました。", "私は昨日学校に行きました。", "char"),
        ("de", "Ich ging heute in die Schule.", "Ich ging gestern in die Schule.", "13a"),
    ],
)
def test_text_is_cut_into_words_as_its_language_needs(language, translation, reference, tokenizer):
    near, far = (score([one] * 5, [reference] * 5, language)["BLEU"] for one in (translation, "? !"))
    assert f"tok:{tokenizer}" in near.signature
    assert near.value > 20 > far.value


def test_nobody_is_told_to_detokenize_what_has_been(caplog):
    assert "BLEU-tokenized" in score(TOKENS[:1] * 101, TOKENS[:1] * 101)  # sacreBLEU warns at a hundred full stops.
    assert not any("forgot to detokenize" in message for message in caplog.messages)


def test_the_brevity_penalty_is_that_of_tokens():
    # All that is there is right, but 4 words stand for 5.
    found = score(["der hund ist hier"], TOKENS[:1])["BLEU-tokenized"].value
    assert found == pytest.approx(100 * math.exp(1 - 5 / 4))


def test_sacrebleu_of_tokens_is_that_of_the_text_they_were_made_of():
    tokens = ["peter &apos;s t-shirt costs 3.5 euros .", "he says , &quot; she stays . &quot;"]
    text = ["peter's t-shirt costs 3.5 euros.", 'he says, "she stays."']
    found = ["peter &apos;s coat costs 3.5 euros .", "he says , &quot; we stay . &quot;"]
    assert detokenize(tokens, "en") == text
    expected = BLEU().corpus_score(["peter's coat costs 3.5 euros.", 'he says, "we stay."'], [text]).score
    assert score(found, tokens, "en")["BLEU"].value == pytest.approx(expected)
    # sacreBLEU makes three tokens of "&apos;": tokens that are left as they are would be scored higher.
    assert BLEU().corpus_score(found, [tokens]).score > expected + 1


def test_a_few_lines_that_look_tokenised_do_not_make_a_text_so():
    assert not is_tokenized(["Where is it?"] * 20 + ["He has left ."])
    assert not is_tokenized(["He has left ."] + ["She is here."] * 2)
    assert is_tokenized(["where is it ?"] * 5 + ["he has left ."])


def test_tokens_become_text_by_the_rules_of_their_language():
    assert detokenize(["the dog &apos;s tail"], "en") == ["the dog's tail"]
    assert detokenize(["l&apos; homme"], "fr") == ["l'homme"]


def test_case_counts_where_tokenised_references_have_any():
    cased = score(["der hund ist hier ."], ["Der Hund ist hier ."])
    lower = score(["Der Hund ist hier ."], ["der hund ist hier ."])
    assert cased["BLEU-tokenized"].value < 100
    assert "case:mixed" in cased["BLEU-tokenized"].signature
    assert lower["BLEU-tokenized"].value == pytest.approx(100)


@pytest.mark.parametrize(
    ("lines", "tokenized"),
    [
        (TOKENS, True),
        (TEXT, False),
        (["Er ging .", "Er kam."], False),
        (["Er ging .", "Sie ging .", "Er kam usw."], True),
        (["犬 は ここ 。", "Ja !"], False),
        (["."], False),
        ([""], False),
    ],
)
def test_full_stops_that_stand_apart_show_tokens(lines, tokenized):
    assert is_tokenized(lines) == tokenized


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (TEXT[:2], "3 translations cannot be scored against 2 references. Give one reference"),
        ([], "3 translations cannot be scored against 0 references"),
        (["", " ", "\u3000"], "all 3 references are blank. Give the translations to compare with"),
    ],
)
def test_references_that_cannot_be_compared_with_are_refused(references, message):
    with pytest.raises(InputError, match=message):
        score(TEXT, references)


def test_a_blank_reference_is_reported_unless_the_translation_is_blank_too(caplog):
    score(["", *TEXT], ["", *TEXT])
    assert not caplog.messages
    score(["", *TEXT], ["", TEXT[0], "", " "])
    [message] = caplog.messages
    assert message.startswith("2 references are blank, the first on line 3,")
