"""Files of MarianMT models: refused and damaged ones, PyTorch weights, and the imported tokenizer."""

import importlib.util
import json
import pickle
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from marian_models import DIFFICULT, SHAPES, make_marian, torch

from transformer_jax.bridges.marian import import_marian
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.import_model import main
from transformer_jax.config import TokenizerConfig
from transformer_jax.data.run_tokenizers import load_tokenizers, train_tokenizers
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decoding.translator import Translator
from transformer_jax.errors import InputError
from transformer_jax.runtime import memory
from transformer_jax.storage import untrusted
from transformer_jax.storage.checkpoints import load_params


def require_same_weights(*workdirs):
    jax.tree.map(np.testing.assert_array_equal, *(load_params(workdir / "checkpoints") for workdir in workdirs))


def as_pytorch(directory, change=lambda weights: weights):
    """Replace model.safetensors by pytorch_model.bin."""
    from safetensors.torch import load_file

    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(change(weights), directory / "pytorch_model.bin")


def with_copies(weights):
    """Add the shared table under all its names, and the sinusoids, as in OPUS-MT files from 2020."""
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
def test_pytorch_weights_give_the_same_run(marian_copy, marian_run, tmp_path, change):
    as_pytorch(marian_copy, change)
    import_marian(str(marian_copy), tmp_path / "run")
    require_same_weights(tmp_path / "run", marian_run)


