"""Imported models with added tokens, and with more or fewer vectors than tokens."""

import itertools
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marian_models import DIFFICULT, SENTENCES, SHAPES, draw_weights, make_marian, torch, transformers
from numpy.testing import assert_allclose

from transformer_jax.bridges.marian import import_marian
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.import_model import main
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError
from transformer_jax.storage.checkpoints import load_params

ADDED = [
    "<2fr>",
    "<2fr>x",
    "house",
    ">>fr<<",
    transformers.AddedToken("<both>", lstrip=True, rstrip=True),
    transformers.AddedToken("<special>", special=True),
]
TEXTS = [
    *(text for text in DIFFICULT if not any(token in text for token in ("</s>", "<unk>", "<pad>"))),
    "<2fr> Where is the dog?",
    "the<2fr>xhouse",
    "houses, a green house",
    ">>fr<< The old dog",
    "The >>fr<<dog",
    "a <both>  >>de<< dog",
    "<2fr> >>de<< dog",
    ">>de<<<2fr>>>de<< dog",
    "<special>a <special> dog<special>",
    "<both><both> <2fr",
]


def make_with_added_tokens(directory, padding=0, shape=SHAPES["opus-mt"]):
    """Write a model with trained vectors of ADDED and ``padding`` more vectors, and return it with its tokenizer."""
    model, tokenizer = make_marian(directory, shape)
    tokenizer.add_tokens(ADDED)
    tokenizer.split_special_tokens = False
    model.resize_token_embeddings(len(tokenizer) + padding, mean_resizing=False)
    draw_weights(model, np.random.default_rng(7))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    change(directory / "tokenizer_config.json", split_special_tokens=False)
    return model, tokenizer


def change(path, **fields):
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | fields))


def vocabulary_size(directory):
    return len(json.loads((directory / "vocab.json").read_text()))


def refusal(directory, workdir):
    """Return the error line of a refused import, which must leave nothing behind."""
    with pytest.raises(InputError) as caught:
        import_marian(str(directory), workdir)
    assert "\n" not in str(caught.value)
    assert not workdir.exists()
    return str(caught.value)


@pytest.fixture(scope="module", params=[0, 13], ids=["one vector per token", "padded"])
def imported(request, tmp_path_factory):
    """A model with added tokens and its tokenizer in transformers, and the translator of the imported run."""
    directory = tmp_path_factory.mktemp("marian")
    both = make_with_added_tokens(directory / "model", request.param)
    notes = import_marian(str(directory / "model"), directory / "run")
    assert len(notes) == (2 if request.param else 1)
    return *both, Translator.load(directory / "run")


def test_added_tokens_equal_those_of_transformers(imported):
    _, tokenizer, ours = imported
    source, target = ours.tokenizers
    expected = tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    assert source.encode(TEXTS) == expected
    assert [source.encode_with_spans(text)[0] for text in TEXTS] == expected
    assert {id for ids in expected for id in ids} >= set(range(len(source) - len(ADDED), len(source)))
    expected = tokenizer(text_target=TEXTS, add_special_tokens=False)["input_ids"]
    assert target.encode(TEXTS) == expected
    assert target.decode(expected) == tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert pickle.loads(pickle.dumps(source)).encode(TEXTS) == source.encode(TEXTS)


