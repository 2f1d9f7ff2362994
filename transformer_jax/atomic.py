"""Files that are whole or not there, whenever the process is killed."""

from __future__ import annotations

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file under another name first; it takes its own, and the place of an earlier one, when it is whole."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # Before the name: a power cut must not leave the name alone.
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
