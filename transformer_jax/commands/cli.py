"""What all commands share: how they parse arguments, report errors and exit."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import tyro

from transformer_jax.errors import InputError, RunError, Stopped

Command = TypeVar("Command")

COMPILED = Path("~/.cache/transformer_jax/compiled").expanduser()
"""Compiled programs are kept here for the next start; JAX_COMPILATION_CACHE_DIR names another folder."""


CHATTY = (
    *("absl", "asyncio", "jax", "orbax", "grain", "datasets", "huggingface_hub", "httpx", "matplotlib"),
    *("tensorflow_datasets", "fontTools", "urllib3"),
)
"""Libraries that are not heard: what goes wrong comes to the user as our own line."""


def run(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> int:
    """Call a command; returns its exit status: 2 for wrong use or bad input, 1 for a failure, 128 + N for signal N.

    A message is one line on standard error, unless --debug asks for the traceback, or the error is a fault of ours.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.stdout = sys.stdout or io.StringIO()  # None where a shell has closed it.
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.INFO, force=True)
    for library in CHATTY:
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if "--debug" not in arguments:
        sys.unraisablehook = _only_of_main_thread
    keep_compiled_programs()
    try:
        main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone, as `head` does: nothing is wrong, and nobody is left to tell.
        _discard_output()
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.status
    except (Exception, KeyboardInterrupt) as error:
        status = _report(error, arguments)
        try:
            sys.stdout.flush()
        except OSError:
            _discard_output()
        if "--distributed" in arguments:
            from transformer_jax.runtime.distributed import leave

            leave(status, str(error).partition("\n")[0] or type(error).__name__)
        return status
    return 0


def _only_of_main_thread(unraisable: Any) -> None:
    """Not what tensorstore's threads say, hundreds of times, when a disk is full and nobody waits for them any more."""
    if threading.current_thread() is threading.main_thread():
        sys.__unraisablehook__(unraisable)


def _discard_output() -> None:
    """Else Python would try at its end to write what cannot be written, complain of that, and change the status."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: BaseException, arguments: list[str]) -> int:
    """Say what has ended the command; returns the exit status."""
    foreseen = isinstance(error, (InputError, RunError, OSError, KeyboardInterrupt))
    if "--debug" in arguments or not foreseen:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    if foreseen:
        print(f"error: {error}", file=sys.stderr, flush=True)
    return 2 if isinstance(error, InputError) else 1


def keep_compiled_programs() -> None:
    """Let JAX keep compiled programs on disk; to be called before it is imported."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")


def call_of(command: str) -> str:
    """Return how to call a command the way this process was called: "python translate.py" from train.py."""
    script = Path(sys.argv[0])
    if script.stem == "transformer-jax":
        return f"transformer-jax {command}"
    sibling = script.with_name(f"{command}.py")
    if script.name in ("train.py", "translate.py") and sibling.exists():
        return f"python {sibling}"
    return f"python -m transformer_jax {command}"


def parse(default: Command, arguments: list[str], program: str) -> Command:
    """Let the arguments change the fields of a dataclass.

    Raises InputError with one line for an unknown field (and names the nearest known one) or a wrong value. ``--help``
    prints every field with its type, its value and a sentence, and ends the program.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(type(default), args=arguments, default=default, prog=program)
    except SystemExit as end:
        if end.code:
            raise InputError(f"{_one_line(printed.getvalue())} See {program} --help.") from None
        raise


def _one_line(box: str) -> str:
    """The message of tyro's framed error, and its first suggestion. The frame is of other characters where the terminal
    has no lines to draw.
    """
    lines = [line.strip(" │|") for line in box.splitlines()]
    rules = [
        index for index, line in enumerate(lines) if line[:1] in ("", *"─╭╰") or line[:2] == "+-" or set(line) == {"-"}
    ]
    message = " ".join(lines[rules[0] + 1 : rules[1]] if len(rules) > 1 else lines).rstrip(".") + "."
    nearest = [after.split()[0] for before, after in itertools.pairwise(lines) if before == "Perhaps you meant:"]
    return f"{message} Did you mean {nearest[0]}?" if nearest else message
