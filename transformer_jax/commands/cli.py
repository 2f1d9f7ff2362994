"""Argument parsing, error reports and exit statuses of all commands."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from transformer_jax.errors import InputError, RunError, StoppedBySignal
from transformer_jax.storage.caches import cache_directory
from transformer_jax.storage.home import expand_home
from transformer_jax.terminal import EscapingFormatter, quote, show

Command = TypeVar("Command")

VARIABLE_PREFIXES = ("HOME", "XDG_", "JAX_", "XLA_", "HF_", "TFDS_", "MPL", "MALLOC_", "GLIBC_", "TRANSFORMER_JAX_")
"""Start of the names of the environment variables that this package and its libraries read."""
NOISY_LIBRARIES = (
    *("absl", "asyncio", "jax", "orbax", "grain", "datasets", "huggingface_hub", "httpx", "matplotlib"),
    *("tensorflow_datasets", "fontTools", "urllib3", "httpx2", "fsspec", "gcsfs", "s3fs", "aiobotocore", "botocore"),
    "google",
)
"""Libraries whose log messages are hidden. Commands report their failures as one line."""


def run_command(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    The status is 0 for success, 1 for a failure, 2 for invalid arguments or input, and 128 + N for signal N. An error
    is printed to standard error as one line, with a traceback if --debug is given or the error is unexpected.

    main: the function to call with the arguments.
    arguments: the command-line arguments. Default: the arguments of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.stdout = sys.stdout or io.StringIO()  # None if the shell closed it.
    logging.basicConfig(format="%(message)s", stream=sys.stderr, level=logging.INFO, force=True)
    if sys.stderr is not None and sys.stderr.isatty():
        logging.root.handlers[0].setFormatter(EscapingFormatter("%(message)s"))
    for library in NOISY_LIBRARIES:
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if "--debug" not in arguments:
        sys.unraisablehook = _report_main_thread_only
    drop_empty_variables()
    try:
        use_compilation_cache()
        main(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, for example `head`, has closed the pipe. This is not an error.
        _redirect_stdout_to_null()
    except StoppedBySignal as stopped:
        show(str(stopped), sys.stderr)
        return stopped.status
    except (Exception, KeyboardInterrupt) as error:
        status = _report_error(error, arguments)
        try:
            sys.stdout.flush()
        except OSError:
            _redirect_stdout_to_null()
        if "--distributed" in arguments:
            from transformer_jax.runtime.distributed import exit_after_failure

            exit_after_failure(status, str(error).partition("\n")[0] or type(error).__name__)
        return status
    return 0


def _report_main_thread_only(unraisable: Any) -> None:
    """Ignore unraisable exceptions of other threads.

    When a disk is full, tensorstore's threads raise hundreds of exceptions after the error has been reported.
    """
    if threading.current_thread() is threading.main_thread():
        sys.__unraisablehook__(unraisable)


def _redirect_stdout_to_null() -> None:
    """Redirect standard output to the null device.

    Otherwise Python flushes it again at exit, prints another error and changes the exit status.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_error(error: BaseException, arguments: list[str]) -> int:
    """Print the error that ended the command, and return the exit status."""
    is_expected = isinstance(error, (InputError, RunError, OSError, KeyboardInterrupt))
    if "--debug" in arguments or not is_expected:
        show("".join(traceback.format_exception(error)), sys.stderr, end="")
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    if is_expected:
        message = str(error).replace("\n", "\\n")  # A file name may contain a line feed.
        show(f"error: {message}", sys.stderr)
    return 2 if isinstance(error, InputError) else 1


def drop_empty_variables() -> None:
    """Remove environment variables that are set to nothing, so that every library treats them as not set."""
    for name in [name for name, value in os.environ.items() if not value and name.startswith(VARIABLE_PREFIXES)]:
        del os.environ[name]


def use_compilation_cache() -> None:
    """Let JAX cache compiled programs on disk, where possible. Call this before jax is imported."""
    directory = cache_directory("transformer_jax/compiled", "JAX_COMPILATION_CACHE_DIR")
    if directory is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    # JAX continues without a cache that cannot be written, but warns at each program.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")


def command_prefix(command: str) -> str:
    """Return the command line that starts a command, in the same form as this process was started.

    For example, return "python translate.py" for "translate" in a process that was started as ``python train.py``.
    """
    script = Path(sys.argv[0])
    if script.stem == "transformer-jax":
        return f"transformer-jax {command}"
    sibling = script.with_name(f"{command}.py")
    if script.name in ("train.py", "translate.py") and sibling.exists():
        return f"python {quote(sibling)}"
    return f"python -m transformer_jax {command}"


def parse_arguments(default: Command, arguments: list[str], program: str) -> Command:
    """Return a copy of ``default`` with the command-line arguments applied.

    ``--help`` prints every field with its type, default and description, and exits.

    default: the dataclass with the default values.
    program: the command line that starts the command, for messages.
    Raises InputError for an invalid value or an unknown option. The message suggests the most similar option.
    """
    import tyro  # Only here: it takes 0.2 s, and `train` restarts the process before it parses.

    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return expand_paths(tyro.cli(type(default), args=arguments, default=default, prog=program))
    except SystemExit as end:
        if end.code:
            raise InputError(f"{_message_in_box(printed.getvalue())} See {program} --help.") from None
        raise


def expand_paths(command: Command) -> Command:
    """Return a dataclass with ``~`` expanded in all fields that are paths. Raises InputError if the home is unknown."""

    def expanded(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(expanded, value))
        return expand_home(value) if isinstance(value, Path) else value

    fields: Any = dataclasses.fields(command)  # type: ignore[arg-type]
    return dataclasses.replace(command, **{field.name: expanded(getattr(command, field.name)) for field in fields})  # type: ignore[type-var]


def _message_in_box(box: str) -> str:
    """Return the message and the first suggestion of a framed tyro error as one line.

    The frame consists of ASCII characters if the terminal has no line-drawing characters.
    """
    lines = [line.strip(" │|") for line in box.splitlines()]
    rules = [
        index for index, line in enumerate(lines) if line[:1] in ("", *"─╭╰") or line[:2] == "+-" or set(line) == {"-"}
    ]
    message = " ".join(lines[rules[0] + 1 : rules[1]] if len(rules) > 1 else lines).rstrip(".") + "."
    suggestions = [after.split()[0] for before, after in itertools.pairwise(lines) if before == "Perhaps you meant:"]
    return f"{message} Did you mean {suggestions[0]}?" if suggestions else message
