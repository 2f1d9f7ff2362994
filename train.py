"""Train a Transformer: python train.py [--config RECIPE] [--workdir DIR] [--SECTION.FIELD VALUE ...]."""

from __future__ import annotations

import sys

from transformer_jax.runtime.malloc import restart_with_tuned_malloc

if __name__ == "__main__":
    restart_with_tuned_malloc()
    # Imported after the restart, so that they are imported only once.
    from transformer_jax.commands.cli import run_command
    from transformer_jax.commands.train import main

    sys.exit(run_command(main))
