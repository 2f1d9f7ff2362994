"""The ways in which a command ends early: each message names the place, the problem and the remedy, in one line."""

from __future__ import annotations


class InputError(Exception):
    """Wrong use or bad input; the command ends with status 2."""


class RunError(Exception):
    """The command was right but could not be carried out; it ends with status 1."""


class StoppedBySignal(Exception):
    """A signal ended the command, after its work was saved; it ends with status 128 + signal, as shells have it."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.status = 128 + signal
