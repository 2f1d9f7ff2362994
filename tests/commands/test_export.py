"""The command ``export``: refused input, and the directory that it creates."""

import pytest
from tiny_run import TINY_CONFIG
from tokenizers import Tokenizer

from transformer_jax.bridges.export_directory import new_export_directory
from transformer_jax.commands.cli import run_command
from transformer_jax.commands.export_model import main
from transformer_jax.config import TokenizerConfig
from transformer_jax.data.records import Pair
from transformer_jax.data.run_tokenizers import load_tokenizers, train_tokenizers
from transformer_jax.errors import InputError, RunError

FORMATS = ("ctranslate2", "stablehlo")


@pytest.fixture
def tokenizers(tiny_run):
    return load_tokenizers(tiny_run, TINY_CONFIG.tokenizer)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "export RUN --to FORMAT --output DIR"),
        (["{run}"], "export RUN --to FORMAT --output DIR"),
        (["{directory}/none", "--output", "{directory}/new"], "none is not a run directory"),
        (["{run}", "--output", "{directory}"], "{directory} already exists. Delete it or choose another --output."),
        (["{run}", "--output", "{directory}/new", "--quantization", "int9"], "--quantization"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(format, arguments, message, tiny_run, tmp_path, capsys):
    paths = {"run": tiny_run, "directory": tmp_path}
    assert run_command(main, ["--to", format, *(argument.format(**paths) for argument in arguments)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert message.format(**paths) in output.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "export RUN --to FORMAT --output DIR"),
        (["--to", "onnx"], "--to"),
        (["--to", "stablehlo", "--quantization", "int8"], "Remove --quantization."),
    ],
)
def test_format_must_be_known_and_support_the_options(options, message, tiny_run, tmp_path, capsys):
    assert run_command(main, [str(tiny_run), "--output", str(tmp_path / "new"), *options]) == 2
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert message in output.err
    assert not list(tmp_path.iterdir())


def test_directory_appears_when_it_is_complete(tokenizers, tmp_path):
    with new_export_directory(tmp_path / "parent/new", tokenizers) as unfinished:
        (unfinished / "model").write_text("here")
        assert not (tmp_path / "parent/new").exists()
    assert [path.name for path in (tmp_path / "parent").iterdir()] == ["new"]
    names = ["model", "tokenizer.source.json", "tokenizer.target.json"]
    assert sorted(path.name for path in (tmp_path / "parent/new").iterdir()) == names


def test_exported_tokenizer_normalizes_sources_only(tmp_path):
    config = TokenizerConfig("bpe", size=311, normalization="text")
    tokenizers = train_tokenizers(config, [Pair("I don't know...", "Ich weiß nicht.")] * 3)
    with new_export_directory(tmp_path / "new", tokenizers):
        pass
    source, target = (
        Tokenizer.from_file(str(tmp_path / f"new/tokenizer.{side}.json")) for side in ("source", "target")
    )
    phone, plain = "I\u00a0don’t know…", "I don't know..."
    assert source.encode(phone).ids == source.encode(plain).ids == tokenizers.source.encode([phone])[0]
    assert target.encode(phone).ids == tokenizers.target.encode([phone])[0] != target.encode(plain).ids


@pytest.mark.parametrize(("error", "expected"), [(ValueError("bad"), ValueError), (OSError(28, "No space"), RunError)])
def test_failed_export_leaves_nothing_behind(error, expected, tokenizers, tmp_path):
    def fail():
        with new_export_directory(tmp_path / "new", tokenizers) as unfinished:
            (unfinished / "half").write_text("written")
            raise error

    with pytest.raises(expected):
        fail()
    assert not list(tmp_path.iterdir())


def test_existing_directory_is_kept(tokenizers, tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(InputError, match="exists"), new_export_directory(tmp_path / "old", tokenizers):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
