"""Names of languages: codes in all notations and English names, in any case."""

import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transformer_jax.data.languages import bleu_tokenizer, find_language
from transformer_jax.data.sentences import sentence_blank, split_sentences
from transformer_jax.data.sources import open_pairs
from transformer_jax.errors import InputError

JAPANESE = ("ja", "jpn", "JA", "Jpn", "jpn_Jpan", "JPN_JPAN", "ja-JP", "ja_JP", "ja_XX", "Japanese", "japanese")
TOKENIZERS = {
    "char": (
        *JAPANESE,
        *("ko", "kor", "kor_Hang", "ko-KR", "Korean", "th", "tha", "tha_Thai", "Thai", "lo", "lao", "lao_Laoo", "Lao"),
        *("km", "khm", "khm_Khmr", "Khmer", "Central Khmer", "my", "mya", "bur", "mya_Mymr", "Burmese", "Myanmar"),
    ),
    "zh": (
        *("zh", "zho", "chi", "cmn", "zho_Hans", "zho_Hant", "zh-Hant", "zh_CN", "zh-TW", "ZH", "zh-cmn-Hans"),
        *("Chinese", "Mandarin", "Simplified Chinese", "Chinese (Traditional)", "yue_Hant", "wuu", "nan", "cdo", "lzh"),
    ),
    "13a": (
        *("de", "deu", "ger", "GERMAN", "en-GB", "eng_Latn", "jv", "jav", "jav_Latn", "Javanese", "mul", "und", "kk"),
        *("ja-Latn", "jpn_Latn", "Japanese (Latin)", "zh-Latn-pinyin", "nan_Latn", "ko-Latn", "th-Latn", "kr", "zha"),
        *("lav", "kok", "myv", "kmr", "lol", "thq", "kon", "arb_Arab", "Acehnese (Arabic script)", "bod_Tibt"),
    ),
}


@pytest.mark.parametrize(("tokenizer", "name"), [(tok, name) for tok, names in TOKENIZERS.items() for name in names])
def test_language_and_script_select_the_bleu_tokenizer(tokenizer, name, caplog):
    assert bleu_tokenizer(name) == tokenizer
    assert not caplog.messages


@pytest.mark.parametrize("name", JAPANESE)
def test_all_names_of_a_language_are_equal(name):
    assert find_language(name).code == "ja"
    assert sentence_blank(name) == ""


@pytest.mark.parametrize(
    ("name", "blank"),
    [("ja-Latn", " "), ("jav", " "), ("ko", " "), ("cmn_Hant", ""), ("Khmer", ""), ("bo", ""), ("nan_Latn", " ")],
)
def test_script_decides_about_the_blank_between_sentences(name, blank):
    assert sentence_blank(name) == blank


@pytest.mark.parametrize("name", ["de", "DE", "deu", "ger", "deu_Latn", "de-CH", "German"])
def test_every_name_selects_the_rules_of_sentence_ends(name):
    # In English, "3." ends a sentence.
    assert len(split_sentences("Am 3. Mai kam er. Er ging.", name)) == 2


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("jp", " Did you mean ja?"), ("CZ", " Did you mean cs?"), ("xx", ""), ("Thailand", ""), ("zht", ""), ("", "")],
)
def test_unknown_language_counts_as_english_and_warns_once(name, suggestion, caplog):
    find_language.cache_clear()
    assert [bleu_tokenizer(name), sentence_blank(name), bleu_tokenizer(name)] == ["13a", " ", "13a"]
    assert caplog.messages == [
        f"the language {name!r} is unknown, so its text is split and scored like English.{suggestion} "
        "Name languages by ISO 639 codes, such as ja or jpn."
    ]


@given(st.text() | st.text("abejpn-_() ", max_size=20))
@example("\0")
def test_every_text_is_accepted_as_a_name(name):
    logging.disable()
    try:
        find_language(name)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("source", "target"), [("English", "deu"), ("eng_Latn", "DE"), ("en-US", "German")])
def test_phrasebook_accepts_every_name_of_its_languages(source, target):
    english, german = next(iter(open_pairs("phrasebook", source, target, "test")))
    assert next(iter(open_pairs("phrasebook", target, source, "test"))) == (german, english)
    assert next(iter(open_pairs("phrasebook", "en", "de", "test"))) == (english, german)


@pytest.mark.parametrize(("source", "target"), [("en", "eng"), ("en", "nds"), ("ang", "de"), ("e", "d")])
def test_phrasebook_refuses_other_languages(source, target):
    with pytest.raises(InputError, match=r"the phrasebook contains only en and de.* Set --data.source en"):
        open_pairs("phrasebook", source, target, "test")
