"""What each kind of tokenizer restores and what it loses, and that ids survive saving."""

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transformer_jax.config import TokenizerConfig
from transformer_jax.data.tokenizers import (
    SPECIAL,
    Tokenizer,
    join_pieces,
    join_words,
    load_tokenizers,
    save_tokenizers,
    train_tokenizers,
)
from transformer_jax.errors import InputError

KINDS = ("word", "bpe", "wordpiece", "unigram")
# Each sentence twice: what is seen once is not learnt.
ENGLISH = 2 * [
    "The house is red, isn't it?",
    "The old man reads a book.",
    "The book (a red one) is old.",
    'She said: "Well done!"',
    "It costs 3.50 euros at 10:30.",
    "A well-known man is in the house.",
]
GERMAN = 2 * [
    "Das Haus ist rot, nicht wahr?",
    "Der alte Mann liest ein Buch.",
    "Das Buch (ein rotes) ist alt.",
    "Sie sagte: „Gut gemacht!“",
    "Es kostet 3,50 Euro um 10:30.",
    "Ein schöner Mann ist im Haus.",
]
BYTE_ALPHABET = 256


@pytest.fixture(scope="module")
def trained():
    """One tokenizer of each kind, from the English sentences."""
    return {kind: Tokenizer.train(kind, ENGLISH, 300) for kind in KINDS}


def restored(tokenizer, text):
    [ids] = tokenizer.encode([text])
    [decoded] = tokenizer.decode([ids])
    return decoded


# Every kind.


@pytest.mark.parametrize("kind", KINDS)
def test_special_ids_are_the_first_four(trained, kind):
    tokenizer = trained[kind]
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.sos_id, tokenizer.eos_id) == (0, 1, 2, 3)
    assert tokenizer.tokens(range(4)) == list(SPECIAL)
    assert tokenizer.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_size_is_an_upper_bound_and_ids_lie_below_it(trained, kind):
    tokenizer = trained[kind]
    assert len(tokenizer) <= 300
    ids = [one for row in tokenizer.encode(ENGLISH + GERMAN) for one in row]
    assert max(ids) < len(tokenizer)
    with pytest.raises(IndexError, match="not below the vocabulary size"):
        tokenizer.tokens([len(tokenizer)])


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_adds_no_special_token(trained, kind):
    assert trained[kind].encode(["", "The house"])[0] == []
    assert trained[kind].encode([]) == []
    assert not set(trained[kind].encode(["The house"])[0]) & set(range(4))


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_skips_special_tokens_wherever_they_stand(trained, kind):
    tokenizer = trained[kind]
    the, house = (tokenizer.encode([text])[0] for text in ("The house", " is red"))
    marked = [tokenizer.sos_id, *the, tokenizer.unk_id, *house, tokenizer.eos_id, tokenizer.pad_id]
    assert tokenizer.decode([marked, [], [tokenizer.eos_id]]) == ["The house is red", "", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_are_rows_of_ids(trained, kind):
    tokenizer = trained[kind]
    ids = np.array(tokenizer.encode(["The house", "The house"]), np.int32)
    assert tokenizer.decode(ids) == ["The house", "The house"]
    assert tokenizer.tokens(ids[0]) == tokenizer.tokens(ids[0].tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("special", SPECIAL)
def test_special_token_in_a_text_is_text(kind, special, tmp_path):
    """Also when it was in the training text, and after loading."""
    tokenizer = Tokenizer.train(kind, [*ENGLISH, *(9 * [f"a {special} b", special])], 400)
    tokenizer.save(tmp_path / "tokenizer.json")
    for one in (tokenizer, Tokenizer.load(tmp_path / "tokenizer.json")):
        [ids] = one.encode([f"a {special} b {special}"])
        assert not set(ids) & {0, 1, 2, 3}
        if kind in ("bpe", "unigram"):
            assert one.decode([ids]) == [f"a {special} b {special}"]
        else:
            assert one.decode([ids]) == [f"a {special} b {special}".replace(" ]", "]")]


@pytest.mark.parametrize("kind", KINDS)
def test_each_text_is_encoded_by_itself(trained, kind):
    texts = [*ENGLISH, "", "new 日本"]
    assert trained[kind].encode(texts) == [trained[kind].encode([text])[0] for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_is_refused(trained, kind):
    with pytest.raises(InputError, match=r"^Text 2 holds half a surrogate pair"):
        trained[kind].encode(["fine", "\ud83d"])


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_same_text_gives_the_same_vocabulary(kind, tmp_path):
    for name in ("one", "two"):
        Tokenizer.train(kind, ENGLISH + GERMAN, 400).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(SPECIAL), max_size=7))
def test_any_text_is_known_ids_alone_together_and_after_loading(trained, tmp_path_factory, kind, texts):
    tokenizer = trained[kind]
    encoded = tokenizer.encode(texts)
    assert all(one == tokenizer.unk_id or len(SPECIAL) <= one < len(tokenizer) for row in encoded for one in row)
    assert encoded == [tokenizer.encode([text])[0] for text in texts]
    assert len(tokenizer.decode(encoded)) == len(texts)
    path = tmp_path_factory.mktemp("any") / "tokenizer.json"
    tokenizer.save(path)
    assert Tokenizer.load(path).encode(texts) == encoded


# Byte-level BPE restores everything.


@given(text=st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(SPECIAL)).map("".join))
@example(text=" leading, trailing and  double spaces ")
@example(text="\r\n\t\u2028\x85\x00\ufeff")
@example(text="e\u0301 \u1100\u1161 ﬁ Ⅳ ß ẞ İ ▁ Ġ ## <0xE3>")
@example(text="👩‍👩‍👧‍👦 🇩🇪 العربية עברית ไทย 日本語")
@settings(deadline=None, max_examples=300)
def test_bpe_restores_any_text(trained, text):
    assert restored(trained["bpe"], text) == text


