"""The tokenizers of a run learn one or two vocabularies, and load as they were saved."""

import json

import pytest
from tokenizer_cases import ENGLISH, GERMAN, KINDS

from transformer_jax.config import TokenizerConfig
from transformer_jax.data.records import Pair
from transformer_jax.data.run_tokenizers import load_tokenizers, save_tokenizers, train_tokenizers
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import InputError

PAIRS = list(map(Pair, ENGLISH, GERMAN))

# Two languages.


@pytest.mark.parametrize("kind", KINDS)
def test_joint_vocabulary_is_one_object_for_both_languages(kind):
    joint = train_tokenizers(TokenizerConfig(kind, "joint", 500), PAIRS)
    assert joint.source is joint.target
    ids = joint.source.encode(["The house", "Das Haus"])
    assert all(joint.source.unk_id not in row for row in ids)


def test_separate_vocabularies_cover_one_language_each():
    source, target = train_tokenizers(TokenizerConfig("word", "separate", 500), PAIRS)
    assert source.encode(["house Haus"]) != target.encode(["house Haus"])
    assert source.tokens(source.encode(["house Haus"])[0]) == ["house", "[UNK]"]
    assert target.tokens(target.encode(["house Haus"])[0]) == ["[UNK]", "Haus"]


# Files.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocabulary", ["joint", "separate"])
def test_saving_and_loading_preserves_the_tokenizers(tmp_path, kind, vocabulary):
    saved = train_tokenizers(TokenizerConfig(kind, vocabulary, 500), PAIRS)
    save_tokenizers(saved, tmp_path)
    names = {"joint": ["tokenizer.json"], "separate": ["tokenizer.source.json", "tokenizer.target.json"]}[vocabulary]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    loaded = load_tokenizers(tmp_path, TokenizerConfig())
    assert (loaded.source is loaded.target) == (vocabulary == "joint")
    texts = [*ENGLISH, *GERMAN, "neu 日本 [EOS]"]
    for before, after in zip(saved, loaded, strict=True):
        assert after.kind == kind
        assert len(after) == len(before)
        assert after.tokens(range(len(after))) == before.tokens(range(len(before)))
        assert after.encode(texts) == before.encode(texts)
        assert after.decode(after.encode(texts)) == before.decode(before.encode(texts))


def test_saving_removes_files_of_the_other_vocabulary(tmp_path):
    for vocabulary in ("separate", "joint", "separate"):
        save_tokenizers(train_tokenizers(TokenizerConfig("word", vocabulary, 500), PAIRS), tmp_path)
        source, target = load_tokenizers(tmp_path, TokenizerConfig())
        assert (source is target) == (vocabulary == "joint")


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
def test_damaged_file_is_reported_in_one_line(tmp_path, kind, damage):
    path = tmp_path / "tokenizer.json"
    Tokenizer.train(kind, ENGLISH, 300).save(path)
    path.write_bytes(damage(path.read_text(encoding="utf-8")).encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as raised:
        load_tokenizers(tmp_path, TokenizerConfig())
    assert str(raised.value).startswith(str(path))
    assert str(raised.value).endswith("Restore the file or train again.")
    assert "\n" not in str(raised.value)


def test_missing_file_is_reported_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match=r"tokenizer\.json is not readable .*Restore the file or train again\.$"):
        load_tokenizers(tmp_path, TokenizerConfig())
    Tokenizer.train("bpe", ENGLISH, 300).save(tmp_path / "tokenizer.source.json")
    with pytest.raises(InputError, match=r"tokenizer\.target\.json is not readable"):
        load_tokenizers(tmp_path, TokenizerConfig())
