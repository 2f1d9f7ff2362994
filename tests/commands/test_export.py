"""What every export refuses, and what it leaves behind."""

import pytest
from tiny_run import tiny_run  # noqa: F401

from transformer_jax.bridges.exported import exported
from transformer_jax.commands.cli import run
from transformer_jax.commands.export_model import main
from transformer_jax.data.tokenizers import load_tokenizers
from transformer_jax.errors import InputError, RunError

FORMATS = ("ctranslate2", "stablehlo")


@pytest.fixture
def tokenizers(tiny_run):  # noqa: F811
    return load_tokenizers(tiny_run)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give RUN --to FORMAT --output DIR."),
        (["{run}"], "Give RUN --to FORMAT --output DIR."),
        (["{folder}/none", "--output", "{folder}/new"], "none is not the folder of a run"),
        (["{run}", "--output", "{folder}"], "{folder} exists. Delete it, or name another --output."),
        (["{run}", "--output", "{folder}/new", "--quantization", "int9"], "--quantization"),
    ],
)
def test_wrong_use_is_one_line_and_nothing_is_written(format, arguments, message, tiny_run, tmp_path, capsys):  # noqa: F811
    places = {"run": tiny_run, "folder": tmp_path}
    assert run(main, ["--to", format, *(argument.format(**places) for argument in arguments)]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert message.format(**places) in written.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Give RUN --to FORMAT --output DIR."),
        (["--to", "onnx"], "--to"),
        (["--to", "stablehlo", "--quantization", "int8"], "Remove --quantization."),
    ],
)
def test_a_format_must_be_known_and_take_the_options(options, message, tiny_run, tmp_path, capsys):  # noqa: F811
    assert run(main, [str(tiny_run), "--output", str(tmp_path / "new"), *options]) == 2
    written = capsys.readouterr()
    assert written.err.count("\n") == 1
    assert message in written.err
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_when_it_is_whole(tokenizers, tmp_path):
    with exported(tmp_path / "parent/new", tokenizers) as unfinished:
        (unfinished / "model").write_text("here")
        assert not (tmp_path / "parent/new").exists()
    assert [path.name for path in (tmp_path / "parent").iterdir()] == ["new"]
    names = ["model", "tokenizer.source.json", "tokenizer.target.json"]
    assert sorted(path.name for path in (tmp_path / "parent/new").iterdir()) == names


@pytest.mark.parametrize(("raised", "seen"), [(ValueError("bad"), ValueError), (OSError(28, "No space"), RunError)])
def test_of_one_that_fails_nothing_is_left(raised, seen, tokenizers, tmp_path):
    def fail():
        with exported(tmp_path / "new", tokenizers) as unfinished:
            (unfinished / "half").write_text("written")
            raise raised

    with pytest.raises(seen):
        fail()
    assert not list(tmp_path.iterdir())


def test_an_earlier_folder_is_kept(tokenizers, tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(InputError, match="exists"), exported(tmp_path / "old", tokenizers):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
