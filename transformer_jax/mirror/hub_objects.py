"""The files of a mirror in a repository of the Hugging Face hub, where every change is a commit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformer_jax.mirror.objects import CHECKPOINTS, MirrorObjects
from transformer_jax.storage.remote import Remote


class HubObjects(MirrorObjects):
    """The files of a mirror on the hub. Several files are one commit, and so is the removal of a checkpoint.

    Leases are not renewed, since each renewal would be a commit.
    """

    renews_leases = False

    def __init__(self, remote: Remote) -> None:
        super().__init__(remote)
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()  # They would be printed into the progress of the training.
        owner, name, *folder = remote.path.split("/")
        self.api, self.repository = HfApi(), f"{owner}/{name}"
        self.prefix = "".join(f"{part}/" for part in folder)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all files in a folder and its subfolders; nothing if it does not exist."""
        files = [name for name in self.api.list_repo_files(self.repository) if name.startswith(self.prefix)]
        names = [name[len(self.prefix) :] for name in files]
        return sorted(name for name in names if not folder or name.startswith(f"{folder}/"))

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        self.remote.files.invalidate_cache()
        return super().read(name)

    def download(self, name: str, path: Path) -> None:
        """Copy a file of the mirror to a local path. Its directory is created."""
        self.remote.files.invalidate_cache()
        super().download(name, path)

    def batches(self, names: Sequence[str]) -> list[list[str]]:
        """Return all names as one group."""
        return [list(names)] if names else []

    def upload(self, directory: Path, names: Sequence[str], folder: str = "") -> None:
        """Copy local files to a folder of the mirror in one commit."""
        prefix = f"{folder}/" if folder else ""
        self._commit("Upload", {f"{prefix}{name}": str(directory / name) for name in names})

    def create(self, name: str, content: bytes) -> bool:
        """Create a small file, and return False if it exists. The hub refuses the commit if another came first."""
        from huggingface_hub.errors import HfHubHTTPError

        while True:
            newest = self.api.repo_info(self.repository).sha
            if name in self.names():
                return False
            try:
                self._commit("Create", {name: io.BytesIO(content)}, newest)
                return True
            except HfHubHTTPError as error:
                if error.response.status_code != 412:
                    raise

    def replace(self, name: str, content: bytes) -> None:
        """Replace the content of a small file."""
        self._commit("Replace", {name: io.BytesIO(content)})

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        if name in self.names():
            self._delete(name, is_folder=False)

    def delete_checkpoint(self, step: int) -> None:
        """Delete a checkpoint in one commit."""
        if self.names(f"{CHECKPOINTS}/{step}"):
            self._delete(f"{CHECKPOINTS}/{step}/", is_folder=True)

    def _commit(self, verb: str, files: dict[str, Any], parent: str | None = None) -> None:
        from huggingface_hub import CommitOperationAdd

        additions = [CommitOperationAdd(self.prefix + name, content) for name, content in files.items()]
        message = f"{verb} {next(iter(files))}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self.api.create_commit(self.repository, additions, commit_message=message, parent_commit=parent)

    def _delete(self, name: str, is_folder: bool) -> None:
        from huggingface_hub import CommitOperationDelete

        deletion = CommitOperationDelete(self.prefix + name, is_folder=is_folder)
        self.api.create_commit(self.repository, [deletion], commit_message=f"Delete {name}")
