"""Ending a run on request: after SIGTERM or SIGINT the loop finishes its step and saves; a second signal ends at once.

The processes of a distributed run agree on the step through JAX's preemption service, which takes SIGTERM for itself.
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

NOTICE = b"\nstopping after this step, then saving; another signal ends at once\n"


class PreemptionHandler:
    """The signals that come while this is entered.

    noted: the first one; signal: the one that stops the run; 0 as long as there is none.
    """

    def __init__(self) -> None:
        self.noted = self.signal = 0
        self.several = jax.process_count() > 1
        self.asked = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> PreemptionHandler:
        if threading.current_thread() is threading.main_thread():  # Python lets no other set handlers.
            numbers = [signal.SIGINT] if self.several else [signal.SIGINT, signal.SIGTERM]
            self.before = {number: signal.signal(number, self._note) for number in numbers}
            # With several, JAX's own handler stays meanwhile; afterwards it would only swallow the signal.
            self.before.setdefault(signal.SIGTERM, signal.SIG_DFL)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        """Whether to stop now: the same answer on every process. To be asked after each step, as often on each.

        JAX agrees on a number that no process has passed, so the questions of this run are counted, from 0.
        """
        if not self.several:
            self.signal = self.noted
        elif not self.signal and reached_preemption_sync_point(self.asked):
            self.signal = self.noted = self.noted or signal.SIGTERM
            signal.signal(signal.SIGTERM, self._note)
        self.asked += 1
        return bool(self.signal)

    @property
    def name(self) -> str:
        """Of the signal that came."""
        return signal.Signals(self.signal or self.noted).name

    def at_once(self) -> bool:
        """Whether to give up what can be done again. Several processes never do: they would part."""
        return bool(self.noted) and not self.several

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.noted:
            os._exit(128 + number)
        self.noted = number
        with suppress(OSError):  # Of `2>&1 | tee`, which Ctrl-C has ended, too.
            os.write(2, NOTICE)  # Not print: the signal may have come in the middle of one.
        if self.several:
            os.kill(os.getpid(), signal.SIGTERM)