def test_span_of_an_added_token_is_its_text(imported):
    source = imported[2].tokenizers.source
    text = ">>de<< the<2fr>xhouse <both>  dog"
    ids, spans = source.encode_with_spans(text)
    found = {text[slice(*span)] for id, span in zip(ids, spans, strict=True) if id >= len(source) - len(ADDED)}
    assert found == {"<2fr>x", "house", "<both>"}
    assert text[slice(*spans[0])] == ">>de<<"
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_logits_with_added_tokens_equal_transformers(imported):
    theirs, tokenizer, ours = imported
    texts = ["<2fr> Where is the dog?", "A house <special>", "the<2fr>xhouse", *SENTENCES]
    batch = tokenizer(texts, text_target=texts[::-1], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = theirs(**batch).logits.numpy()
    labels = batch["labels"].numpy()
    start = np.full((len(labels), 1), ours.tokenizers.target.sos_id)
    inputs = [batch["input_ids"], np.concatenate([start, labels[:, :-1]], axis=1), batch["attention_mask"]]
    source, target, mask = (jnp.asarray(np.asarray(array), jnp.int32) for array in inputs)
    logits = jax.jit(ours.model.apply)({"params": ours.params}, source, target, mask, jnp.ones_like(target))
    assert logits.shape[-1] == len(tokenizer)
    assert_allclose(logits, expected[:, :, : len(tokenizer)], atol=1e-4)


def test_legacy_files_give_the_same_tokens(tmp_path):
    """Before version 4.34, transformers saved added_tokens.json and special_tokens_map.json."""
    make_with_added_tokens(tmp_path / "model")
    import_marian(str(tmp_path / "model"), tmp_path / "new")
    assert (tmp_path / "model/added_tokens.json").exists()
    (tmp_path / "model/tokenizer_config.json").unlink()
    change(tmp_path / "model/special_tokens_map.json", additional_special_tokens=["<special>"])
    import_marian(str(tmp_path / "model"), tmp_path / "old")
    new, old = (Translator.load(tmp_path / name).tokenizers.target for name in ("new", "old"))
    texts = [text for text in TEXTS if "<both>" not in text]  # The legacy file has no lstrip and rstrip.
    assert new.encode(texts) == old.encode(texts)
    assert new.decode(new.encode(texts)) == old.decode(old.encode(texts))


def test_import_command_states_how_many_vectors_it_drops(tmp_path, capsys):
    make_with_added_tokens(tmp_path / "model", padding=13)
    assert run_command(main, [str(tmp_path / "model"), "--workdir", str(tmp_path / "run")]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "vectors" in line]
    count = vocabulary_size(tmp_path / "model") + len(ADDED) + 13
    assert line.startswith(
        f"Left out 13 of {count} vectors, whose ids belong to no token in {tmp_path}/model/vocab.json."
    )


def test_padding_of_transformers_is_dropped(tmp_path):
    """With pad_to_multiple_of, transformers pads the table but not the bias of the logits."""
    model, tokenizer = make_marian(tmp_path / "model")
    import_marian(str(tmp_path / "model"), tmp_path / "original")
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64)
    model.save_pretrained(tmp_path / "model")
    assert model.config.vocab_size % 64 == 0
    import_marian(str(tmp_path / "model"), tmp_path / "padded")
    original, padded = (load_params(tmp_path / name / "checkpoints") for name in ("original", "padded"))
    jax.tree.map(np.testing.assert_array_equal, original, padded)


def test_fewer_vectors_than_tokens_are_refused(tmp_path):
    model, _ = make_marian(tmp_path / "model")
    tokens = vocabulary_size(tmp_path / "model")
    model.resize_token_embeddings(tokens - 1)
    model.save_pretrained(tmp_path / "model")
    message = refusal(tmp_path / "model", tmp_path / "run")
    assert f"vocab.json has {tokens} tokens, but config.json specifies only {tokens - 1} vectors." in message


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("<2fr>", 0, "but the model has only"),
        ("<2fr>", 10**12, "but the model has only"),
        ("<2fr>", -2, "but this is the id of"),
        ("▁", -2, "gives it the id"),
    ],
)
@pytest.mark.parametrize("is_legacy", [True, False])
def test_contradicting_added_token_is_refused(marian_copy, tmp_path, text, position, problem, is_legacy):
    """The remedy in the error message works: delete the token from the file."""
    token_id = vocabulary_size(marian_copy) + position
    config = marian_copy / "tokenizer_config.json"
    if is_legacy:
        config.unlink()
        change(marian_copy / "added_tokens.json", **{text: token_id})
        place = str(marian_copy / "added_tokens.json")
    else:
        change(config, added_tokens_decoder={str(token_id): {"content": text}})
        place = f"added_tokens_decoder in {config}"
    message = refusal(marian_copy, tmp_path / "run")
    assert message.startswith(f"{place} gives {text!r} the id {token_id}, but")
    assert problem in message
    assert message.endswith(f"delete {text!r} from {place}.")
    if is_legacy:
        (marian_copy / "added_tokens.json").write_text("{}")
    else:
        change(config, added_tokens_decoder={})
    import_marian(str(marian_copy), tmp_path / "run")


