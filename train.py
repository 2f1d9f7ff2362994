"""Train a Transformer: python train.py [--config configs/NAME.py] [--workdir DIR] [--SECTION.FIELD VALUE ...]."""

from __future__ import annotations

import sys

from transformer_jax.command import run
from transformer_jax.recipes import train_command


def main(arguments: list[str]) -> None:
    """Train, score and save one run."""
    command = train_command(arguments)
    if command.distributed:
        import jax

        jax.distributed.initialize()
    from transformer_jax.fit import fit  # After the other processes are found: importing must not touch the devices.

    fit(command.settings, command.workdir)


if __name__ == "__main__":
    sys.exit(run(main))
