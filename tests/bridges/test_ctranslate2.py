"""Exported models give the same probabilities and translations in CTranslate2."""

import dataclasses
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decisive import TEXTS, VARIANTS, make_decisive
from numpy.testing import assert_allclose
from serving import run_documented_program
from tiny_run import random_params

from transformer_jax.bridges.ctranslate2 import export_ctranslate2
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.export_model import main
from transformer_jax.decoding.search import max_target_length
from transformer_jax.decoding.translator import Translator
from transformer_jax.model.transformer import Transformer

if os.environ.get("CI") == "true":
    import ctranslate2  # In CI, a missing package must fail the tests instead of skipping them.
else:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="pip install -r requirements-parity.txt")


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: variant.name)
def exported_model(request, tmp_path_factory):
    """A translator, and the directory of its export."""
    translator = make_decisive(*request.param)
    directory = tmp_path_factory.mktemp("exported") / "model"
    export_ctranslate2(translator, directory)
    return translator, directory


def length_limit(translator, text):
    """Return the maximum number of tokens in the translation of a text, [EOS] included."""
    [source] = translator.tokenizers.source.encode([text])
    return max_target_length(len(source) + 1)


def translate_with_ctranslate2(directory, translator, text, beam):
    """Return the token ids of CTranslate2's best translation, [EOS] included."""
    sources, targets = translator.tokenizers
    [ids] = sources.encode([text])
    options = {"beam_size": beam, "length_penalty": 0, "min_decoding_length": 0}
    model = ctranslate2.Translator(str(directory), inter_threads=1, intra_threads=1)
    limit = length_limit(translator, text)
    [result] = model.translate_batch([sources.pieces(ids)], max_decoding_length=limit, **options)
    pieces = targets.pieces(range(len(targets)))
    return (*map(pieces.index, result.hypotheses[0]), targets.eos_id)


def require_same_probabilities(translator, directory):
    random, (sources, targets) = np.random.default_rng(0), translator.tokenizers
    source, target = random.integers(4, len(sources), (5, 11)), random.integers(4, len(targets), (5, 13))
    results = ctranslate2.Translator(str(directory)).score_batch(
        [sources.pieces(row) for row in source], [targets.pieces(row) for row in target]
    )
    source_input = jnp.pad(jnp.asarray(source), ((0, 0), (0, 1)), constant_values=sources.eos_id)
    target_input = jnp.pad(jnp.asarray(target), ((0, 0), (1, 0)), constant_values=targets.sos_id)
    target_output = jnp.pad(jnp.asarray(target), ((0, 0), (0, 1)), constant_values=targets.eos_id)
    segments = jnp.ones_like(source_input), jnp.ones_like(target_input)
    logits = jax.jit(translator.model.apply)({"params": translator.params}, source_input, target_input, *segments)
    allowed = logits.at[:, :, np.array([targets.pad_id, targets.sos_id])].set(-jnp.inf)
    expected = jnp.take_along_axis(jax.nn.log_softmax(allowed), target_output[:, :, None], axis=2)[:, :, 0]
    assert_allclose([result.log_probs for result in results], expected, rtol=1e-4, atol=1e-4)


def test_probabilities_equal_those_of_the_run(exported_model):
    require_same_probabilities(*exported_model)


def test_settings_of_imported_models_are_exported(tmp_path):
    original = make_decisive(*VARIANTS[0])
    settings = {"activation": "swish", "positions": "halves", "scale_embeddings": "none", "biases": "all"}
    model_config = dataclasses.replace(original.config.model, norm_epsilon=0.1, **settings)
    config = dataclasses.replace(original.config, model=model_config)
    model = Transformer(model_config, *map(len, original.tokenizers))
    translator = Translator(config, original.tokenizers, random_params(model, 3))
    export_ctranslate2(translator, tmp_path / "model")
    require_same_probabilities(translator, tmp_path / "model")


@pytest.mark.parametrize("beam", [1, 4])
def test_translations_equal_those_of_the_run(exported_model, beam):
    translator, directory = exported_model
    complete = 0
    for text in TEXTS:
        [ours] = translator.translate([text], beam, length_penalty=0.0)
        # At the limit we force [EOS], whereas CTranslate2 truncates.
        if len(ours.target_ids) < length_limit(translator, text):
            assert translate_with_ctranslate2(directory, translator, text, beam) == ours.target_ids
            complete += 1
    assert complete >= 4


def test_padding_and_start_are_never_produced(tmp_path):
    for biased_token in ("pad_id", "sos_id"):
        translator = make_decisive(*VARIANTS[0]._replace(end_bias=40.0), biased_token)
        export_ctranslate2(translator, tmp_path / biased_token)
        [ours] = translator.translate(TEXTS[:1], beam=1)
        token_ids = translate_with_ctranslate2(tmp_path / biased_token, translator, TEXTS[0], 1)
        assert getattr(translator.tokenizers.target, biased_token) not in token_ids
        assert token_ids[: len(ours.target_ids) - 1] == ours.target_ids[:-1]


def test_documented_program_translates_without_this_package(exported_model, tmp_path):
    translator, directory = exported_model
    lines = run_documented_program("ctranslate2", directory, tmp_path)
    assert len(lines) == len(TEXTS)
    for text, line in zip(TEXTS, lines, strict=True):
        [ours] = translator.translate([text], beam=4, length_penalty=0.0)
        if len(ours.target_ids) < length_limit(translator, text):
            assert line == ours.text.replace("\n", " ")


def test_overlong_source_is_truncated(exported_model):
    _, directory = exported_model
    [result] = ctranslate2.Translator(str(directory)).translate_batch([["a"] * 3001], max_decoding_length=7)
    assert result.hypotheses


def test_command_writes_the_complete_directory(tiny_run, tmp_path, capsys):
    sizes = {}
    for quantization in ("float32", "int8"):
        directory = tmp_path / quantization
        options = ["--to", "ctranslate2", "--output", str(directory), "--quantization", quantization]
        assert run_command(main, [str(tiny_run), *options]) == 0
        assert capsys.readouterr().out.count("\n") == 1
        assert {"tokenizer.source.json", "tokenizer.target.json"} < {path.name for path in directory.iterdir()}
        assert ctranslate2.Translator(str(directory)).compute_type.startswith(quantization)
        sizes[quantization] = (directory / "model.bin").stat().st_size
    assert sizes["int8"] < sizes["float32"]
    assert {path.name for path in tmp_path.iterdir()} == sizes.keys()


def test_missing_ctranslate2_error_names_the_pip_command(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", None)
    assert run_command(main, [str(tiny_run), "--to", "ctranslate2", "--output", str(tmp_path / "model")]) == 2
    assert "pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
