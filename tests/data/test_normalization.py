"""Sources typed in different ways are read in the typography of the training text. Targets are not changed."""

import copy
import dataclasses
import json
import pickle
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizer_cases import ENGLISH, GERMAN, KINDS

from transformer_jax.config import TokenizerConfig
from transformer_jax.data.normalization import (
    DOUBLE_QUOTES,
    FILE_NAME,
    HYPHENS,
    LONG_DASHES,
    RARE,
    SINGLE_QUOTES,
    Normalization,
)
from transformer_jax.data.records import Pair
from transformer_jax.data.run_tokenizers import load_tokenizers, save_tokenizers, train_tokenizers
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import InputError

STRAIGHT = ["I don't \"know\" - well-known, isn't it?", "He said: 'Wait...' - \"No.\""]
CURLY = ["I don’t “know” that—well-known, isn’t it?", "He said: ‘Wait…’ “No.”"]
FRENCH = ["Il n’a pas dit « oui », ni « non » – c’est-à-dire… « rien »."]
GERMAN_QUOTES = ["„Ja“, sagte er – so-so. „Wie geht’s?“ Gut…"]
REVERSED = ["»Ja«, sagte er – »nein!«"]
TEXT_CONFIG = TokenizerConfig("bpe", "joint", 400, normalization="text")
PAIRS = list(map(Pair, ENGLISH, GERMAN))
PHONE_TEXT = "She said:\u00a0“Well\u00ad done!” \u200bisn’t it…"
PLAIN_TEXT = 'She said: "Well done!" isn\'t it...'


def normalizer(texts):
    return Normalization.learn(texts).library_normalizer().normalize_str


# Rules that do not depend on the training text.


@pytest.mark.parametrize("space", [*"\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"])
def test_every_space_becomes_one_plain_space(space):
    normalize = normalizer([])
    assert normalize(f"a{space}b") == "a b"
    assert normalize(f"{space}a {space}{space} b{space}") == "a b"


@pytest.mark.parametrize("width", range(0x2000, 0x200B))
def test_every_width_of_space_becomes_a_plain_space(width):
    assert normalizer([])(f"a{chr(width)}b") == "a b"


@pytest.mark.parametrize(
    "invisible", [*"\x00\x08\x1b\x7f\xad\u061c\u200b\u200e\u200f\u202a\u202e\u2060\u2066\u2069\ufeff"]
)
def test_invisible_characters_are_removed(invisible):
    assert normalizer([])(f"{invisible}sta{invisible}tion{invisible}") == "station"


@pytest.mark.parametrize("text", ["می\u200cخواهم", "क्\u200dष", "👩\u200d👩\u200d👧", "❤\ufe0f", "ᠮᠣᠩ\u180eᠠ", "日本。"])
def test_characters_that_scripts_need_are_kept(text):
    assert normalizer(STRAIGHT)(text) == text


@pytest.mark.parametrize(
    ("text", "normalized"),
    [("cafe\u0301", "café"), ("e\u200b\u0301", "é"), ("\u1112\u1161\u11ab", "한"), ("ﬁ ²", "ﬁ ²")],
)
def test_characters_are_composed_but_not_replaced(text, normalized):
    assert normalizer([])(text) == normalized


@pytest.mark.parametrize("texts", [[], STRAIGHT])
@pytest.mark.parametrize("text", ["", " ", "\u200b\u00a0"])
def test_blank_text_becomes_empty(texts, text):
    assert normalizer(texts)(text) == ""


def test_without_training_text_no_mark_is_replaced():
    text = "I don’t “know” – 'well'—\"so\"… ‹a› „b“ »c«"
    assert normalizer([])(text) == text
    assert Normalization.learn(["no marks"]).table == {}


# Typography of the training text.


@pytest.mark.parametrize(
    ("texts", "text", "normalized"),
    [
        (STRAIGHT, "I don’t, don‘t, don´t, don`t, donʼt", "I don't, don't, don't, don't, don't"),
        (STRAIGHT, "“Yes,” „yes“, «yes», « yes », »yes«", '"Yes," "yes", "yes", "yes", "yes"'),
        (STRAIGHT, "‘Yes’ ‚yes‘ ‹yes›", "'Yes' 'yes' 'yes'"),
        (STRAIGHT, "“ Yes ” 6′ 3″", '" Yes " 6\' 3"'),
        (STRAIGHT, "Wait… what…?", "Wait... what...?"),
        (STRAIGHT, "wait – no — no―no—no", "wait - no - no - no - no"),
        (STRAIGHT, "10–20, −5, well‑known, “so—”", '10-20, -5, well-known, "so-"'),
        (CURLY, "I don't, 'tis", "I don’t, ‘tis"),
        (CURLY, '"Yes," he said. "\'No,\'" ("so")', "“Yes,” he said. “‘No,’” (“so”)"),
        (CURLY, "„Yes“ « yes » »yes«", "“Yes” “yes” “yes”"),
        (CURLY, 'He said: "...yes"... .', "He said: “…yes”… ."),
        (CURLY, "wait - no – no—no", "wait — no — no—no"),
        (CURLY, '" " "', '" " "'),
        (GERMAN_QUOTES, '"Ja", “ja”, »ja«, « ja », „ja”', "„Ja“, „ja“, „ja“, „ja“, „ja“"),
        (GERMAN_QUOTES, "Geht's - gut—ja...", "Geht’s – gut – ja…"),
        (FRENCH, '"Oui", “oui”, «oui», « oui ».', "« Oui », « oui », « oui », « oui »."),
        (FRENCH, 'L\'"eau" n\'est... ("rien")', "L’« eau » n’est… (« rien »)"),
        (REVERSED, '"Ja", „ja“ «so»', "»Ja«, »ja« »so«"),
        (REVERSED, "die »alte« Sache", "die »alte« Sache"),
    ],
)
def test_marks_are_written_as_in_the_training_text(texts, text, normalized):
    normalize = normalizer(texts)
    assert normalize(text) == normalized
    assert all(normalize(text) == text for text in texts)


