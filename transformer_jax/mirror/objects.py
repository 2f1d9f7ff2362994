"""The files of a mirror: a copy of a run directory in an object store, or in another directory."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from transformer_jax.storage.checksums import CHECKSUMS_FILE
from transformer_jax.storage.remote import Remote, scheme_of

CHECKPOINTS = "checkpoints"
"""Folder of the checkpoints, in a run directory and in its mirror."""
PARTIAL = ".unfinished"
"""Suffix of files that are being written in a mirror that is a directory. Object stores have no partial files."""


class MirrorObjects:
    """The files of a mirror by their names, which are paths relative to the mirror.

    Methods raise the errors of the store's library, see ``remote_error``.

    renews_leases: whether a lease is rewritten every few seconds, see ``Lease``.
    """

    renews_leases = True

    def __init__(self, remote: Remote) -> None:
        self.remote = remote
        self.is_directory = scheme_of(remote.url) == "file"

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all files in a folder and its subfolders; nothing if it does not exist."""
        root = f"{self.remote.path}/"
        found = self.remote.files.find(posixpath.join(root, folder).rstrip("/"))
        return sorted(
            path[len(root) :] for path in found if path.startswith(f"{root}{folder}") and not path.endswith(PARTIAL)
        )

    def sealed_steps(self) -> list[int]:
        """Return the steps of the completely uploaded checkpoints: their checksums are uploaded last."""
        pattern = re.compile(rf"{CHECKPOINTS}/([1-9][0-9]*)/{re.escape(CHECKSUMS_FILE)}")
        return sorted(int(match[1]) for name in self.names(CHECKPOINTS) if (match := pattern.fullmatch(name)))

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        try:
            return self.remote.files.cat_file(self._path(name))
        except FileNotFoundError:
            return None

    def download(self, name: str, path: Path) -> None:
        """Copy a file of the mirror to a local path. Its directory is created."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.remote.files.get_file(self._path(name), str(path))

    def batches(self, names: Sequence[str]) -> list[list[str]]:
        """Return the names in groups that ``upload`` takes in one call."""
        return [[name] for name in names]

    def upload(self, directory: Path, names: Sequence[str], folder: str = "") -> None:
        """Copy local files to a folder of the mirror. Each replaces an earlier file when it is complete.

        directory: the local directory to which the names are relative.
        """
        for name in names:
            target = self._path(posixpath.join(folder, name))
            if self.is_directory:
                self._copy_and_rename(directory / name, target)
            else:
                self.remote.files.put_file(str(directory / name), target)

    def _copy_and_rename(self, source: Path, target: str) -> None:
        files, partial = self.remote.files, f"{target}{PARTIAL}"
        files.makedirs(posixpath.dirname(target), exist_ok=True)
        try:
            files.put_file(str(source), partial)
            files.mv(partial, target)
        finally:
            if files.exists(partial):
                files.rm_file(partial)

    def create(self, name: str, content: bytes) -> bool:
        """Create a small file, and return False if it exists. Of several machines at the same time, one succeeds."""
        if self.is_directory:
            self.remote.files.makedirs(posixpath.dirname(self._path(name)), exist_ok=True)
        try:
            self.remote.files.pipe_file(self._path(name), content, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Replace the content of a small file."""
        self.remote.files.pipe_file(self._path(name), content)

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with its content, if it exists."""
        with suppress(FileNotFoundError):
            self.remote.files.rm(self._path(name), recursive=True)

    def delete_checkpoint(self, step: int) -> None:
        """Delete a checkpoint. The seal is deleted first, so that a partial removal is not damage."""
        self.delete(f"{CHECKPOINTS}/{step}/{CHECKSUMS_FILE}")
        self.delete(f"{CHECKPOINTS}/{step}")

    def _path(self, name: str) -> str:
        return f"{self.remote.path}/{name}"
