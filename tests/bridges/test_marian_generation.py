"""Decoding settings of imported models: the beam size of the model, and a length penalty only if it means the same."""

import json

import pytest

from transformer_jax.bridges.marian import import_marian
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.import_model import main
from transformer_jax.config import DecodingConfig, load_config
from transformer_jax.errors import InputError

pytest.importorskip("sentencepiece", reason="pip install -r requirements-parity.txt")


def set_fields(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def imported(directory, workdir):
    """Return the decoding settings of the imported run, and what the import states."""
    notes = import_marian(str(directory), workdir)
    assert not any("\n" in note for note in notes)
    return load_config(workdir / "config.json").decoding, notes


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_number_of_beams_becomes_the_beam_size(marian_copy, tmp_path, name):
    set_fields(marian_copy / name, num_beams=7)
    decoding, notes = imported(marian_copy, tmp_path / "run")
    assert decoding == DecodingConfig(beam=7)
    assert notes == [f"Beam size 7, from num_beams in {name}."]


def test_generation_config_precedes_the_model_config(marian_copy, tmp_path):
    set_fields(marian_copy / "generation_config.json", num_beams=3)
    set_fields(marian_copy / "config.json", num_beams=7)
    assert imported(marian_copy, tmp_path / "run")[0].beam == 3


@pytest.mark.parametrize("has_file", [True, False])
def test_default_beam_size_is_stated(marian_copy, tmp_path, has_file):
    if not has_file:
        (marian_copy / "generation_config.json").unlink()
    decoding, notes = imported(marian_copy, tmp_path / "run")
    assert decoding == DecodingConfig()
    assert notes == ["Beam size 4, the default, because the model's files do not set num_beams."]


def test_length_penalty_of_zero_is_adopted(marian_copy, tmp_path):
    set_fields(marian_copy / "generation_config.json", num_beams=7, length_penalty=0.0)
    decoding, notes = imported(marian_copy, tmp_path / "run")
    assert decoding == DecodingConfig(beam=7, length_penalty=0.0)
    assert notes[-1] == "No length penalty, from length_penalty 0 in generation_config.json."


def test_other_length_penalty_is_stated_as_unused(marian_copy, tmp_path):
    set_fields(marian_copy / "generation_config.json", num_beams=7, length_penalty=1.3)
    decoding, notes = imported(marian_copy, tmp_path / "run")
    assert decoding == DecodingConfig(beam=7)
    assert "length_penalty 1.3 in generation_config.json is not used" in notes[-1]


@pytest.mark.parametrize("value", [0, -2, 2.0, "6", True, []])
def test_invalid_number_of_beams_is_refused(marian_copy, tmp_path, value):
    set_fields(marian_copy / "generation_config.json", num_beams=value)
    with pytest.raises(InputError, match=r"generation_config\.json: num_beams is .*delete it\.$"):
        import_marian(str(marian_copy), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_import_command_prints_the_beam_size(marian_copy, tmp_path, capsys):
    set_fields(marian_copy / "generation_config.json", num_beams=7)
    assert run_command(main, [str(marian_copy), "--workdir", str(tmp_path / "run")]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first == "Beam size 7, from num_beams in generation_config.json."
    assert second.startswith("Saved in ")
