"""Handling of SIGTERM and SIGINT: the first signal stops the run after its current step, the second exits immediately.

The processes of a distributed run agree on the step through JAX's preemption service, which handles SIGTERM itself.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

import jax
from jax.experimental.multihost_utils import reached_preemption_sync_point

STOP_NOTICE = b"\nstopping after this step, then saving (another signal exits immediately)\n"


class PreemptionHandler:
    """Signal handlers that are installed within a ``with`` block.

    received: number of the first signal that this process received; 0 if none.
    stop_signal: number of the signal that stops the run; 0 if none.
    """

    def __init__(self) -> None:
        self.received = self.stop_signal = 0
        self.is_multiprocess = jax.process_count() > 1
        self.polls = 0
        self.previous_handlers: dict[int, Any] = {}

    def __enter__(self) -> PreemptionHandler:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only in the main thread.
            numbers = [signal.SIGINT] if self.is_multiprocess else [signal.SIGINT, signal.SIGTERM]
            self.previous_handlers = {number: signal.signal(number, self._receive) for number in numbers}
            # JAX handles SIGTERM in a distributed run. After the block, its handler would only ignore the signal.
            self.previous_handlers.setdefault(signal.SIGTERM, signal.SIG_DFL)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)

    def should_stop(self) -> bool:
        """Return whether to stop now. All processes must call it equally often, and get the same result.

        JAX selects a step that no process has passed yet. The step is the zero-based index of the call.
        """
        if not self.is_multiprocess:
            self.stop_signal = self.received
        elif not self.stop_signal and reached_preemption_sync_point(self.polls):
            self.stop_signal = self.received = self.received or signal.SIGTERM
            signal.signal(signal.SIGTERM, self._receive)
        self.polls += 1
        return bool(self.stop_signal)

    @property
    def signal_name(self) -> str:
        """Name of the received signal, such as "SIGTERM"."""
        return signal.Signals(self.stop_signal or self.received).name

    def should_abort(self) -> bool:
        """Return whether to abort work that can be repeated, such as a validation.

        Always False in a distributed run, whose processes would fall out of sync.
        """
        return bool(self.received) and not self.is_multiprocess

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            os._exit(128 + number)
        self.received = number
        with suppress(OSError):  # With `2>&1 | tee`, Ctrl-C has also ended the reader.
            os.write(2, STOP_NOTICE)  # Unlike print, it is safe if the signal interrupts another print.
        if self.is_multiprocess:
            os.kill(os.getpid(), signal.SIGTERM)
