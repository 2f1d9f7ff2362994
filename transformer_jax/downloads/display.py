"""The progress of a download on standard error: a bar in a terminal, otherwise lines."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

MAX_SILENCE = 60.0
"""Seconds after which a line shows the position of a download, if there is no bar."""


class DownloadDisplay:
    """The progress of one download.

    position: number of bytes that are on disk.
    """

    def __init__(self, name: str, size: int | None, position: int = 0) -> None:
        """Show a bar if standard error is a terminal, otherwise a line.

        name: the URL, for messages.
        size: number of bytes of the complete download; None if it is not known.
        position: number of bytes that are on disk from an earlier start.
        """
        self._name, self._size, self.position = name, size, position
        has_bar = sys.stderr is not None and sys.stderr.isatty()
        self._bar = tqdm(
            total=size,
            initial=position,
            unit="B",
            unit_scale=True,
            desc=name.rpartition("/")[2],
            disable=not has_bar,
            file=sys.stderr or sys.stdout,
        )
        self._last_line = time.monotonic()
        if not has_bar:
            self._log_position("downloading")

    def advance(self, count: int) -> None:
        """Count bytes that were written."""
        self.position += count
        self._bar.update(count)
        if self._bar.disable and time.monotonic() - self._last_line > MAX_SILENCE:
            self._last_line = time.monotonic()
            self._log_position("still downloading")

    def _log_position(self, verb: str) -> None:
        total = "" if self._size is None else format_size(self._size)
        position = f"{format_size(self.position)} of {total or 'an unknown size'}" if self.position else total
        logging.info(f"{verb} {self._name}" + (f" ({position})" if position else ""))

    def close(self) -> None:
        """End the line of the bar."""
        self._bar.close()


def format_size(size: int) -> str:
    """Return a number of bytes with a unit.

    >>> [format_size(size) for size in (0, 999, 1_050_000, 12_000_000_000)]
    ['0 bytes', '999 bytes', '1.1 MB', '12.0 GB']
    """
    if size < 1000:
        return f"{size} bytes"
    for unit, divisor in (("kB", 10**3), ("MB", 10**6)):
        if size < 1000 * divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size / 10**9:.1f} GB"
