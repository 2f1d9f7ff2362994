"""python -m transformer_jax.attention: the first argument names the command."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from transformer_jax.attention.__main__ import COMMANDS, main
from transformer_jax.commands.cli import run

ROOT = Path(__file__).parent.parent.parent
PREFIX = "python -m transformer_jax.attention "
DOCUMENTED = [
    shlex.split(line.removeprefix(PREFIX), comments=True)
    for file in ("README.md", "docs/attention.md")
    for line in (ROOT / file).read_text(encoding="utf-8").replace("\\\n", " ").split("\n")
    if line.startswith(PREFIX)
]


@pytest.mark.parametrize("arguments", DOCUMENTED, ids=" ".join)
def test_a_documented_command_can_be_given(arguments, monkeypatch):
    commands = []
    for place in ("attention.figures.plot", "commands.align.align", "commands.ablate.ablate"):
        monkeypatch.setattr(f"transformer_jax.{place}", commands.append)
    main(arguments)
    assert len(commands) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no command is given. Name one of plot, "),
        (["plto"], "there is no command plto. Did you mean plot?"),
        (["zzz"], "there is no command zzz. Name one of plot, "),
        (["plot"], "python -m transformer_jax.attention plot --help"),
        (["plot", "a.npz", "--output", "a.pdf", "--laier", "1"], "Did you mean --layer?"),
        (["plot", "a.npz", "--output", "a.pdf", "--kind", "self"], "--kind"),
    ],
)
def test_wrong_use_is_one_line(arguments, message, capsys):
    assert run(main, arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.count("\n") == 1
    assert message in written.err


def test_help_names_every_command(capsys):
    assert run(main, ["--help"]) == 0
    shown = capsys.readouterr().out
    for name, function in COMMANDS.items():
        assert f"  {name:<8} {function.__doc__}" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(name, capsys):
    with pytest.raises(SystemExit) as end:
        run(main, [name, "--help"])
    assert end.value.code == 0
    assert f"usage: python -m transformer_jax.attention {name}" in capsys.readouterr().out


def test_plotting_needs_no_jax():
    code = (
        "import sys; sys.argv[1:] = ['plot', 'none.npz', '--output', 'a.pdf']\n"
        "from transformer_jax.attention.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except Exception as error: assert 'no such file' in str(error), error\n"
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
