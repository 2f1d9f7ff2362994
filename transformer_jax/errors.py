"""Exceptions that end a command. Each message is one line that names the place, the problem and the remedy."""

from __future__ import annotations


class InputError(Exception):
    """Wrong usage or invalid input. The exit status is 2."""


class RunError(Exception):
    """A failure of a valid command. The exit status is 1."""


class StoppedBySignal(Exception):
    """A stop by a signal, after all work was saved. The exit status is 128 + signal, as in shells."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.status = 128 + signal
