"""Translate text: python translate.py [TEXT ...] [--workdir DIR] [options]."""

from __future__ import annotations

import sys

from transformer_jax.commands.cli import run_command
from transformer_jax.commands.translate import main

if __name__ == "__main__":
    sys.exit(run_command(main))
