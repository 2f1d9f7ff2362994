"""Train a Transformer: python train.py [--config configs/NAME.py] [--workdir DIR] [--SECTION.FIELD VALUE ...]."""

from __future__ import annotations

import sys

from transformer_jax.command import run
from transformer_jax.recipes import parse


def main(arguments: list[str]) -> None:
    """Train, score and save one run."""
    command = parse(arguments)
    from transformer_jax.fit import fit

    fit(command.settings, command.workdir)


if __name__ == "__main__":
    sys.exit(run(main))
