"""How commands end: one line, the right status, a traceback only on request."""

import os
from pathlib import Path

import pytest

from transformer_jax.commands.cli import command_prefix, parse_arguments, run_command
from transformer_jax.commands.translate import TranslateCommand
from transformer_jax.errors import InputError, RunError, StoppedBySignal
from transformer_jax.runtime import distributed

ROOT = Path(__file__).parent.parent.parent


def failing(error):
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
def test_an_error_is_one_line_and_a_status(error, status, capsys):
    assert run_command(failing(error), []) == status
    written = capsys.readouterr()
    assert written.out == ""
    assert len(written.err.splitlines()) == 1
    assert "Traceback" not in written.err


def test_debug_shows_the_traceback(capsys):
    assert run_command(failing(InputError("a. b.")), ["--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_unforeseen_error_is_not_hidden(capsys):
    assert run_command(failing(ZeroDivisionError()), []) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_process_of_several_leaves_after_its_message(monkeypatch, capsys):
    left = []
    monkeypatch.setattr(distributed, "exit_after_failure", lambda *how: left.append((*how, capsys.readouterr().err)))
    run_command(failing(InputError("a. b.")), ["--distributed"])
    assert left == [(2, "a. b.", "error: a. b.\n")]
    run_command(failing(StoppedBySignal("a. b.", 15)), ["--distributed"])
    assert len(left) == 1, "all have stopped"


def test_compiled_programs_are_kept_unless_another_folder_is_named(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    run_command(lambda arguments: None, [])
    assert os.environ["JAX_COMPILATION_CACHE_DIR"].endswith(".cache/transformer_jax/compiled")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    run_command(lambda arguments: None, [])
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beem", "3"], "--beam"),
        (["--beam", "x"], "--beam"),
        (["--n-best"], "--n-best"),
    ],
)
def test_wrong_arguments_are_one_line_that_names_the_option(arguments, message):
    with pytest.raises(InputError) as caught:
        parse_arguments(TranslateCommand(), arguments, "python translate.py")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("See python translate.py --help.")


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("{root}/train.py", "python {root}/translate.py"),
        ("{root}/translate.py", "python {root}/translate.py"),
        ("/venv/bin/transformer-jax", "transformer-jax translate"),
        ("/venv/transformer_jax/__main__.py", "python -m transformer_jax translate"),
        ("/elsewhere/train.py", "python -m transformer_jax translate"),
    ],
)
def test_a_command_is_called_as_this_process_was(called, expected, monkeypatch):
    monkeypatch.setattr("sys.argv", [called.format(root=ROOT)])
    assert command_prefix("translate") == expected.format(root=ROOT)
    assert command_prefix("align") == (
        "transformer-jax align" if "bin" in called else "python -m transformer_jax align"
    )
