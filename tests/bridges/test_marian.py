"""A MarianMT model is imported as it is: the same tokens, logits and translations as those of transformers."""

import importlib.util
import json
import pickle
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marian_models import SHAPES, make_marian, torch
from numpy.testing import assert_allclose

from transformer_jax.bridges.marian import import_marian
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.import_model import main
from transformer_jax.commands.train import parse_train
from transformer_jax.commands.translate import TranslateCommand, translate
from transformer_jax.config import TokenizerConfig, load_config
from transformer_jax.data.tokenizers import Tokenizer, train_tokenizers
from transformer_jax.decoding.search import max_target_length
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError
from transformer_jax.runtime import memory
from transformer_jax.storage import untrusted
from transformer_jax.storage.checkpoints import load_params
from transformer_jax.training.loop import fit

SENTENCES = ["Where is the dog?", "A green house is here.", "Is it 4?", "The old tree, a red station, the old dog."]

DIFFICULT = [
    *SENTENCES,
    "",
    " ",
    "  leading, trailing and   multiple spaces  ",
    "tabs\tand\nline\r\nfeeds \u2028 \x85 end",
    "\x00\x01 control \x07\x1b\x7f characters",
    "unicode: é e\u0301 ﬁ Ⅳ ① ß ẞ İ ｆｕｌｌ \u00a0\u3000 ½ ™",
    "👩\u200d👩\u200d👧 🇩🇪 emoji 🎉",
    "日本 日本語 العربية עברית ไทย \ufeff\u200b\u202e",
    "</s> <unk> <s> <pad> pad> [PAD] [EOS] <0x41> ▁ ▁▁a",
    "a</s>b<unk><pad>",
    ">>de<< The old house",
    ">>de<<",
    " >>de<< The old house",
    "The >>de<< old << house >>",
    "x" * 300,
]