def test_gap_between_the_ids_is_refused(tmp_path):
    make_with_added_tokens(tmp_path / "model", padding=13)
    path = tmp_path / "model/tokenizer_config.json"
    entries = json.loads(path.read_text())["added_tokens_decoder"]
    first = str(vocabulary_size(tmp_path / "model"))
    assert entries.pop(first)["content"] == "<2fr>"
    change(path, added_tokens_decoder=entries)
    assert f"but no token has the id {first}." in refusal(tmp_path / "model", tmp_path / "run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"added_tokens_decoder": 7}, "contains 7 instead of an object"),
        ({"added_tokens_decoder": {"7": 7}}, "contains 7 instead of an object"),
        ({"added_tokens_decoder": {"7": {}}}, "has a token with the text None"),
        ({"added_tokens_decoder": {"7": {"content": ""}}}, "has a token with the text ''"),
        ({"added_tokens_decoder": {"x": {"content": "a"}}}, "the id 'x', which is not an integer"),
        ({"added_tokens_decoder": {"7": {"content": "a"}, "8": {"content": "a"}}}, "has 'a' twice"),
        ({"added_tokens_decoder": {"7": {"content": "a", "single_word": True}}}, "single_word of 'a' is true"),
        ({"additional_special_tokens": 7}, "additional_special_tokens in "),
        ({"extra_special_tokens": [7]}, "contains 7, which is not a token"),
        ({"extra_special_tokens": ["<none>"]}, "but the model has only"),
    ],
)
def test_invalid_added_token_is_refused(marian_copy, tmp_path, fields, message):
    change(marian_copy / "tokenizer_config.json", **fields)
    assert message in refusal(marian_copy, tmp_path / "run")


def test_source_token_leaves_the_target_vocabulary_alone(tmp_path):
    """With two vocabularies, only the source has a vector for the added tokens."""
    _, tokenizer = make_with_added_tokens(tmp_path / "model", shape=SHAPES["two vocabularies"])
    import_marian(str(tmp_path / "model"), tmp_path / "run")
    source, target = Translator.load(tmp_path / "run").tokenizers
    assert source.encode(TEXTS) == tokenizer(TEXTS, add_special_tokens=False)["input_ids"]
    assert len(target) == vocabulary_size(tmp_path / "model") == len(source) - len(ADDED)


def test_listed_special_token_of_the_vocabulary_is_skipped(marian_copy, tmp_path):
    """A special token in the vocabulary is recognized anywhere in a text, and left out of decoded text."""
    change(marian_copy / "tokenizer_config.json", extra_special_tokens=[">>de<<"], split_special_tokens=False)
    import_marian(str(marian_copy), tmp_path / "run")
    tokenizer = Translator.load(tmp_path / "run").tokenizers.source
    [ids] = tokenizer.encode(["the >>de<< dog"])
    assert ids.count(tokenizer.encode([">>de<<"])[0][0]) == 1
    assert tokenizer.decode([ids]) == ["the dog"]


def test_added_tokens_are_split_if_the_model_says_so(tmp_path):
    _, tokenizer = make_with_added_tokens(tmp_path / "model")
    change(tmp_path / "model/tokenizer_config.json", split_special_tokens=True)
    import_marian(str(tmp_path / "model"), tmp_path / "run")
    expected = tokenizer(TEXTS, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert Translator.load(tmp_path / "run").tokenizers.source.encode(TEXTS) == expected
