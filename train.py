"""Train a Transformer: python train.py [--config configs/NAME.py] [--workdir DIR] [--SECTION.FIELD VALUE ...]."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from transformer_jax.allocator import restart_with_settings
from transformer_jax.command import run
from transformer_jax.recipes import train_command


def main(arguments: list[str]) -> None:
    """Train, score and save one run; or say what it would take."""
    command = train_command(arguments)
    if command.dry_run:
        from transformer_jax.dry_run import dry_run

        dry_run(command.settings)
        return
    from transformer_jax.fit import fit
    from transformer_jax.peers import together

    with together() if command.distributed else nullcontext():
        fit(command.settings, command.workdir, command.profile, command.debug_nans, command.config)


if __name__ == "__main__":
    restart_with_settings()
    sys.exit(run(main))