@pytest.fixture(scope="module", params=SHAPES, ids=lambda name: name)
def imported(request, tmp_path_factory):
    """A model and its tokenizer as transformers has them, and the run."""
    folder = tmp_path_factory.mktemp("marian")
    both = make_marian(folder / "model", SHAPES[request.param])
    import_marian(str(folder / "model"), folder / "run")
    return *both, Translator.load(folder / "run")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder as it is downloaded."""
    folder = tmp_path_factory.mktemp("marian") / "opus-mt-en-de"
    make_marian(folder)
    return folder


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    """The run folder of that."""
    folder = tmp_path_factory.mktemp("runs") / "opus-mt-en-de"
    import_marian(str(model), folder)
    return folder


@pytest.fixture
def copy(model, tmp_path):
    """A copy of the downloaded folder, to be damaged."""
    return Path(shutil.copytree(model, tmp_path / "copy"))


# The same as transformers.


def test_logits_are_those_of_transformers(imported):
    theirs, tokenizer, ours = imported
    batch = tokenizer(SENTENCES, text_target=SENTENCES[::-1], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = theirs(**batch).logits.numpy()
    labels = batch["labels"].numpy()
    start = np.full((len(labels), 1), ours.tokenizers.target.sos_id)
    inputs = [batch["input_ids"], np.concatenate([start, labels[:, :-1]], axis=1), batch["attention_mask"]]
    source, target, mask = (jnp.asarray(np.asarray(array), jnp.int32) for array in inputs)
    logits = jax.jit(ours.model.apply)({"params": ours.params}, source, target, mask, jnp.ones_like(target))
    assert_allclose(logits, expected, atol=1e-4)
    assert expected.std() > 0.5


def generated(theirs, tokenizer, text, **settings):
    """Token ids without the start, and the score if a beam was searched.

    At the limit a hypothesis ends with the probability that the model gives to ending, as ours do; transformers' own
    option takes it for certain.
    """
    batch = tokenizer([text], return_tensors="pt")
    end, limit = theirs.config.eos_token_id, max_target_length(batch["input_ids"].shape[1])

    def end_at_limit(so_far, scores):
        if so_far.shape[1] < limit:
            return scores
        return torch.full_like(scores, -torch.inf).index_copy(1, torch.tensor([end]), scores[:, [end]])

    found = theirs.generate(
        **batch,
        **settings,
        do_sample=False,
        max_length=limit + 1,
        forced_eos_token_id=None,
        logits_processor=[end_at_limit],
        bad_words_ids=[[theirs.config.pad_token_id]],
        output_scores=True,
        return_dict_in_generate=True,
    )
    return found.sequences[0, 1:].tolist(), found.get("sequences_scores")


def test_greedy_translations_are_those_of_transformers(imported):
    theirs, tokenizer, ours = imported
    found = ours.translate(SENTENCES, beam=1)
    expected = [generated(theirs, tokenizer, text, num_beams=1)[0] for text in SENTENCES]
    assert [list(one.target_ids) for one in found] == expected
    assert [one.text for one in found] == tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert ours.tokenizers.target.pad_id not in {number for ids in expected for number in ids}


def test_translations_of_a_beam_are_those_of_transformers(imported):
    """Without a length penalty, of which the two have other definitions, and with a search that is not cut short.

    transformers drops a hypothesis that ends where ending was not among the best 4; ours keeps it, if it scores better.
    """
    theirs, tokenizer, ours = imported
    settings = {"num_beams": 4, "length_penalty": 0.0, "early_stopping": "never"}
    found = ours.translate(SENTENCES, beam=4, length_penalty=0.0)
    expected = [generated(theirs, tokenizer, text, **settings) for text in SENTENCES]
    for one, (ids, score) in zip(found, expected, strict=True):
        if list(one.target_ids) == ids:
            assert_allclose(one.score, float(score[0]), atol=1e-3)
        else:
            assert one.score > float(score[0]) + 1e-3
            assert len(one.target_ids) < len(ids)


def test_tokens_are_those_of_transformers(imported):
    _, tokenizer, ours = imported
    source, target = ours.tokenizers
    assert source.encode(DIFFICULT) == tokenizer(DIFFICULT, add_special_tokens=False)["input_ids"]
    expected = tokenizer(text_target=DIFFICULT, add_special_tokens=False)["input_ids"]
    assert target.encode(DIFFICULT) == expected
    assert target.decode(expected) == tokenizer.batch_decode(expected, skip_special_tokens=True)
    for text, ids in zip(DIFFICULT, source.encode(DIFFICULT), strict=True):
        assert source.encode_with_spans(text)[0] == ids
        assert not set(ids) & {source.pad_id, source.eos_id}


def test_a_code_that_the_vocabulary_does_not_have_is_text(run):
    """transformers would lose it: nothing that somebody types is."""
    tokenizer = Translator.load(run).tokenizers.source
    [code], [text] = tokenizer.encode([">>de<<"]), tokenizer.encode([">>old<<"])
    assert len(code) == 1
    assert tokenizer.decode([text]) == ["old"]  # The rest is unknown to so small a model.


# An ordinary run.


def test_an_imported_run_translates_and_shows_its_attention(run, tmp_path):
    text = ("Where is the dog?", "A green house.")
    command = TranslateCommand(text, run, output=tmp_path / "out.txt", beam=2, attention=tmp_path / "attention")
    translate(command)
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 2
    with np.load(tmp_path / "attention/1.npz") as found:
        source, target = len(found["source_tokens"]), len(found["target_tokens"])
        assert found["cross"].shape == (3, 2, target, source)
        assert found["encoder"].shape == (2, 2, source, source)
        assert found["source_tokens"][-1] == "</s>"
        assert_allclose(found["cross"].sum(-1), 1, atol=1e-5)
    assert (tmp_path / "attention/index.html").exists()


def test_training_starts_from_the_imported_weights(run, tmp_path):
    for name, count in (("train", 23), ("valid", 2), ("test", 2)):
        lines = (f"{text}\t{text}\n" for text in (SENTENCES * count)[:count])
        (tmp_path / f"{name}.tsv").write_text("".join(lines))
    data = (word for name in ("train", "valid", "test") for word in (f"--data.{name}", str(tmp_path / f"{name}.tsv")))
    few = ("--training.steps", "2", "--training.valid-sentences", "1", "--data.max-length", "37")
    size = ("--data.batch-tokens", "307", "--mesh.data", "8", "--optimizer.warmup", "2", "--optimizer.factor", "0.01")
    command = parse_train(["--training.init", str(run), "--workdir", str(tmp_path / "run"), *data, *few, *size])
    fit(command.config, command.workdir)
    start, end = (load_params(folder / "checkpoints") for folder in (run, tmp_path / "run"))
    rate = 0.01 / (22 * 2) ** 0.5  # Of two updates of Adam, each of which moves a weight by at most about that.
    jax.tree.map(lambda before, after: assert_allclose(after, before, atol=3 * rate), start, end)
    moved = jax.tree.map(lambda before, after: bool((before != after).any()), start, end)
    assert all(jax.tree.leaves(moved))
    assert load_config(tmp_path / "run/config.json").training.init == str(run)
    assert (tmp_path / "run/tokenizer.source.json").read_bytes() == (run / "tokenizer.source.json").read_bytes()


# Files.


def same_weights(one, other):
    jax.tree.map(np.testing.assert_array_equal, *(load_params(folder / "checkpoints") for folder in (one, other)))


def as_pytorch(folder, change=lambda weights: weights):
    """Put pytorch_model.bin in the place of the other file."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(change(weights), folder / "pytorch_model.bin")


