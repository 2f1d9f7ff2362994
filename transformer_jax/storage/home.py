"""Paths that start with ``~``.

A shell expands ``~`` only at the start of an unquoted word, so paths such as ``--input=~/x`` arrive unexpanded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from transformer_jax.errors import InputError

AnyPath = TypeVar("AnyPath", str, Path)


def expand_home(path: AnyPath) -> AnyPath:
    """Return a path with ``~`` or ``~USER`` at its start replaced by the home directory, as a shell does.

    As in a shell, ``~USER`` remains unchanged if there is no such user. Raises InputError if the home directory of this
    user is not known.
    """
    text = str(path)
    if not text.startswith("~"):
        return path
    if not os.environ.get("HOME"):
        os.environ.pop("HOME", None)  # Python would expand ~ to nothing. Without HOME, it asks the user database.
    expanded = os.path.expanduser(text)
    if text.split("/")[0] == "~" and expanded == text:
        raise InputError(f"{text}: the home directory is not known. Set HOME, or write the complete path.")
    return type(path)(expanded)
