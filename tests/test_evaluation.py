"""Scores equal those of sacreBLEU and multi-bleu.perl, and their signatures state how they were computed."""

import math

import pytest
from sacrebleu.metrics import BLEU

from transformer_jax.config import Config, DataConfig, EvaluationConfig
from transformer_jax.errors import InputError
from transformer_jax.evaluation import check_evaluation, detokenize, is_tokenized, score

TOKENS = ["der hund ist hier .", "wo ist er ?", "er sagt , er sei &quot; hier &quot; ."]
TEXT = ["Der Hund ist hier.", "Wo ist er?", "Er sagt, er sei „hier“."]


def test_raw_text_has_no_token_score_and_keeps_its_case():
    scores = score(TEXT, TEXT)
    assert list(scores) == ["BLEU", "chrF"]
    assert [round(metric.value) for metric in scores.values()] == [100, 100]
    assert all("case:mixed" in metric.signature for metric in scores.values())


def test_tokenized_text_is_scored_as_tokens_and_as_text():
    # Correct are 4 of 5 unigrams, 3 of 4 bigrams, 2 of 3 trigrams and 1 of 2 4-grams. The lengths are equal.
    scores = score(["ein hund ist hier ."], TOKENS[:1])
    assert scores["BLEU-tokenized"].value == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))
    assert "case:lc|eff:no|tok:none" in scores["BLEU-tokenized"].signature
    assert "case:lc|eff:no|tok:13a" in scores["BLEU"].signature


@pytest.mark.parametrize(
    ("language", "translation", "reference", "tokenizer"),
    [
        ("zh", "我今天去了学校。", "我昨天去了学校。", "zh"),
        ("zho_Hans", "我今天去了学校。", "我昨天去了学校。", "zh"),
        ("jpn", "私は今日学校に行きました。", "私は昨日学校に行きました。", "char"),
        ("Lao", "ຂ້ອຍໄປໂຮງຮຽນມື້ນີ້.", "ຂ້ອຍໄປໂຮງຮຽນມື້ວານນີ້.", "char"),
        ("ja", "私は今日学校に行きました。", "私は昨日学校に行きました。", "char"),
        ("de", "Ich ging heute in die Schule.", "Ich ging gestern in die Schule.", "13a"),
    ],
)
def test_the_language_selects_the_sacrebleu_tokenizer(language, translation, reference, tokenizer):
    near, far = (score([line] * 5, [reference] * 5, language)["BLEU"] for line in (translation, "? !"))
    assert f"tok:{tokenizer}" in near.signature
    assert near.value > 20 > far.value


def test_tokenizer_can_be_chosen():
    assert "tok:intl" in score(TEXT, TEXT, "jpn", tokenize="intl")["BLEU"].signature
    assert "tok:13a" in score(TEXT, TEXT, "jpn", "13a")["BLEU"].signature


@pytest.mark.parametrize("language", ["ja", "ko"])
def test_tokenizer_without_its_package_names_the_command(language, monkeypatch):
    monkeypatch.setattr(f"sacrebleu.tokenizers.tokenizer_{language}_mecab.MeCab", None)
    config = Config(evaluation=EvaluationConfig(f"{language}-mecab"))
    with pytest.raises(InputError) as refused:
        check_evaluation(config)
    assert str(refused.value) == (
        f"evaluation.tokenize {language}-mecab needs a package that is not installed. "
        f'Run: pip install "sacrebleu[{language}]"'
    )


def test_unknown_languages_of_a_run_are_reported_before_it_starts(caplog):
    config = Config(data=DataConfig(source="src1", target="de"))
    check_evaluation(config)
    check_evaluation(config)
    [message] = caplog.messages
    assert message.startswith("the language 'src1' is unknown")


def test_sacrebleu_does_not_warn_about_detokenized_text(caplog):
    assert "BLEU-tokenized" in score(
        TOKENS[:1] * 101, TOKENS[:1] * 101
    )  # sacreBLEU warns from 100 tokenized full stops on.
    assert not any("forgot to detokenize" in message for message in caplog.messages)


def test_brevity_penalty_counts_tokens():
    # All 4 words are correct, but the reference has 5.
    bleu = score(["der hund ist hier"], TOKENS[:1])["BLEU-tokenized"].value
    assert bleu == pytest.approx(100 * math.exp(1 - 5 / 4))


def test_bleu_of_tokenized_text_equals_bleu_of_its_raw_text():
    tokens = ["peter &apos;s t-shirt costs 3.5 euros .", "he says , &quot; she stays . &quot;"]
    text = ["peter's t-shirt costs 3.5 euros.", 'he says, "she stays."']
    translations = ["peter &apos;s coat costs 3.5 euros .", "he says , &quot; we stay . &quot;"]
    assert detokenize(tokens, "en") == text
    expected = BLEU().corpus_score(["peter's coat costs 3.5 euros.", 'he says, "we stay."'], [text]).score
    assert score(translations, tokens, "en")["BLEU"].value == pytest.approx(expected)
    # sacreBLEU splits "&apos;" into three tokens, so the score without detokenization would be higher.
    assert BLEU().corpus_score(translations, [tokens]).score > expected + 1


def test_a_few_tokenized_lines_do_not_count_as_tokenized_text():
    assert not is_tokenized(["Where is it?"] * 20 + ["He has left ."])
    assert not is_tokenized(["He has left ."] + ["She is here."] * 2)
    assert is_tokenized(["where is it ?"] * 5 + ["he has left ."])


def test_detokenization_follows_the_language():
    assert detokenize(["the dog &apos;s tail"], "en") == ["the dog's tail"]
    assert detokenize(["l&apos; homme"], "fr") == ["l'homme"]
    text = ["l&apos; homme est là ."]
    for language in ("fr", "fra", "fre", "FR", "French", "fra_Latn"):
        # The reference is detokenized to "l'homme est là.", like the hypothesis.
        assert score(["l'homme est là ."], text, language)["BLEU"].value == pytest.approx(100)


def test_case_is_ignored_only_for_lower_cased_references():
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
def test_separated_full_stops_indicate_tokenized_text(lines, tokenized):
    assert is_tokenized(lines) == tokenized


@pytest.mark.parametrize(
    ("references", "message"),
    [
        (TEXT[:2], r"must be equal and above 0, but are 3 and 2\. Give one reference line"),
        ([], r"must be equal and above 0, but are 3 and 0\."),
        (["", " ", "\u3000"], r"every reference line is blank\. Choose a file that contains reference translations"),
    ],
)
def test_unusable_references_are_refused(references, message):
    with pytest.raises(InputError, match=message):
        score(TEXT, references)


def test_blank_reference_of_a_translation_is_reported(caplog):
    score(["", *TEXT], ["", *TEXT])
    assert not caplog.messages
    score(["", *TEXT], ["", TEXT[0], "", " "])
    [message] = caplog.messages
    assert message.startswith("reference line 3 is blank but its translation is not,")
    assert message.endswith("(number of such lines: 2).")
