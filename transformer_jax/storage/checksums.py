"""A folder with checksums of all its files: what was cut short, changed or lost since is found out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

NAME = "checksums.json"
"""In the folder: path of each file, relative to it -> SHA-256."""


def seal(folder: Path) -> None:
    """Write the checksums of the files that are in the folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    sums = {path.relative_to(folder).as_posix(): _checksum(path) for path in paths}
    (folder / NAME).write_text(json.dumps(sums, indent=2) + "\n")


def find_damage(folder: Path, part: str = "") -> str | None:
    """What is wrong with a sealed folder, None if nothing is. part: look only at paths that begin with it."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    if NAME not in files:
        return f"{NAME} is missing"
    try:
        sums = json.loads(files[NAME].read_text())
    except (OSError, ValueError, RecursionError):
        return f"{NAME} cannot be read"
    if not isinstance(sums, dict):
        return f"{NAME} cannot be read"
    for name, expected in sums.items():
        if name.startswith(part):
            if name not in files:
                return f"{name} is missing"
            try:
                if _checksum(files[name]) != expected:
                    return f"{name} is not as it was written"
            except OSError:  # A disk that fails; or a run under way has removed it meanwhile.
                return f"{name} cannot be read"
    return None


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
