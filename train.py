"""Train a Transformer: python train.py [--config configs/NAME.py] [--workdir DIR] [--SECTION.FIELD VALUE ...]."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from transformer_jax.commands.cli import run
from transformer_jax.commands.train import train_command
from transformer_jax.runtime.malloc import restart_with_settings


def main(arguments: list[str]) -> None:
    """Train, score and save one run; or say what it would take."""
    command = train_command(arguments)
    if command.dry_run:
        from transformer_jax.commands.dry_run import dry_run

        dry_run(command.settings)
        return
    from transformer_jax.runtime.distributed import together
    from transformer_jax.training.loop import fit

    with together() if command.distributed else nullcontext():
        fit(command.settings, command.workdir, command.profile, command.debug_nans, command.config)


if __name__ == "__main__":
    restart_with_settings()
    sys.exit(run(main))