def test_bpe_never_needs_unk(trained):
    [ids] = trained["bpe"].encode(["日本 🙂 \x00"])
    assert trained["bpe"].unk_id not in ids


def test_bpe_merges_what_is_frequent(trained):
    assert trained["bpe"].tokens(trained["bpe"].encode(["in the house"])[0])[-1] == "▁house"


def test_bpe_pieces_are_shown_readably(trained):
    def shown(text):
        return trained["bpe"].tokens(trained["bpe"].encode([text])[0])

    assert shown("ö") == ["<0xC3>", "<0xB6>"]
    assert shown("日") == ["<0xE6>", "<0x97>", "<0xA5>"]
    assert shown("\n\t\xa0") == ["\\n", "\\t", "<0xC2>", "<0xA0>"]
    assert "".join(shown("The old house (red)")) == "The▁old▁house▁(red)"
    ids = [trained["bpe"].sos_id, *trained["bpe"].encode([" a"])[0]]
    assert trained["bpe"].tokens(ids) == ["[SOS]", "▁a"]


def test_bpe_piece_of_a_learnt_character_is_that_character():
    tokenizer = Tokenizer.train("bpe", ["ö ö ö"], 300)
    assert tokenizer.tokens(tokenizer.encode(["ö ö"])[0]) == ["ö", "▁ö"]


# Words: spacing by rule, unknown words lost.


@pytest.mark.parametrize("text", [*ENGLISH, 'He said "yes" and "no".', "and/or", "100% [sic]"])
def test_words_are_joined_as_people_write(text):
    tokenizer = Tokenizer.train("word", [*ENGLISH, *(2 * [text])], 100)
    assert restored(tokenizer, text) == text


@pytest.mark.parametrize("text", [text for text in GERMAN if text.isascii()])
@pytest.mark.parametrize("kind", ["word", "wordpiece"])
def test_german_punctuation(text, kind):
    assert restored(Tokenizer.train(kind, GERMAN, 300), text) == text


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("a  b\tc", "a b c"),
        (" a ", "a"),
        ("a - b", "a-b"),
        ("the dogs' bowl", "the dogs'bowl"),
        ("Wer ? « oui »", "Wer? «oui»"),
        ("a.b", "a. b"),
    ],
)
@pytest.mark.parametrize("kind", ["word", "wordpiece"])
def test_spacing_that_words_lose(kind, text, instead):
    assert restored(Tokenizer.train(kind, [text, text], 300), text) == instead


def test_unknown_words_are_lost():
    tokenizer = Tokenizer.train("word", ENGLISH, 300)
    [ids] = tokenizer.encode(["The zebra is red."])
    assert tokenizer.tokens(ids) == ["The", "[UNK]", "is", "red", "."]
    assert tokenizer.decode([ids]) == ["The is red."]


def test_words_seen_once_are_not_learnt():
    tokenizer = Tokenizer.train("word", ["rare common", "common"], 300)
    assert tokenizer.encode(["rare common"]) == [[tokenizer.unk_id, 4]]


def test_most_frequent_words_are_kept():
    tokenizer = Tokenizer.train("word", ["a a a b b b b c c"], 6)
    assert tokenizer.tokens(range(4, 6)) == ["b", "a"]


def test_join_words_alternates_quotation_marks():
    assert join_words(['"', "a", '"', "b", '"', "c", '"']) == '"a" b "c"'
    assert join_words([]) == ""


# WordPiece and Unigram.


def test_wordpiece_builds_new_words_from_pieces(trained):
    assert restored(trained["wordpiece"], "readers hold houses") == "readers hold houses"


def test_wordpiece_loses_words_with_unknown_characters(trained):
    assert restored(trained["wordpiece"], "The house 日本 is red") == "The house is red"
    assert restored(trained["wordpiece"], "The " + "a" * 101 + " house") == "The house"


def test_wordpiece_pieces_are_joined_at_the_marks():
    assert join_pieces(["a", "##b", "##c", "d"]) == ["abc", "d"]
    assert join_pieces(["##b", "c"]) == ["b", "c"]