class Code:
    """An object whose unpickling would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refusal(directory, tmp_path):
    """Return the error line of a refused import, which must leave nothing behind."""
    with pytest.raises(InputError) as caught:
        import_marian(str(directory), tmp_path / "runs" / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
    return str(caught.value)


def test_pickle_with_code_is_refused_and_not_executed(marian_copy, tmp_path):
    as_pytorch(marian_copy, lambda weights: weights | {"code": Code(tmp_path / "ran")})
    assert "pytorch_model.bin is damaged or contains more than weights, such as code" in refusal(marian_copy, tmp_path)
    assert not (tmp_path / "ran").exists()


def change_config(directory, **values):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_type", "bart", "model_type is 'bart', but only 'marian' can be imported."),
        ("activation_function", "gelu", "activation_function is 'gelu', but only 'relu' or 'swish' or 'silu'"),
        ("normalize_before", True, "normalize_before is True"),
        ("add_final_layer_norm", True, "add_final_layer_norm is True"),
        ("static_position_embeddings", False, "static_position_embeddings is False"),
        ("tie_word_embeddings", False, "tie_word_embeddings is False"),
        ("decoder_ffn_dim", 23, "decoder_ffn_dim is 23, but only 19"),
        ("decoder_attention_heads", 11, "decoder_attention_heads is 11"),
        ("decoder_start_token_id", 0, "decoder_start_token_id is 0"),
        ("pad_token_id", None, "decoder_start_token_id is"),
        ("eos_token_id", 5, "eos_token_id is 5 in config.json"),
        ("d_model", "22", "d_model is '22', not an integer."),
        ("d_model", 44, "encoder_attn.k_proj.bias has shape (22,)"),
        ("encoder_ffn_dim", 10**30, "decoder_ffn_dim is 19"),
        ("d_model", 10**30, "the sizes in config.json are too large"),
        ("encoder_layers", 10**9, "config.json specifies more layers than the model has tensors."),
        ("encoder_layers", 3, "tensor model.encoder.layers.2."),
        ("encoder_layers", 1, "tensor model.encoder.layers.1.fc1.bias has no counterpart"),
        ("vocab_size", 10**12, "shape (46, 22), but config.json requires shape (1000000000000, 22)"),
        ("vocab_size", 53, "shape (46, 22), but config.json requires shape (53, 22)"),
        ("vocab_size", 43, "vocab.json has 46 tokens, but config.json specifies only 43 vectors."),
    ],
)
def test_unsupported_config_is_refused(marian_copy, tmp_path, name, value, message):
    change_config(marian_copy, **{name: value})
    assert message in refusal(marian_copy, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "source.spm", "target.spm", "vocab.json", "model.safetensors"])
def test_missing_file_is_named(marian_copy, tmp_path, name):
    (marian_copy / name).unlink()
    assert name in refusal(marian_copy, tmp_path)


def test_missing_target_vocabulary_is_not_replaced(tmp_path):
    make_marian(tmp_path / "model", SHAPES["two vocabularies"])
    (tmp_path / "model" / "target_vocab.json").unlink()
    assert "target_vocab.json is missing." in refusal(tmp_path / "model", tmp_path)


def test_missing_packages_are_named_before_the_download(marian_model, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal(marian_model, tmp_path) == (
        "the import needs sentencepiece and safetensors. Run: pip install sentencepiece safetensors"
    )


def test_pytorch_weights_do_not_need_safetensors(marian_copy, tmp_path, monkeypatch):
    as_pytorch(marian_copy)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "safetensors" else find_spec(name))
    import_marian(str(marian_copy), tmp_path / "run")
    assert (tmp_path / "run/config.json").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[]"),
        ("config.json", b"{"),
        ("vocab.json", b"[" * 10**5),
        ("vocab.json", b'{"</s>": []}'),
        ("source.spm", b""),
        ("target.spm", b"not a model"),
        ("model.safetensors", b""),
        ("model.safetensors", b"not tensors"),
    ],
)
def test_damaged_file_is_named(marian_copy, tmp_path, name, content):
    (marian_copy / name).write_bytes(content)
    assert name in refusal(marian_copy, tmp_path)


def test_truncated_file_is_named(marian_copy, tmp_path):
    path = marian_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    assert "model.safetensors is damaged" in refusal(marian_copy, tmp_path)
    path.unlink()
    (marian_copy / "pytorch_model.bin").write_bytes(b"PK\x03\x04 not an archive")
    assert "pytorch_model.bin" in refusal(marian_copy, tmp_path)


def test_too_large_files_are_refused_before_reading(marian_copy, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: 10_000)
    assert "model.safetensors: 0.00 GiB needed per device, 0.00 GiB available." in refusal(marian_copy, tmp_path)
    with (marian_copy / "source.spm").open("ab") as file:
        file.truncate(untrusted.MAX_JSON_BYTES + 1)
    assert "source.spm is larger than 64 MiB." in refusal(marian_copy, tmp_path)


@pytest.mark.parametrize("change", [lambda ids: ids.pop("<pad>"), lambda ids: ids.update({"▁": 7})])
def test_contradicting_vocabulary_is_refused(marian_copy, tmp_path, change):
    ids = json.loads((marian_copy / "vocab.json").read_text())
    change(ids)
    (marian_copy / "vocab.json").write_text(json.dumps(ids))
    assert "Download the model again." in refusal(marian_copy, tmp_path)


def test_failed_download_says_which_files_to_copy(tmp_path):
    message = refusal("Helsinki-NLP/opus-mt-en-de", tmp_path)
    required = "config.json, source.spm, target.spm, vocab.json, model.safetensors or pytorch_model.bin"
    assert f"or download {required}, and" in message
    assert "target_vocab.json" in message
    assert "generation_config.json" in message
    assert "https://huggingface.co/Helsinki-NLP/opus-mt-en-de/tree/main" in message


def test_workdir_that_is_not_empty_is_refused(marian_model, marian_run):
    with pytest.raises(InputError, match=r"is not an empty directory\. Choose another --workdir\.$"):
        import_marian(str(marian_model), marian_run)


def test_command_prints_a_translate_command(marian_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, [str(marian_model)]) == 0
    assert "--workdir runs/opus-mt-en-de" in capsys.readouterr().out
    assert (tmp_path / "runs/opus-mt-en-de/config.json").exists()
    assert run_command(main, []) == 2
    assert "no model given." in capsys.readouterr().err


# The tokenizer in a run directory


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
        lambda content: content.update(added=7),
        lambda content: content.update(added=[{"text": "no piece"}]),
        lambda content: content.update(added=[{"text": "</s>"}]),
        lambda content: content.update(added=[{"text": ">>de<<", "unknown": 7}]),
        lambda content: content.update(added=[{"text": ""}], pieces=[*content["pieces"], ""]),
    ],
)
def test_damaged_tokenizer_is_refused(marian_run, tmp_path, change):
    content = json.loads((marian_run / "tokenizer.source.json").read_text())
    change(content)
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"tokenizer\.json is not a tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_tokenizer_of_an_older_run_is_readable(marian_run, tmp_path):
    """Its file has no field for added tokens."""
    content = json.loads((marian_run / "tokenizer.source.json").read_text())
    assert content.pop("added") == []
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    current = Tokenizer.load(marian_run / "tokenizer.source.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").encode(DIFFICULT) == current.encode(DIFFICULT)


def test_tokenizer_can_be_pickled_and_refuses_surrogates(marian_run):
    tokenizer = Translator.load(marian_run).tokenizers.target
    assert pickle.loads(pickle.dumps(tokenizer)).encode(DIFFICULT) == tokenizer.encode(DIFFICULT)
    with pytest.raises(InputError, match=r"^text 2 contains an unpaired surrogate"):
        tokenizer.encode(["fine", "\ud83d"])
    with pytest.raises(InputError, match="sentencepiece is only available in imported models"):
        train_tokenizers(TokenizerConfig("sentencepiece"), [])


def test_an_imported_run_cannot_be_normalized(marian_run):
    with pytest.raises(InputError, match=r"has a SentencePiece tokenizer, .* Copy the complete run directory again\.$"):
        load_tokenizers(marian_run, TokenizerConfig("sentencepiece", normalization="text"))


def test_missing_path_is_not_downloaded(tmp_path):
    message = r"is neither a directory nor a valid name on the Hugging Face hub\. Use a directory or OWNER/NAME\.$"
    with pytest.raises(InputError, match=message):
        import_marian(str(tmp_path / "none"), tmp_path / "run")
