"""Tokenizers of each kind restore what they promise, and keep their ids when saved."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizer_cases import ENGLISH, GERMAN, KINDS

from transformer_jax.data.tokenizers import SPECIAL_TOKENS, Tokenizer
from transformer_jax.errors import InputError

BYTE_ALPHABET = 256


@pytest.fixture(scope="module")
def trained():
    """Return one tokenizer per kind, trained on the English sentences."""
    return {kind: Tokenizer.train(kind, ENGLISH, 300) for kind in KINDS}


def restored(tokenizer, text):
    [ids] = tokenizer.encode([text])
    [decoded] = tokenizer.decode([ids])
    return decoded


# All kinds.


@pytest.mark.parametrize("kind", KINDS)
def test_special_ids_are_the_first_four(trained, kind):
    tokenizer = trained[kind]
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.sos_id, tokenizer.eos_id) == (0, 1, 2, 3)
    assert tokenizer.tokens(range(4)) == list(SPECIAL_TOKENS)
    assert tokenizer.kind == kind


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_below_the_vocabulary_size(trained, kind):
    tokenizer = trained[kind]
    assert len(tokenizer) <= 300
    ids = [token_id for row in tokenizer.encode(ENGLISH + GERMAN) for token_id in row]
    assert max(ids) < len(tokenizer)
    with pytest.raises(IndexError, match="must be below the vocabulary size"):
        tokenizer.tokens([len(tokenizer)])


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_adds_no_special_token(trained, kind):
    assert trained[kind].encode(["", "The house"])[0] == []
    assert trained[kind].encode([]) == []
    assert not set(trained[kind].encode(["The house"])[0]) & set(range(4))


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_skips_special_tokens_at_any_position(trained, kind):
    tokenizer = trained[kind]
    the, house = (tokenizer.encode([text])[0] for text in ("The house", " is red"))
    marked = [tokenizer.sos_id, *the, tokenizer.unk_id, *house, tokenizer.eos_id, tokenizer.pad_id]
    assert tokenizer.decode([marked, [], [tokenizer.eos_id]]) == ["The house is red", "", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_are_decoded_row_by_row(trained, kind):
    tokenizer = trained[kind]
    ids = np.array(tokenizer.encode(["The house", "The house"]), np.int32)
    assert tokenizer.decode(ids) == ["The house", "The house"]
    assert tokenizer.tokens(ids[0]) == tokenizer.tokens(ids[0].tolist())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_typed_special_token_is_ordinary_text(kind, special, tmp_path):
    """This also holds after loading, and if the training text contains the token."""
    tokenizer = Tokenizer.train(kind, [*ENGLISH, *(9 * [f"a {special} b", special])], 400)
    tokenizer.save(tmp_path / "tokenizer.json")
    for same_tokenizer in (tokenizer, Tokenizer.load(tmp_path / "tokenizer.json")):
        [ids] = same_tokenizer.encode([f"a {special} b {special}"])
        assert not set(ids) & {0, 1, 2, 3}
        assert same_tokenizer.decode([ids]) == [f"a {special} b {special}"]


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_encoded_independently(trained, kind):
    texts = [*ENGLISH, "", "new 日本"]
    assert trained[kind].encode(texts) == [trained[kind].encode([text])[0] for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_unpaired_surrogate_is_refused(trained, kind):
    with pytest.raises(InputError, match=r"^text 2 contains an unpaired surrogate"):
        trained[kind].encode(["fine", "\ud83d"])


@pytest.mark.parametrize("kind", ["word", "bpe"])
def test_same_text_gives_the_same_vocabulary(kind, tmp_path):
    for name in ("one", "two"):
        Tokenizer.train(kind, ENGLISH + GERMAN, 400).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(SPECIAL_TOKENS), max_size=7))
def test_any_text_has_the_same_ids_in_a_batch_and_after_loading(trained, tmp_path_factory, kind, texts):
    tokenizer = trained[kind]
    encoded = tokenizer.encode(texts)
    ids = [token_id for row in encoded for token_id in row]
    assert all(token_id == tokenizer.unk_id or len(SPECIAL_TOKENS) <= token_id < len(tokenizer) for token_id in ids)
    assert encoded == [tokenizer.encode([text])[0] for text in texts]
    assert len(tokenizer.decode(encoded)) == len(texts)
    path = tmp_path_factory.mktemp("any") / "tokenizer.json"
    tokenizer.save(path)
    assert Tokenizer.load(path).encode(texts) == encoded


# Byte-level BPE restores any text.


@given(text=st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(SPECIAL_TOKENS)).map("".join))
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


def test_bpe_merges_frequent_sequences(trained):
    assert trained["bpe"].tokens(trained["bpe"].encode(["in the house"])[0])[-1] == "▁house"


def test_bpe_pieces_are_shown_as_readable_text(trained):
    def shown(text):
        return trained["bpe"].tokens(trained["bpe"].encode([text])[0])

    assert shown("ö") == ["ö"]
    assert shown("日") == ["日"]
    assert shown("\n\t\xa0") == ["\\n", "\\t", "\\xa0"]
    assert "".join(shown("The old house (red)")) == "The▁old▁house▁(red)"
    ids = [trained["bpe"].sos_id, *trained["bpe"].encode([" a"])[0]]
    assert trained["bpe"].tokens(ids) == ["[SOS]", "▁a"]


def test_bpe_piece_of_a_learned_character_is_that_character():
    tokenizer = Tokenizer.train("bpe", ["ö ö ö"], 300)
    assert tokenizer.tokens(tokenizer.encode(["ö ö"])[0]) == ["ö", "▁ö"]


# The kind word loses unknown words. tests/data/test_scripts.py has more texts.


@pytest.mark.parametrize("text", [*ENGLISH, 'He said "yes" and "no".', "and/or", "100% [sic]"])
def test_words_are_joined_with_natural_spacing(text):
    tokenizer = Tokenizer.train("word", [*ENGLISH, *(2 * [text])], 100)
    assert restored(tokenizer, text) == text


@pytest.mark.parametrize("text", [text for text in GERMAN if text.isascii()])
@pytest.mark.parametrize("kind", ["word", "wordpiece"])
def test_german_punctuation_is_restored(text, kind):
    assert restored(Tokenizer.train(kind, GERMAN, 300), text) == text


def test_unknown_words_are_lost():
    tokenizer = Tokenizer.train("word", ENGLISH, 300)
    [ids] = tokenizer.encode(["The zebra is red."])
    assert tokenizer.tokens(ids) == ["The", "[UNK]", "is", "red", "."]
    assert tokenizer.decode([ids]) == ["The is red."]


def test_words_seen_once_are_not_learned():
    tokenizer = Tokenizer.train("word", ["rare common", "common"], 300)
    assert tokenizer.encode(["rare common"]) == [[tokenizer.unk_id, 4]]


def test_most_frequent_words_are_kept():
    tokenizer = Tokenizer.train("word", ["a a a b b b b c c"], 6)
    assert tokenizer.tokens(range(4, 6)) == ["b", "a"]


# WordPiece and Unigram.


def test_wordpiece_builds_new_words_from_pieces(trained):
    assert restored(trained["wordpiece"], "readers hold houses") == "readers hold houses"


def test_wordpiece_loses_words_with_unlearned_text(trained):
    assert restored(trained["wordpiece"], "The house 日本 is red") == "The house is red"
    assert restored(trained["wordpiece"], "The " + "a" * 101 + " house") == "The house"


@pytest.mark.parametrize("text", [*ENGLISH, "a  b ", "a - b", "the men' book"])
def test_unigram_restores_text_in_its_alphabet(trained, text):
    assert restored(trained["unigram"], text) == text


@pytest.mark.parametrize(("text", "decoded"), [(" red", "red"), ("red 日 book", "red  book"), ("a▁b", "a b")])
def test_unigram_loses_some_spacing_and_characters(trained, text, decoded):
    assert restored(trained["unigram"], text) == decoded


# Vocabulary size.


def test_bpe_needs_every_byte():
    assert len(Tokenizer.train("bpe", ENGLISH, 4 + BYTE_ALPHABET)) == 260
    with pytest.raises(InputError, match=r"tokenizer\.size 259 is too small for bpe: .* at least 260\.$"):
        Tokenizer.train("bpe", ENGLISH, 259)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_named_minimum_size_is_the_smallest_that_works(kind):
    with pytest.raises(InputError, match="too small") as raised:
        Tokenizer.train(kind, ENGLISH, 5)
    min_size = int(str(raised.value).removesuffix(".").rsplit(" ", 1)[1])
    assert len(Tokenizer.train(kind, ENGLISH, min_size)) <= min_size
    with pytest.raises(InputError, match="too small"):
        Tokenizer.train(kind, ENGLISH, min_size - 1)


# Copies.


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))])
def test_a_copy_encodes_the_same(trained, duplicate):
    """Worker processes receive copies."""
    assert duplicate(trained["bpe"]).encode(["a [EOS]"]) == trained["bpe"].encode(["a [EOS]"])
