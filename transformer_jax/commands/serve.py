"""The ``serve`` command: a web page for trying a model."""

from __future__ import annotations

import logging
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from transformer_jax.commands.cli import command_prefix, parse_arguments
from transformer_jax.commands.newest_run import find_run
from transformer_jax.errors import InputError, StoppedBySignal


@dataclass(frozen=True)
class ServeCommand:
    """Serve a web page for trying a model, until Ctrl-C."""

    workdir: Path | None = None
    """The run directory, or hf://OWNER/NAME, gs:// or s3://. If omitted, the newest finished run in runs/ is used."""
    beam: int | None = None
    """Beam size, and number of translations shown per sentence. If omitted, the beam size of the run."""
    host: str = "127.0.0.1"
    """The address to listen on: 127.0.0.1 for this machine only, 0.0.0.0 for the network."""
    port: int = 8000
    """The port to listen on; 0 chooses a free port."""
    debug: bool = False
    """Show the traceback of an error."""


def serve(command: ServeCommand) -> None:
    """Answer requests until SIGINT or SIGTERM. Raises InputError for invalid options, before the first request."""
    from transformer_jax.decoding.translator import Translator

    try:
        from transformer_jax.serve.site import Site, make_server
    except ModuleNotFoundError as error:
        raise InputError(f"the page needs {error.name}. Run: pip install starlette uvicorn") from error

    with open_socket(command.host, command.port) as server_socket:
        site = Site(Translator.load(find_run(command.workdir, "serving")), command.beam)
        site.warm_up()
        host, port = server_socket.getsockname()[:2]
        logging.info(f"open http://{f'[{host}]' if ':' in host else host}:{port}/    Press Ctrl-C to stop.")
        # uvicorn raises a signal again after it has shut down. A shell's `&` would let the process ignore SIGINT.
        signal.signal(signal.SIGTERM, _raise_stopped)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with site:
            make_server(site).run(sockets=[server_socket])


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that accepts connections. Raises InputError if the address is not available."""
    if not 0 <= port < 2**16:
        raise InputError(f"--port {port} is invalid. Set --port to a number from 0 to 65535.")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]  # Python appends the address.
        raise InputError(f"cannot listen on {host}:{port}: {reason}. Choose another --port or --host.") from error


def _raise_stopped(number: int, frame: FrameType | None) -> None:
    raise StoppedBySignal(f"stopped by {signal.Signals(number).name}", number)


def main(arguments: list[str]) -> None:
    """Parse the arguments and call ``serve``."""
    serve(parse_arguments(ServeCommand(), arguments, command_prefix("serve")))