def test_ellipsis_is_three_known_full_stops_if_it_is_unknown():
    assert normalizer(["Yes."])("Wait…") == "Wait..."
    assert normalizer(["Yes"])("Wait…") == "Wait…"


def test_dash_is_a_known_hyphen_if_it_is_unknown():
    assert normalizer(["well-known"])("a—b – c") == "a - b - c"


def test_forms_that_are_both_frequent_are_kept():
    normalize = normalizer(["don't", "don’t", "Wait...", "Wait…"])
    assert normalize("It's, it’s, it`s... and…") == "It's, it’s, it's... and…"


@pytest.mark.parametrize(("count", "kept"), [(round(1 / RARE), True), (round(1 / RARE) + 1, False)])
def test_rare_forms_are_replaced(count, kept):
    normalize = normalizer([*(["don't"] * count), "don’t"])
    assert normalize("It’s") == ("It’s" if kept else "It's")


def test_quotes_at_the_start_and_at_the_end_are_learned_apart():
    # In German, “ is frequent, but never at the start.
    table = Normalization.learn(GERMAN_QUOTES).table
    assert table["opening_double_quote"] == ("„",)
    assert table["closing_double_quote"] == ("“",)
    assert table["apostrophe"] == ("’",)


MARKS = st.sampled_from(
    [
        *SINGLE_QUOTES,
        *DOUBLE_QUOTES,
        *HYPHENS,
        *LONG_DASHES,
        *"…. ,!()ab1",
        "...",
        " - ",
        " — ",
        "« ",
        " »",
        "\u200b\u0301",
    ]
)
TEXTS = st.lists(MARKS | st.characters(exclude_categories=["Cs"]), max_size=9).map("".join)


@given(training=st.lists(TEXTS, max_size=4), text=TEXTS)
@example(training=FRENCH, text='" "\'"oui" ,«"»')
@example(training=STRAIGHT, text="-—- « - a»")
def test_normalizing_twice_is_normalizing_once(training, text):
    normalize = normalizer(training)
    assert normalize(normalize(text)) == normalize(text)


@pytest.mark.parametrize("unit", ["a!", "“", "—", "…", "« ", "'."])
def test_time_is_linear(unit):
    normalize = normalizer(STRAIGHT)

    def seconds(length):
        text = unit * (length // len(unit))
        start = time.process_time()
        normalize(text)
        return time.process_time() - start

    # Quadratic time would be 64 times as long.
    assert min(seconds(160_000) for _ in range(2)) < 24 * min(seconds(20_000) for _ in range(3))


# Tokenizers.


@pytest.mark.parametrize("vocabulary", ["joint", "separate"])
@pytest.mark.parametrize("kind", KINDS)
def test_phone_typography_has_the_ids_of_plain_text(kind, vocabulary):
    config = dataclasses.replace(TEXT_CONFIG, kind=kind, vocabulary=vocabulary)
    source, _ = train_tokenizers(config, PAIRS)
    phone, plain = source.encode([PHONE_TEXT, PLAIN_TEXT])
    assert phone == plain
    assert source.encode_with_spans(PHONE_TEXT)[0] == plain
    without = Tokenizer(source.vocabulary).encode([PHONE_TEXT, PLAIN_TEXT])
    assert without[0] != without[1] == plain


@pytest.mark.parametrize("vocabulary", ["joint", "separate"])
def test_targets_are_not_normalized(vocabulary):
    source, target = train_tokenizers(dataclasses.replace(TEXT_CONFIG, vocabulary=vocabulary), PAIRS)
    assert target.normalization is None
    assert target.decode(target.encode([PHONE_TEXT])) == [PHONE_TEXT]
    assert source.decode(source.encode([PHONE_TEXT])) == [PLAIN_TEXT]
    assert (source.vocabulary is target.vocabulary) == (vocabulary == "joint")


def test_table_and_vocabulary_are_learned_from_sources():
    pairs = [Pair("it is\u00a0here, isn't it", "„ja“ it’s’ – …")] * 3
    source, _ = train_tokenizers(TokenizerConfig("word", "separate", 40, normalization="text"), pairs)
    assert source.normalization.table == Normalization.learn(pair.source for pair in pairs).table
    assert "\u00a0" not in source.to_json()
    assert source.unk_id not in source.encode(["it is here, isn’t it"])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_spans_refer_to_the_typed_text(kind):
    text = "The\u00a0\u00a0old sta\u00adtion… isn’t “red”"
    tokenizer = Tokenizer.train(kind, 3 * ['The old station... isn\'t "red"'], 300 if kind == "bpe" else 60)
    ids, spans = tokenizer.with_normalization(Normalization.learn(ENGLISH + STRAIGHT)).encode_with_spans(text)
    tokens = tokenizer.pieces(ids)
    assert len(ids) == len(spans)
    covered = {index for span in spans for index in range(*span)}
    assert {index for index, character in enumerate(text) if character.isalpha() or character in "…’“”"} <= covered
    assert [start for start, _ in spans] == sorted(start for start, _ in spans)
    if kind == "word":
        words = [(token, text[slice(*span)]) for token, span in zip(tokens, spans, strict=True) if token != " "]
        assert words == [
            *(("The", "The"), ("old", "old"), ("station", "sta\u00adtion"), (".", "…"), (".", "…"), (".", "…")),
            *(("isn't", "isn’t"), ('"', "“"), ("red", "red"), ('"', "”")),
        ]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))])
