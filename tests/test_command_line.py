"""The command line python -m transformer_jax, whose first argument names the command."""

import subprocess
import sys

import pytest
from documented import ROOT

import transformer_jax
from transformer_jax.__main__ import COMMANDS, dispatch
from transformer_jax.commands.cli import run_command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command given. Choose one of train, "),
        (["plto"], "unknown command plto. Did you mean plot?"),
        (["zzz"], "unknown command zzz. Choose one of train, "),
        (["plot"], "python -m transformer_jax plot --help"),
        (["plot", "a.npz", "--output", "a.pdf", "--laier", "1"], "Did you mean --layer?"),
        (["plot", "a.npz", "--output", "a.pdf", "--kind", "self"], "--kind"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert run_command(dispatch, arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert message in output.err


def test_help_lists_every_command(capsys):
    assert run_command(dispatch, ["--help"]) == 0
    output = capsys.readouterr().out
    for name, (_, description) in COMMANDS.items():
        assert f"  {name:<10} {description}\n" in output


def test_version_is_that_of_the_package(capsys):
    assert run_command(dispatch, ["--version"]) == 0
    assert capsys.readouterr().out == f"transformer_jax {transformer_jax.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_page(name, capsys):
    with pytest.raises(SystemExit) as end:
        run_command(dispatch, [name, "--help"])
    assert end.value.code == 0
    assert f"usage: python -m transformer_jax {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
)
def test_help_does_not_import_jax(arguments):
    code = (
        "import sys\n"
        "from transformer_jax.__main__ import dispatch\n"
        f"try: dispatch({arguments!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def test_plotting_does_not_import_jax():
    code = (
        "import sys\n"
        "from transformer_jax.__main__ import dispatch\n"
        "try: dispatch(['plot', 'none.npz', '--output', 'a.pdf'])\n"
        "except Exception as error: assert 'does not exist' in str(error), error\n"
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
