"""The exported model is ours: CTranslate2 gives the same probabilities and finds the same translations."""

import dataclasses
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decisive import KINDS, TEXTS, decisive
from numpy.testing import assert_allclose
from serving import example
from tiny_run import random_params, tiny_run  # noqa: F401

from transformer_jax.bridges.ctranslate2 import export_ctranslate2
from transformer_jax.commands.cli import run
from transformer_jax.commands.export_model import main
from transformer_jax.decoding.search import max_target_length
from transformer_jax.decoding.translator import Translator
from transformer_jax.model.transformer import Transformer

if os.environ.get("CI") == "true":
    import ctranslate2  # a missing parity test must not look like a passed one
else:
    ctranslate2 = pytest.importorskip("ctranslate2", reason="pip install -r requirements-parity.txt")


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def both(request, tmp_path_factory):
    """A translator, and the folder of its export."""
    translator = decisive(*request.param)
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_ctranslate2(translator, folder)
    return translator, folder


def limit(translator, text):
    """The most tokens of a translation, [EOS] included."""
    [source] = translator.tokenizers.source.encode([text])
    return max_target_length(len(source) + 1)


def theirs(folder, translator, text, beam):
    """The ids of CTranslate2's best translation, and [EOS]."""
    sources, targets = translator.tokenizers
    [ids] = sources.encode([text])
    options = {"beam_size": beam, "length_penalty": 0, "min_decoding_length": 0}
    model = ctranslate2.Translator(str(folder), inter_threads=1, intra_threads=1)
    [found] = model.translate_batch([sources.pieces(ids)], max_decoding_length=limit(translator, text), **options)
    pieces = targets.pieces(range(len(targets)))
    return (*map(pieces.index, found.hypotheses[0]), targets.eos_id)


def require_same_probabilities(translator, folder):
    random, (sources, targets) = np.random.default_rng(0), translator.tokenizers
    source, target = random.integers(4, len(sources), (5, 11)), random.integers(4, len(targets), (5, 13))
    found = ctranslate2.Translator(str(folder)).score_batch(
        [sources.pieces(row) for row in source], [targets.pieces(row) for row in target]
    )
    read = jnp.pad(jnp.asarray(source), ((0, 0), (0, 1)), constant_values=sources.eos_id)
    given = jnp.pad(jnp.asarray(target), ((0, 0), (1, 0)), constant_values=targets.sos_id)
    wanted = jnp.pad(jnp.asarray(target), ((0, 0), (0, 1)), constant_values=targets.eos_id)
    segments = jnp.ones_like(read), jnp.ones_like(given)
    logits = jax.jit(translator.model.apply)({"params": translator.params}, read, given, *segments)
    allowed = logits.at[:, :, np.array([targets.pad_id, targets.sos_id])].set(-jnp.inf)
    expected = jnp.take_along_axis(jax.nn.log_softmax(allowed), wanted[:, :, None], axis=2)[:, :, 0]
    assert_allclose([one.log_probs for one in found], expected, rtol=1e-4, atol=1e-4)


def test_probabilities_are_the_same(both):
    require_same_probabilities(*both)


def test_what_other_models_have_is_exported(tmp_path):
    plain = decisive(*KINDS[0])
    words = {"activation": "swish", "positions": "halves", "scale_embeddings": "none", "biases": "all"}
    network = dataclasses.replace(plain.config.model, norm_epsilon=0.1, **words)
    config = dataclasses.replace(plain.config, model=network)
    model = Transformer(network, *map(len, plain.tokenizers))
    translator = Translator(config, plain.tokenizers, random_params(model, 3))
    export_ctranslate2(translator, tmp_path / "model")
    require_same_probabilities(translator, tmp_path / "model")


@pytest.mark.parametrize("beam", [1, 4])
def test_translations_are_the_same(both, beam):
    translator, folder = both
    ended = 0
    for text in TEXTS:
        [ours] = translator.translate([text], beam, length_penalty=0.0)
        if len(ours.target_ids) < limit(translator, text):  # There we let it end, and CTranslate2 cuts it off.
            assert theirs(folder, translator, text, beam) == ours.target_ids
            ended += 1
    assert ended >= 4


def test_padding_and_start_are_never_produced(tmp_path):
    for favourite in ("pad_id", "sos_id"):
        translator = decisive(*KINDS[0]._replace(favour=40.0), favourite)
        export_ctranslate2(translator, tmp_path / favourite)
        [ours] = translator.translate(TEXTS[:1], beam=1)
        number = getattr(translator.tokenizers.target, favourite)
        found = theirs(tmp_path / favourite, translator, TEXTS[0], 1)
        assert number not in found
        assert found[: len(ours.target_ids) - 1] == ours.target_ids[:-1]


def test_the_documented_program_translates_without_this_package(both, tmp_path):
    translator, folder = both
    found = example(tmp_path, "ctranslate2", folder)
    assert len(found) == len(TEXTS)
    for text, line in zip(TEXTS, found, strict=True):
        [ours] = translator.translate([text], beam=4, length_penalty=0.0)
        if len(ours.target_ids) < limit(translator, text):
            assert line == ours.text.replace("\n", " ")


def test_a_source_that_is_too_long_is_cut(both):
    _, folder = both
    [result] = ctranslate2.Translator(str(folder)).translate_batch([["a"] * 3001], max_decoding_length=7)
    assert result.hypotheses


def test_the_command_writes_a_whole_folder(tiny_run, tmp_path, capsys):  # noqa: F811
    sizes = {}
    for quantization in ("float32", "int8"):
        folder = tmp_path / quantization
        assert (
            run(main, [str(tiny_run), "--to", "ctranslate2", "--output", str(folder), "--quantization", quantization])
            == 0
        )
        assert capsys.readouterr().out.count("\n") == 1
        assert {"tokenizer.source.json", "tokenizer.target.json"} < {path.name for path in folder.iterdir()}
        assert ctranslate2.Translator(str(folder)).compute_type.startswith(quantization)
        sizes[quantization] = (folder / "model.bin").stat().st_size
    assert sizes["int8"] < sizes["float32"]
    assert {path.name for path in tmp_path.iterdir()} == sizes.keys()


def test_without_ctranslate2_it_is_said(tiny_run, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.setitem(sys.modules, "ctranslate2.specs", None)
    assert run(main, [str(tiny_run), "--to", "ctranslate2", "--output", str(tmp_path / "model")]) == 2
    assert "pip install" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