@pytest.mark.parametrize("text", [*ENGLISH, "a  b ", "a - b", "the men' book"])
def test_unigram_restores_text_in_its_alphabet(trained, text):
    assert restored(trained["unigram"], text) == text


@pytest.mark.parametrize(("text", "instead"), [(" red", "red"), ("red 日 book", "red  book"), ("a▁b", "a b")])
def test_what_unigram_loses(trained, text, instead):
    assert restored(trained["unigram"], text) == instead


# Size.


def test_bpe_needs_every_byte():
    assert len(Tokenizer.train("bpe", ENGLISH, 4 + BYTE_ALPHABET)) == 260
    with pytest.raises(InputError, match=r"tokenizer\.size 259 is too small for bpe: .* Give at least 260\.$"):
        Tokenizer.train("bpe", ENGLISH, 259)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_the_named_least_size_is_enough_and_one_less_is_not(kind):
    with pytest.raises(InputError, match="too small") as caught:
        Tokenizer.train(kind, ENGLISH, 5)
    least = int(str(caught.value).removesuffix(".").rsplit(" ", 1)[1])
    assert len(Tokenizer.train(kind, ENGLISH, least)) <= least
    with pytest.raises(InputError, match="too small"):
        Tokenizer.train(kind, ENGLISH, least - 1)


# Two languages.


@pytest.mark.parametrize("kind", KINDS)
def test_joint_vocabulary_is_one_object_that_knows_both_sides(kind):
    both = train_tokenizers(TokenizerConfig(kind, "joint", 500), ENGLISH, iter(GERMAN))
    assert both.source is both.target
    ids = both.source.encode(["The house", "Das Haus"])
    assert all(both.source.unk_id not in row for row in ids)


def test_separate_vocabularies_know_one_side_each():
    source, target = train_tokenizers(TokenizerConfig("word", "separate", 500), ENGLISH, GERMAN)
    assert source.encode(["house Haus"]) != target.encode(["house Haus"])
    assert source.tokens(source.encode(["house Haus"])[0]) == ["house", "[UNK]"]
    assert target.tokens(target.encode(["house Haus"])[0]) == ["[UNK]", "Haus"]


# Files.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocabulary", ["joint", "separate"])
def test_saving_and_loading_keeps_everything(tmp_path, kind, vocabulary):
    saved = train_tokenizers(TokenizerConfig(kind, vocabulary, 500), ENGLISH, GERMAN)
    save_tokenizers(saved, tmp_path)
    names = {"joint": ["tokenizer.json"], "separate": ["tokenizer.source.json", "tokenizer.target.json"]}[vocabulary]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    loaded = load_tokenizers(tmp_path)
    assert (loaded.source is loaded.target) == (vocabulary == "joint")
    texts = [*ENGLISH, *GERMAN, "neu 日本 [EOS]"]
    for before, after in zip(saved, loaded, strict=True):
        assert after.kind == kind
        assert len(after) == len(before)
        assert after.tokens(range(len(after))) == before.tokens(range(len(before)))
        assert after.encode(texts) == before.encode(texts)
        assert after.decode(after.encode(texts)) == before.decode(before.encode(texts))


def test_saving_over_the_other_vocabulary_leaves_no_stale_file(tmp_path):
    for vocabulary in ("separate", "joint", "separate"):
        save_tokenizers(train_tokenizers(TokenizerConfig("word", vocabulary, 500), ENGLISH, GERMAN), tmp_path)
        source, target = load_tokenizers(tmp_path)
        assert (source is target) == (vocabulary == "joint")


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))])
def test_a_copy_encodes_the_same(trained, duplicate):
    """Worker processes get copies."""
    assert duplicate(trained["bpe"]).encode(["a [EOS]"]) == trained["bpe"].encode(["a [EOS]"])


def damaged(text, change):
    content = json.loads(text)
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-10],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: "\udcff" + text,
        lambda text: damaged(text, lambda content: content["model"].update(type="Pickle")),
        lambda text: damaged(text, lambda content: content.pop("model")),
        lambda text: damaged(text, lambda content: content["model"].pop("vocab")),
        lambda text: damaged(
            text, lambda content: content["added_tokens"].clear() or content["model"]["vocab"].clear()
        ),
    ],
)
@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_damaged_file_is_one_line(tmp_path, kind, damage):
    path = tmp_path / "tokenizer.json"
    Tokenizer.train(kind, ENGLISH, 300).save(path)
    path.write_bytes(damage(path.read_text(encoding="utf-8")).encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        load_tokenizers(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("Restore the file or train again.")
    assert "\n" not in str(caught.value)


def test_missing_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read .*Restore the file or train again\.$"):
        load_tokenizers(tmp_path)
    Tokenizer.train("bpe", ENGLISH, 300).save(tmp_path / "tokenizer.source.json")
    with pytest.raises(InputError, match=r"tokenizer\.target\.json cannot be read"):
        load_tokenizers(tmp_path)
