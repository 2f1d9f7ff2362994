"""Delivery of Ctrl-C that arrives inside a callback."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def redeliver_interrupts() -> Iterator[None]:
    """Raise a KeyboardInterrupt again in the main thread if Python ignored it inside a callback.

    Python reports exceptions in such callbacks, for example in JAX's garbage-collector hook, and continues.
    """
    original_hook = sys.unraisablehook

    def redeliver(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(0.01, _thread.interrupt_main).start()
        else:
            original_hook(unraisable)

    sys.unraisablehook = redeliver
    try:
        yield
    finally:
        sys.unraisablehook = original_hook
