"""The progress of a run on standard error: a bar in a terminal, otherwise one line per report."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

import jax
from tqdm import tqdm

MAX_SILENCE = 60.0
"""Seconds after which a line shows the position of a run that has not reported since."""


class ProgressDisplay:
    """The progress of a run. Only process 0 shows it.

    step: number of completed updates.
    """

    def __init__(self, steps: int, step: int, batches_per_epoch: int) -> None:
        """Show a bar if standard error is a terminal.

        steps: number of updates at the end of the run.
        step: number of completed updates.
        """
        self.steps, self.step, self.batches_per_epoch = steps, step, batches_per_epoch
        # Jupyter shows standard error like an error message.
        is_notebook = type(sys.stderr).__module__.partition(".")[0] == "ipykernel"
        self.stream = sys.stdout if is_notebook else sys.stderr
        self.is_visible = jax.process_index() == 0 and self.stream is not None  # None if the shell closed it.
        has_bar = self.is_visible and not is_notebook and self.stream.isatty()
        self.bar = tqdm(
            total=steps, initial=step, unit="step", disable=not has_bar, mininterval=1, file=self.stream or sys.stdout
        )
        self.began = self.last_written = time.monotonic()
        self.first_step: int | None = None

    def write(self, line: str) -> None:
        """Write a line, above the bar if there is one. A reader that has closed the pipe is not an error."""
        self.last_written = time.monotonic()
        if self.is_visible:
            with suppress(OSError, ValueError):
                self.bar.write(line, file=self.stream)
                self.stream.flush()

    def announce_compilation(self, shapes: int) -> None:
        """Write that the first update compiles, since that may take minutes.

        shapes: number of batch shapes. The first batch of each compiles.
        """
        self.began = time.monotonic()
        self.write(f"compiling the training step ({shapes} batch shape{'s' if shapes > 1 else ''}) ...")

    def advance(self) -> None:
        """Count an update. Write a line after the first one, and if there was none for ``MAX_SILENCE``."""
        self.step += 1
        self.bar.update()
        if self.first_step is None:
            self.write(f"compiled in {time.monotonic() - self.began:.0f} s")
            # The time left is estimated from the updates after the first, which compiles.
            self.first_step, self.began = self.step, time.monotonic()
        elif self.bar.disable and time.monotonic() - self.last_written > MAX_SILENCE:
            self.write(", ".join([self._position(), *self._time_left()]))

    def report(self, values: Mapping[str, float], note: str = "") -> None:
        """Show the metrics since the last report: behind the bar, or as a line.

        values: the metrics of ``MetricAccumulator.report``, and the learning rate.
        note: something else that the reader should know.
        """
        loss, speed = values.get("loss", math.nan), values["tokens_per_second"]
        skipped = values["skipped"] + values.get("overflows", 0)
        if not self.bar.disable:
            self.bar.set_postfix_str(", ".join([f"loss {loss:.3f}", f"{speed:.0f} tokens/s", *filter(None, [note])]))
            return
        parts = [
            self._position(),
            f"loss {loss:.3f}",
            f"perplexity {values.get('perplexity', math.nan):.2f}",
            f"learning rate {values['learning_rate']:.3g}",
            f"{speed:.0f} tokens/s",
            *([f"{skipped:.0f} updates skipped"] if skipped else []),
            *self._time_left(),
            *filter(None, [note]),
        ]
        self.write(", ".join(parts))

    def _position(self) -> str:
        return f"step {self.step} of {self.steps}, epoch {self.step / self.batches_per_epoch:.2f}"

    def _time_left(self) -> list[str]:
        """Return the time left, including validations, or nothing before the second update."""
        updates = self.step - (self.first_step or self.step)
        if not updates:
            return []
        seconds_per_update = (time.monotonic() - self.began) / updates
        return [f"{format_duration(seconds_per_update * (self.steps - self.step))} left"]

    def close(self) -> None:
        """Remove the bar from the list of bars, and end its line."""
        self.bar.close()


def format_duration(seconds: float) -> str:
    """Return a duration in seconds, minutes or hours, whichever gives one to three digits.

    >>> [format_duration(seconds) for seconds in (8, 119, 7199, 36000)]
    ['8 s', '119 s', '120 min', '10 h']
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