def with_copies(weights):
    """As OPUS-MT's files of 2020: every name of the shared table, and the sinusoids."""
    table = weights["model.shared.weight"]
    names = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
    copies = dict.fromkeys(names, table)
    return weights | copies | {"model.encoder.embed_positions.weight": torch.zeros(127, 22)}


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights,
        with_copies,
        lambda weights: {name.replace("model.shared", "lm_head"): value for name, value in weights.items()},
    ],
    ids=["shared", "copies", "another name"],
)
def test_weights_of_pytorch_are_the_same(copy, run, tmp_path, change):
    as_pytorch(copy, change)
    import_marian(str(copy), tmp_path / "run")
    same_weights(tmp_path / "run", run)


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refusal(folder, tmp_path):
    """The one line with which a model is refused; nothing is left of it."""
    with pytest.raises(InputError) as caught:
        import_marian(str(folder), tmp_path / "runs" / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
    return str(caught.value)


def test_a_pickle_with_code_is_refused_and_not_run(copy, tmp_path):
    as_pytorch(copy, lambda weights: weights | {"code": Code(tmp_path / "ran")})
    assert "pytorch_model.bin is damaged, or holds more than weights, which may be code" in refusal(copy, tmp_path)
    assert not (tmp_path / "ran").exists()


def change_config(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_type", "bart", "model_type is 'bart', and only 'marian' can be imported."),
        ("activation_function", "gelu", "activation_function is 'gelu', and only 'relu' or 'swish' or 'silu'"),
        ("normalize_before", True, "normalize_before is True"),
        ("add_final_layer_norm", True, "add_final_layer_norm is True"),
        ("static_position_embeddings", False, "static_position_embeddings is False"),
        ("tie_word_embeddings", False, "tie_word_embeddings is False"),
        ("decoder_ffn_dim", 23, "decoder_ffn_dim is 23, and only 19"),
        ("decoder_attention_heads", 11, "decoder_attention_heads is 11"),
        ("decoder_start_token_id", 0, "decoder_start_token_id is 0"),
        ("pad_token_id", None, "decoder_start_token_id is"),
        ("eos_token_id", 5, "config.json says eos_token_id 5"),
        ("d_model", "22", "d_model is '22', which is no number."),
        ("d_model", 44, "encoder_attn.k_proj.bias has the shape (22,)"),
        ("encoder_ffn_dim", 10**30, "decoder_ffn_dim is 19"),
        ("d_model", 10**30, "no model has sizes such as those"),
        ("encoder_layers", 10**9, "config.json has more layers than there are tensors."),
        ("encoder_layers", 3, "tensor model.encoder.layers.2."),
        ("encoder_layers", 1, "tensor model.encoder.layers.1.fc1.bias has no place"),
        ("vocab_size", 10**12, "vocab.json has"),
        ("vocab_size", 53, "which do not have the ids 0 to 52"),
    ],
)
def test_a_config_that_cannot_be_imported_is_refused(copy, tmp_path, name, value, message):
    change_config(copy, **{name: value})
    assert message in refusal(copy, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "source.spm", "target.spm", "vocab.json", "model.safetensors"])
def test_a_file_that_is_missing_is_named(copy, tmp_path, name):
    (copy / name).unlink()
    assert name in refusal(copy, tmp_path)


def test_the_vocabulary_of_a_second_language_is_not_taken_for_the_first(tmp_path):
    make_marian(tmp_path / "model", SHAPES["two vocabularies"])
    (tmp_path / "model" / "target_vocab.json").unlink()
    assert "target_vocab.json is missing." in refusal(tmp_path / "model", tmp_path)


