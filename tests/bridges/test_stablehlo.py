"""The exported programs are our model: the same numbers, in a process that cannot import this package."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decisive import KINDS, TEXTS, decisive
from numpy.testing import assert_allclose
from serving import example
from tiny_run import tiny_run  # noqa: F401

from transformer_jax.bridges import stablehlo
from transformer_jax.bridges.stablehlo import export_stablehlo
from transformer_jax.commands.cli import run
from transformer_jax.commands.export_model import main

pytest.importorskip("flatbuffers", reason="pip install -r requirements-parity.txt")


@pytest.fixture(scope="module", params=KINDS[::2], ids=lambda kind: kind.name)
def both(request, tmp_path_factory):
    """A translator, and the folder of its export."""
    translator = decisive(*request.param)
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_stablehlo(translator, folder)
    return translator, folder


def test_steps_give_the_logits_of_the_whole_pass(both):
    translator, folder = both
    programs = [jax.export.deserialize(bytearray((folder / f"{name}.bin").read_bytes())) for name in ("encode", "step")]
    encode, step = (jax.jit(program.call) for program in programs)
    with np.load(folder / "parameters.npz") as file:
        parameters = dict(file)
    random, special = np.random.default_rng(0), translator.tokenizers.target
    # Other sizes than those of the tests below: all three are free.
    source, given = (
        random.integers(4, len(translator.tokenizers.source), (3, 5)),
        random.integers(4, len(special), (3, 7)),
    )
    source[1, 3:] = special.pad_id
    source, given = jnp.asarray(source, jnp.int32), jnp.asarray(given, jnp.int32)
    cache = jnp.zeros((2, 2, 3, 2, 11, 7))  # layers, keys and values, sentences, heads, positions, width of a head
    source_cache = encode(parameters, source)
    logits = []
    for position in range(given.shape[1]):
        one, cache = step(parameters, source, source_cache, given[:, position], jnp.int32(position), cache)
        logits.append(one)
    segments = (source != special.pad_id).astype(jnp.int32), jnp.ones_like(given)
    expected = jax.jit(translator.model.apply)({"params": translator.params}, source, given, *segments)
    assert_allclose(jnp.stack(logits, axis=1), expected, rtol=1e-4, atol=1e-4)


def test_the_documented_program_translates_without_this_package(both, tmp_path):
    translator, folder = both
    expected = translator.translate(TEXTS, beam=1)
    found = [line.split("\t", 1) for line in example(tmp_path, "flatbuffers", folder)]
    assert [text for _, text in found] == [one.text.replace("\n", " ") for one in expected]
    assert_allclose([float(score) for score, _ in found], [one.score for one in expected], atol=1e-3)


def test_the_description_fits_the_programs(both):
    _, folder = both
    description = json.loads((folder / "description.json").read_text())
    for name, program in description["programs"].items():
        exported = jax.export.deserialize(bytearray((folder / f"{name}.bin").read_bytes()))
        assert exported.platforms == tuple(description["platforms"]) == ("cpu", "cuda", "tpu")
        shapes = [description["arrays"][one] for one in (*program["inputs"][1:], *program["outputs"])]
        taken = exported.in_avals[len(exported.in_avals) - len(program["inputs"]) + 1 :]
        assert shapes == [
            {"shape": [size if isinstance(size, int) else str(size) for size in one.shape], "dtype": str(one.dtype)}
            for one in (*taken, *exported.out_avals)
        ]


def test_the_command_writes_a_whole_folder(tiny_run, tmp_path, capsys):  # noqa: F811
    assert run(main, [str(tiny_run), "--to", "stablehlo", "--output", str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
    named = {"encode.bin", "step.bin", "parameters.npz", "description.json"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        *named, "tokenizer.source.json", "tokenizer.target.json"
    }  # fmt: skip


def test_without_flatbuffers_it_is_said(tiny_run, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(stablehlo, "find_spec", lambda name: None)
    assert run(main, [str(tiny_run), "--to", "stablehlo", "--output", str(tmp_path / "model")]) == 2
    assert "pip install flatbuffers" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
