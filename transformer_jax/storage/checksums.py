"""Checksums of a directory, which reveal files that were truncated, changed or lost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

CHECKSUMS_FILE = "checksums.json"
"""File in the directory that maps the relative path of each file to its SHA-256."""


def seal(directory: Path) -> None:
    """Write the checksums of all files in the directory."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    checksums = {path.relative_to(directory).as_posix(): _checksum(path) for path in paths}
    (directory / CHECKSUMS_FILE).write_text(json.dumps(checksums, indent=2) + "\n")


def find_damage(directory: Path, prefix: str = "") -> str | None:
    """Return a description of the first damage in a sealed directory, or None if there is none.

    prefix: check only the paths that start with it.
    """
    files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
    if CHECKSUMS_FILE not in files:
        return f"{CHECKSUMS_FILE} is missing"
    try:
        checksums = json.loads(files[CHECKSUMS_FILE].read_text())
    except (OSError, ValueError, RecursionError):
        return f"{CHECKSUMS_FILE} cannot be read"
    if not isinstance(checksums, dict):
        return f"{CHECKSUMS_FILE} cannot be read"
    for name, expected in checksums.items():
        if name.startswith(prefix):
            if name not in files:
                return f"{name} is missing"
            try:
                if _checksum(files[name]) != expected:
                    return f"{name} does not match its checksum"
            except OSError:  # The disk fails, or a running training has just removed the file.
                return f"{name} cannot be read"
    return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
