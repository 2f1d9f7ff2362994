"""Figures, word alignment, the worth of heads: python -m transformer_jax.attention plot | align | ablate [options]."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable

from transformer_jax.commands.cli import parse, run
from transformer_jax.errors import InputError

PROGRAM = "-m transformer_jax.attention"


def plot(arguments: list[str]) -> None:
    """One layer's heads as a figure for print."""
    from transformer_jax.attention.figures import PlotCommand, plot

    plot(parse(PlotCommand(), arguments, f"{PROGRAM} plot"))


def align(arguments: list[str]) -> None:
    """Which source word each target word came from, and how good the alignments are."""
    from transformer_jax.commands.align import AlignCommand, align

    align(parse(AlignCommand(), arguments, f"{PROGRAM} align"))


def ablate(arguments: list[str]) -> None:
    """What masking each head does to the loss and to sacreBLEU."""
    from transformer_jax.commands.ablate import AblateCommand, ablate

    ablate(parse(AblateCommand(), arguments, f"{PROGRAM} ablate"))


COMMANDS: dict[str, Callable[[list[str]], None]] = {"plot": plot, "align": align, "ablate": ablate}


def main(arguments: list[str]) -> None:
    """Call the command that the first argument names."""
    name, *rest = arguments or [""]
    if name in ("-h", "--help"):
        print(f"usage: python {PROGRAM} COMMAND [options]\n")
        for command, function in COMMANDS.items():
            print(f"  {command:<8} {function.__doc__}")
        print(f"\npython {PROGRAM} COMMAND --help shows the options.")
        return
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS)
        hint = f"Did you mean {near[0]}?" if near else f"Name one of {', '.join(COMMANDS)}."
        raise InputError(f"{f'there is no command {name}' if name else 'no command is given'}. {hint}")
    COMMANDS[name](rest)


if __name__ == "__main__":
    sys.exit(run(main))
