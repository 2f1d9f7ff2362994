"""The command line: python -m transformer_jax COMMAND [options], installed also as transformer-jax."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

from transformer_jax import __version__
from transformer_jax.commands.cli import call_of, run
from transformer_jax.errors import InputError
from transformer_jax.runtime.malloc import restart_with_settings

COMMANDS = {
    "train": ("train", "Train a model, or resume a training, and score it on the test set."),
    "translate": ("translate", "Translate text from arguments, a file, a pipe or the terminal."),
    "align": ("align", "Align the words of sentence pairs by a model's cross-attention."),
    "ablate": ("ablate", "Measure how much each attention head matters."),
    "plot": ("plot", "Draw the attention heads of one layer as a figure for print."),
    "serve": ("serve", "Open a page in the browser to try a model."),
    "import": ("import_model", "Make a run directory from a MarianMT model, such as those of OPUS-MT."),
    "export": ("export_model", "Write a model for CTranslate2 or as StableHLO."),
}
"""Command -> its file in transformer_jax/commands, and the line that describes it."""


def main() -> int:
    """Run the command that the arguments name. Return the exit status."""
    if sys.argv[1:2] == ["train"]:
        restart_with_settings()
    return run(dispatch)


def dispatch(arguments: list[str]) -> None:
    """Call the command that the first argument names.

    Raises InputError for an unknown one.
    """
    name, *rest = arguments or [""]
    if name in ("-h", "--help"):
        print(first_screen())
    elif name == "--version":
        print(f"transformer_jax {__version__}")
    elif name in COMMANDS:
        import_module(f"transformer_jax.commands.{COMMANDS[name][0]}").main(rest)
    else:
        nearest = difflib.get_close_matches(name, COMMANDS)
        remedy = f"Did you mean {nearest[0]}?" if nearest else f"Choose one of {', '.join(COMMANDS)}."
        raise InputError(f"{f'there is no command {name}' if name else 'no command is given'}. {remedy}")


def first_screen() -> str:
    """Return the list of all commands."""
    program = call_of("COMMAND")
    lines = [f"  {name:<10} {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        [f"usage: {program} [options]", "", *lines, "", f"{program} --help shows the options of a command."]
    )


if __name__ == "__main__":
    sys.exit(main())
