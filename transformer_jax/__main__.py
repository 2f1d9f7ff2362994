"""The command line: python -m transformer_jax COMMAND [options], also installed as transformer-jax."""

from __future__ import annotations

import difflib
import sys
from importlib import import_module

from transformer_jax import __version__
from transformer_jax.commands.cli import command_prefix, run_command
from transformer_jax.errors import InputError
from transformer_jax.runtime.malloc import restart_with_tuned_malloc

COMMANDS = {
    "train": ("train", "Train a model, or resume its training, and score it on the test set."),
    "translate": ("translate", "Translate text from arguments, a file, a pipe or the terminal."),
    "compare": ("compare", "Compare finished runs: settings, scores with p-values, and translations."),
    "align": ("align", "Align the words of sentence pairs with a model's cross-attention."),
    "ablate": ("ablate", "Measure how much each attention head contributes."),
    "plot": ("plot", "Draw the attention heads of one layer as a figure for a paper."),
    "serve": ("serve", "Serve a web page for trying a model."),
    "import": ("import_model", "Make a run directory from a MarianMT model, such as an OPUS-MT model."),
    "export": ("export_model", "Convert a model to CTranslate2 or StableHLO."),
    "push": ("push", "Publish a finished run on the Hugging Face hub."),
}
"""Command name -> (module in ``transformer_jax.commands``, description)."""


def main() -> int:
    """Run the command named by the arguments and return its exit status."""
    if sys.argv[1:2] == ["train"]:
        restart_with_tuned_malloc()
    return run_command(dispatch)


def dispatch(arguments: list[str]) -> None:
    """Call the command named by the first argument. Raises InputError for an unknown command."""
    name, *rest = arguments or [""]
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"transformer_jax {__version__}")
    elif name in COMMANDS:
        import_module(f"transformer_jax.commands.{COMMANDS[name][0]}").main(rest)
    else:
        suggestions = difflib.get_close_matches(name, COMMANDS)
        remedy = f"Did you mean {suggestions[0]}?" if suggestions else f"Choose one of {', '.join(COMMANDS)}."
        problem = f"unknown command {name}" if name else "no command given"
        raise InputError(f"{problem}. {remedy}")


def overview() -> str:
    """Return the usage and the list of all commands."""
    program = command_prefix("COMMAND")
    lines = [f"  {name:<10} {description}" for name, (_, description) in COMMANDS.items()]
    return "\n".join(
        [f"usage: {program} [options]", "", *lines, "", f"{program} --help shows the options of a command."]
    )


if __name__ == "__main__":
    sys.exit(main())
