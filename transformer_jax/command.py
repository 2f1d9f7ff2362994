"""What train.py and translate.py have in common: how they report, end, and use the machine."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from transformer_jax.errors import InputError, RunError

COMPILED = Path("~/.cache/transformer_jax/compiled").expanduser()
"""Compiled programs are kept here for the next start; JAX_COMPILATION_CACHE_DIR names another folder."""


def run(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> int:
    """Call a command; returns its exit status. A message is one line, unless --debug asks for the traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.WARNING)
    logging.getLogger().handlers[0].addFilter(lambda record: record.name == "root" or record.levelno >= logging.WARNING)
    logging.getLogger().setLevel(logging.INFO)
    for noisy in ("absl", "jax", "orbax", "grain", "datasets", "matplotlib", "tensorflow_datasets"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    try:
        main(arguments)
    except (InputError, RunError, OSError, KeyboardInterrupt, BrokenPipeError) as error:
        if "--debug" in arguments:
            traceback.print_exc()
        return _report(error)
    return 0


def _report(error: BaseException) -> int:
    if isinstance(error, BrokenPipeError):
        # The reader has gone, as `head` does: nothing is wrong, and nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, KeyboardInterrupt):
        print("interrupted: the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    print(f"error: {error}", file=sys.stderr)
    return 2 if isinstance(error, InputError) else 1