def test_a_copy_normalizes_too(duplicate):
    source, _ = train_tokenizers(TEXT_CONFIG, PAIRS)
    assert duplicate(source).encode([PHONE_TEXT]) == source.encode([PLAIN_TEXT])


def test_normalization_changes_what_identifies_a_corpus():
    source, target = train_tokenizers(TEXT_CONFIG, PAIRS)
    assert source.to_json() != target.to_json()


# Files.


@pytest.mark.parametrize("vocabulary", ["joint", "separate"])
def test_saving_and_loading_preserves_the_normalization(tmp_path, vocabulary):
    config = dataclasses.replace(TEXT_CONFIG, vocabulary=vocabulary)
    saved = train_tokenizers(config, PAIRS)
    save_tokenizers(saved, tmp_path)
    assert FILE_NAME in {path.name for path in tmp_path.iterdir()}
    source, target = load_tokenizers(tmp_path, config)
    assert source.normalization.table == saved.source.normalization.table != {}
    assert source.encode([PHONE_TEXT]) == saved.source.encode([PLAIN_TEXT])
    assert target.encode([PHONE_TEXT]) == saved.target.encode([PHONE_TEXT]) != saved.target.encode([PLAIN_TEXT])


def test_a_run_without_the_field_reads_text_as_it_is(tmp_path):
    save_tokenizers(train_tokenizers(TEXT_CONFIG, PAIRS), tmp_path)
    source, _ = load_tokenizers(tmp_path, TokenizerConfig())
    assert source.normalization is None
    assert source.decode(source.encode([PHONE_TEXT])) == [PHONE_TEXT]


def test_saving_without_normalization_removes_its_file(tmp_path):
    save_tokenizers(train_tokenizers(TEXT_CONFIG, PAIRS), tmp_path)
    save_tokenizers(train_tokenizers(dataclasses.replace(TEXT_CONFIG, normalization="none"), PAIRS), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    save_tokenizers(train_tokenizers(TEXT_CONFIG, PAIRS), tmp_path)
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(InputError, match=r"^\S+normalization\.json is missing, but .* Copy the complete run .*\.$"):
        load_tokenizers(tmp_path, TEXT_CONFIG)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "7", "null", '"hyphen"', "[" * 10**5, '{"hyphen": null}', '{"hyphen": "-"}', '{"hyphen": {}}'),
        *('{"hyphen": ["(a+)+$"]}', '{"hyphen": ["--"]}', '{"hyphen": [["-"]]}', '{"hyphen": [7]}', '{"other": ["-"]}'),
        *('{"ellipsis": ["."]}', '{"guillemet": ["«"]}', '{"apostrophe": ["\\""]}', '{"a\\nb": ["-"]}'),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content):
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(InputError, match=r"^\S+normalization\.json is damaged .* Copy the complete run .*\.$"):
        Normalization.load(tmp_path)


def test_invalid_utf8_and_a_directory_are_refused_in_one_line(tmp_path):
    (tmp_path / FILE_NAME).write_bytes(b'{"hyphen": ["\xff"]}')
    with pytest.raises(InputError, match=r"^\S+normalization\.json is damaged"):
        Normalization.load(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(InputError, match=r"^\S+normalization\.json is damaged"):
        Normalization.load(tmp_path)


@given(st.dictionaries(st.sampled_from(["hyphen", "apostrophe", "long_dash"]), st.lists(st.sampled_from("-—'’"))))
def test_a_table_is_loaded_as_saved_or_refused(tmp_path_factory, table):
    directory = tmp_path_factory.mktemp("table")
    (directory / FILE_NAME).write_text(json.dumps(table))
    try:
        loaded = Normalization.load(directory)
    except InputError:
        return
    loaded.save(directory)
    assert (
        Normalization.load(directory).table
        == loaded.table
        == {name: (*forms,) for name, forms in table.items() if forms}
    )
    loaded.library_normalizer().normalize_str("a—b’s")