def test_packages_that_are_missing_are_named_at_once(model, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal(model, tmp_path) == (
        "the import needs sentencepiece and safetensors. Run: pip install sentencepiece safetensors"
    )


def test_pytorch_s_weights_need_no_safetensors(copy, tmp_path, monkeypatch):
    as_pytorch(copy)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "safetensors" else find_spec(name))
    import_marian(str(copy), tmp_path / "run")
    assert (tmp_path / "run/config.json").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[]"),
        ("config.json", b"{"),
        ("vocab.json", b"[" * 10**5),
        ("vocab.json", b'{"</s>": []}'),
        ("source.spm", b""),
        ("target.spm", b"no model"),
        ("model.safetensors", b""),
        ("model.safetensors", b"no tensors"),
    ],
)
def test_a_file_that_is_damaged_is_named(copy, tmp_path, name, content):
    (copy / name).write_bytes(content)
    assert name in refusal(copy, tmp_path)


def test_a_file_cut_short_is_named(copy, tmp_path):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert "model.safetensors cannot be read" in refusal(copy, tmp_path)
    path.unlink()
    (copy / "pytorch_model.bin").write_bytes(b"PK\x03\x04 no archive")
    assert "pytorch_model.bin" in refusal(copy, tmp_path)


def test_files_that_are_too_large_are_refused_before_they_are_read(copy, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 10_000)
    assert "model.safetensors: 0.00 GiB needed per device, 0.00 GiB available." in refusal(copy, tmp_path)
    with (copy / "source.spm").open("ab") as file:
        file.truncate(untrusted.MAX_JSON_BYTES + 1)
    assert "source.spm has over 64 MiB." in refusal(copy, tmp_path)


@pytest.mark.parametrize("change", [lambda ids: ids.pop("<pad>"), lambda ids: ids.update({"▁": 7})])
def test_a_vocabulary_that_does_not_fit_is_refused(copy, tmp_path, change):
    ids = json.loads((copy / "vocab.json").read_text())
    change(ids)
    (copy / "vocab.json").write_text(json.dumps(ids))
    assert "Copy both again from the same model." in refusal(copy, tmp_path)


def test_a_model_that_cannot_be_downloaded_says_what_to_put_where(tmp_path):
    message = refusal("Helsinki-NLP/opus-mt-en-de", tmp_path)
    assert "Put config.json, source.spm, target.spm, vocab.json, model.safetensors or pytorch_model.bin, and" in message
    assert "target_vocab.json" in message
    assert "https://huggingface.co/Helsinki-NLP/opus-mt-en-de/tree/main" in message


def test_a_folder_that_holds_something_is_not_written_to(model, run):
    with pytest.raises(InputError, match=r"is not empty. Name another --workdir\.$"):
        import_marian(str(model), run)


def test_the_command_says_what_to_try(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, [str(model)]) == 0
    assert "--workdir runs/opus-mt-en-de" in capsys.readouterr().out
    assert (tmp_path / "runs/opus-mt-en-de/config.json").exists()
    assert run_command(main, []) == 2
    assert "no model given." in capsys.readouterr().err


# The tokenizer in a run folder.


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("model"),
        lambda content: content.update(model="?"),
        lambda content: content.update(model=""),
        lambda content: content.update(pieces=["<pad>", "</s>"]),
        lambda content: content.update(pieces=[*content["pieces"], "</s>"]),
        lambda content: content.update(pieces=[*content["pieces"], 7]),
        lambda content: content.update(pieces=7),
    ],
)
def test_a_tokenizer_that_is_damaged_is_refused(run, tmp_path, change):
    content = json.loads((run / "tokenizer.source.json").read_text())
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"tokenizer\.json is not a tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_copy_of_a_tokenizer_and_half_a_surrogate_pair(run):
    tokenizer = Translator.load(run).tokenizers.target
    assert pickle.loads(pickle.dumps(tokenizer)).encode(DIFFICULT) == tokenizer.encode(DIFFICULT)
    with pytest.raises(InputError, match=r"^Text 2 contains an unpaired surrogate"):
        tokenizer.encode(["fine", "\ud83d"])
    with pytest.raises(InputError, match="sentencepiece is only available in imported models"):
        train_tokenizers(TokenizerConfig("sentencepiece"), ["a"], ["b"])


def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path):
    with pytest.raises(InputError, match=r"is no folder, and no name on the hub\. Name a folder or OWNER/NAME\.$"):
        import_marian(str(tmp_path / "none"), tmp_path / "run")
