"""The end of a command: one error line, the exit status, and a traceback only on request."""

import os
from pathlib import Path

import pytest

from transformer_jax.commands.cli import command_prefix, parse_arguments, run_command
from transformer_jax.commands.translate import TranslateCommand
from transformer_jax.errors import InputError, RunError, StoppedBySignal
from transformer_jax.runtime import distributed

ROOT = Path(__file__).parent.parent.parent


def raising(error):
    """Return a command that raises the error."""

    def main(arguments):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("a. b."), 2),
        (RunError("a. b."), 1),
        (OSError(28, "No space left"), 1),
        (KeyboardInterrupt(), 130),
        (StoppedBySignal("a. b.", 15), 143),
    ],
)
def test_error_is_one_line_and_a_status(error, status, capsys):
    assert run_command(raising(error), []) == status
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert "Traceback" not in output.err


def test_debug_shows_the_traceback(capsys):
    assert run_command(raising(InputError("a. b.")), ["--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_unexpected_error_shows_the_traceback(capsys):
    assert run_command(raising(ZeroDivisionError()), []) == 1
    assert "Traceback" in capsys.readouterr().err


def test_distributed_process_exits_after_its_error_line(monkeypatch, capsys):
    exits = []
    monkeypatch.setattr(
        distributed, "exit_after_failure", lambda *status: exits.append((*status, capsys.readouterr().err))
    )
    run_command(raising(InputError("a. b.")), ["--distributed"])
    assert exits == [(2, "a. b.", "error: a. b.\n")]
    run_command(raising(StoppedBySignal("a. b.", 15)), ["--distributed"])
    assert len(exits) == 1, "a signal stops all processes"


def test_compilation_cache_can_be_overridden(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    run_command(lambda arguments: None, [])
    assert os.environ["JAX_COMPILATION_CACHE_DIR"].endswith(".cache/transformer_jax/compiled")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    run_command(lambda arguments: None, [])
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"


def test_compilation_cache_is_optional(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # There is no home directory.
    assert run_command(lambda arguments: None, []) == 0
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ


def test_variables_set_to_nothing_are_removed(monkeypatch):
    names = ["HOME", "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_ENABLE_X64", "HF_HOME", "MPLCONFIGDIR"]
    for name in [*names, "CUDA_VISIBLE_DEVICES"]:
        monkeypatch.setenv(name, "")
    assert run_command(lambda arguments: None, []) == 0
    assert not set(names) & set(os.environ)
    assert "CUDA_VISIBLE_DEVICES" in os.environ, "set to nothing, it hides all GPUs"


def test_home_is_expanded_in_paths_but_not_in_text(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    command = parse_arguments(TranslateCommand(), ["~/text", "--input=~/in", "--output", "~/out"], "translate")
    assert (command.text, command.input, command.output) == (("~/text",), Path("/home/me/in"), Path("/home/me/out"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beem", "3"], "--beam"),
        (["--beam", "x"], "--beam"),
        (["--n-best"], "--n-best"),
    ],
)
def test_wrong_argument_is_one_line_that_names_the_option(arguments, message):
    with pytest.raises(InputError) as caught:
        parse_arguments(TranslateCommand(), arguments, "python translate.py")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("See python translate.py --help.")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("{root}/train.py", "python {root}/translate.py"),
        ("{root}/translate.py", "python {root}/translate.py"),
        ("/venv/bin/transformer-jax", "transformer-jax translate"),
        ("/venv/transformer_jax/__main__.py", "python -m transformer_jax translate"),
        ("/elsewhere/train.py", "python -m transformer_jax translate"),
    ],
)
def test_command_prefix_matches_the_start_of_this_process(script, expected, monkeypatch):
    monkeypatch.setattr("sys.argv", [script.format(root=ROOT)])
    assert command_prefix("translate") == expected.format(root=ROOT)
    assert command_prefix("align") == (
        "transformer-jax align" if "bin" in script else "python -m transformer_jax align"
    )
