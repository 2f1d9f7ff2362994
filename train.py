"""Train a Transformer: python train.py [--config RECIPE] [--workdir DIR] [--SECTION.FIELD VALUE ...]."""

from __future__ import annotations

import sys

from transformer_jax.commands.cli import run
from transformer_jax.commands.train import main
from transformer_jax.runtime.malloc import restart_with_settings

if __name__ == "__main__":
    restart_with_settings()
    sys.exit(run(main))
