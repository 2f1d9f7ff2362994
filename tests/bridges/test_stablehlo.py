"""Exported StableHLO programs compute the same numbers as the model, in a process without this package."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decisive import TEXTS, VARIANTS, make_decisive
from numpy.testing import assert_allclose
from serving import run_documented_program

from transformer_jax.bridges import stablehlo
from transformer_jax.bridges.stablehlo import export_stablehlo
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.export_model import main
from transformer_jax.decoding.translator import Translator

pytest.importorskip("flatbuffers", reason="pip install -r requirements-parity.txt")


@pytest.fixture(scope="module", params=VARIANTS[::2], ids=lambda variant: variant.name)
def exported_model(request, tmp_path_factory):
    """A translator, and the directory of its export."""
    translator = make_decisive(*request.param)
    directory = tmp_path_factory.mktemp("exported") / "model"
    export_stablehlo(translator, directory)
    return translator, directory


def test_steps_give_the_logits_of_teacher_forcing(exported_model):
    translator, directory = exported_model
    files = [directory / f"{name}.bin" for name in ("encode", "step")]
    programs = [jax.export.deserialize(bytearray(file.read_bytes())) for file in files]
    encode, step = (jax.jit(program.call) for program in programs)
    with np.load(directory / "parameters.npz") as file:
        parameters = dict(file)
    random, tokenizers = np.random.default_rng(0), translator.tokenizers
    # Sizes that differ from those of the other tests, since all three are variable.
    source = random.integers(4, len(tokenizers.source), (3, 5))
    target = random.integers(4, len(tokenizers.target), (3, 7))
    source[1, 3:] = tokenizers.target.pad_id
    source, target = jnp.asarray(source, jnp.int32), jnp.asarray(target, jnp.int32)
    cache = jnp.zeros((2, 2, 3, 2, 11, 7))  # layers, keys and values, sentences, heads, positions, head width
    source_cache = encode(parameters, source)
    logits = []
    for position in range(target.shape[1]):
        step_logits, cache = step(parameters, source, source_cache, target[:, position], jnp.int32(position), cache)
        logits.append(step_logits)
    segments = (source != tokenizers.target.pad_id).astype(jnp.int32), jnp.ones_like(target)
    expected = jax.jit(translator.model.apply)({"params": translator.params}, source, target, *segments)
    assert_allclose(jnp.stack(logits, axis=1), expected, rtol=1e-4, atol=1e-4)


def test_float16_models_are_exported_in_float32(tmp_path):
    translator = make_decisive(*VARIANTS[0])
    model = dataclasses.replace(translator.config.model, dtype="float16")
    config = dataclasses.replace(translator.config, model=model)
    export_stablehlo(Translator(config, translator.tokenizers, translator.params), tmp_path / "model")
    arrays = json.loads((tmp_path / "model" / "description.json").read_text())["arrays"]
    assert arrays["source_cache"]["dtype"] == arrays["prefix_cache"]["dtype"] == "float32"


def test_documented_program_translates_without_this_package(exported_model, tmp_path):
    translator, directory = exported_model
    expected = translator.translate(TEXTS, beam=1)
    lines = [line.split("\t", 1) for line in run_documented_program("flatbuffers", directory, tmp_path)]
    assert [text for _, text in lines] == [translation.text.replace("\n", " ") for translation in expected]
    scores = [float(score) for score, _ in lines]
    assert_allclose(scores, [translation.score for translation in expected], atol=1e-3)


def test_description_matches_the_programs(exported_model):
    _, directory = exported_model
    description = json.loads((directory / "description.json").read_text())
    for name, program in description["programs"].items():
        exported = jax.export.deserialize(bytearray((directory / f"{name}.bin").read_bytes()))
        assert exported.platforms == tuple(description["platforms"]) == ("cpu", "cuda", "tpu")
        described = [description["arrays"][array] for array in (*program["inputs"][1:], *program["outputs"])]
        inputs = exported.in_avals[len(exported.in_avals) - len(program["inputs"]) + 1 :]
        assert described == [
            {"shape": [size if isinstance(size, int) else str(size) for size in array.shape], "dtype": str(array.dtype)}
            for array in (*inputs, *exported.out_avals)
        ]


def test_command_writes_the_complete_directory(tiny_run, tmp_path, capsys):
    assert run_command(main, [str(tiny_run), "--to", "stablehlo", "--output", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
    files = {"encode.bin", "step.bin", "parameters.npz", "description.json"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        *files, "tokenizer.source.json", "tokenizer.target.json"
    }  # fmt: skip


def test_missing_flatbuffers_error_names_the_pip_command(tiny_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stablehlo, "find_spec", lambda name: None)
    assert run_command(main, [str(tiny_run), "--to", "stablehlo", "--output", str(tmp_path / "model")]) == 2
    assert "pip install flatbuffers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
