"""The command `serve`: a page to try a model."""

from __future__ import annotations

import logging
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.commands.newest_run import newest_run
from transformer_jax.errors import InputError, StoppedBySignal


@dataclass(frozen=True)
class ServeCommand:
    """Open a page to try a model that train.py has trained; Ctrl-C ends it."""

    workdir: Path | None = None
    """The run folder; the newest finished run under runs/ unless given."""
    beam: int | None = None
    """Hypotheses kept a sentence, each of which is shown; the run's own setting unless given."""
    host: str = "127.0.0.1"
    """The address to listen at, by default for this machine alone; 0.0.0.0 is for everybody who can reach it."""
    port: int = 8000
    """The port to listen at; 0 takes one that is free."""
    debug: bool = False
    """Show the traceback of an error."""


def serve(command: ServeCommand) -> None:
    """Answer until a signal comes. Raises InputError for wrong use, before anything is answered."""
    from transformer_jax.decoding.translator import Translator

    try:
        from transformer_jax.serve.site import Site, make_server
    except ModuleNotFoundError as error:
        raise InputError(f"the page needs {error.name}. Run: pip install starlette uvicorn") from error

    with listen(command.host, command.port) as listening:
        site = Site(Translator.load(command.workdir or newest_run(doing="serving")), command.beam)
        # A beam that cannot be and a model that has diverged are found now, and the compiler does not keep the first
        # visitor waiting.
        site.translate_all([["1"]])
        host, port = listening.getsockname()[:2]
        logging.info(f"open http://{f'[{host}]' if ':' in host else host}:{port}/    Ctrl-C ends it")
        # After a signal has been heeded, uvicorn raises it again; a shell's `&` lets SIGINT be ignored.
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with site:
            make_server(site).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket at which others can already call. Raises InputError if the address cannot be had."""
    if not 0 <= port < 2**16:
        raise InputError(f"{port} is no port. Name a --port from 0 to 65535.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python adds the address, which is named already.
        raise InputError(f"{host}:{port} cannot be listened at: {reason}. Name another --port or --host.") from error


def _stop(number: int, frame: FrameType | None) -> None:
    raise StoppedBySignal(f"ended by {signal.Signals(number).name}", number)


def main(arguments: list[str]) -> None:
    """Serve as the arguments say."""
    serve(parse_arguments(ServeCommand(), arguments, command_prefix("serve")))
