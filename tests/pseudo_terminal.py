"""A terminal whose content tests can read."""

import os
from contextlib import contextmanager, suppress


@contextmanager
def pseudo_terminal():
    """Open a terminal. Yield a stream to write to it, and a function that closes it and returns what it received."""
    master, slave = os.openpty()
    with os.fdopen(master, "rb", buffering=0) as reader, os.fdopen(slave, "w", encoding="utf-8") as stream:

        def received():
            stream.close()
            content = b""
            with suppress(OSError):  # Linux reports the end as an error.
                while part := reader.read(2**16):
                    content += part
            return content.decode().replace("\r\n", "\n")

        yield stream, received
