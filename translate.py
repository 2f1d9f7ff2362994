"""Translate raw text: python translate.py [TEXT ...] [--workdir DIR] [options]."""

from __future__ import annotations

import sys

from transformer_jax.commands.cli import parse, run
from transformer_jax.commands.translate import TranslateCommand, translate


def main(arguments: list[str]) -> None:
    """Translate arguments, a file, a pipe, or what is typed."""
    translate(parse(TranslateCommand(), arguments, "translate.py"))


if __name__ == "__main__":
    sys.exit(run(main))
