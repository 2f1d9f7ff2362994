"""Ctrl-C that is not lost inside a callback."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def redeliver_interrupts() -> Iterator[None]:
    """Deliver a KeyboardInterrupt again if it was raised inside a callback, such as JAX's garbage-collector hook.

    Python only reports exceptions raised there and continues.
    """
    before = sys.unraisablehook

    def redeliver(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(0.01, _thread.interrupt_main).start()
        else:
            before(unraisable)

    sys.unraisablehook = redeliver
    try:
        yield
    finally:
        sys.unraisablehook = before
