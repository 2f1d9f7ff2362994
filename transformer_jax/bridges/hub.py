"""Upload of a published run to the Hugging Face hub, in one commit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from transformer_jax.downloads.runs import CHECKPOINT_FILE, RUN_FILE
from transformer_jax.errors import InputError
from transformer_jax.storage.caches import prepare_hf_caches
from transformer_jax.storage.remote import remote_errors

OTHER_FILES = (".gitattributes", "README.md")
"""Files of a repository that do not show what it contains."""


def upload_run(directory: Path, repository: str, private: bool) -> str:
    """Upload all files of a directory to a repository, which is created if necessary. Return the address of the commit.

    Files of an earlier run in the repository are deleted in the same commit.

    repository: OWNER/NAME.
    private: whether the repository must be private.
    Raises InputError if it contains anything but a run, if it must be private but is public, or if the user has no
    right to write; RunError if the upload fails.
    """
    prepare_hf_caches()
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils import disable_progress_bars

    if sys.stderr is None or not sys.stderr.isatty():
        disable_progress_bars()
    url, api = f"hf://{repository}", HfApi()
    with remote_errors(url):
        api.create_repo(repository, private=private or None, exist_ok=True)
        present = api.model_info(repository)
        if private and not present.private:
            raise InputError(f"{url} is public. Omit --private, or choose another name.")
        old = [sibling.rfilename for sibling in present.siblings or ()]
        require_run_or_empty(url, old)
        new = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()}
        replaced = [name for name in old if RUN_FILE.fullmatch(name) or CHECKPOINT_FILE.fullmatch(name)]
        commit = api.create_commit(
            repository,
            [
                *(CommitOperationAdd(name, path) for name, path in new.items()),
                *(CommitOperationDelete(name) for name in replaced if name not in new),
            ],
            commit_message="Upload a run of transformer_jax",
            parent_commit=present.sha,
        )
    return commit.commit_url


def require_run_or_empty(url: str, files: Sequence[str]) -> None:
    """Raise InputError if a repository contains files, but no run of this package, so nothing else is overwritten."""
    others = [name for name in files if name not in OTHER_FILES]
    if others and not any(CHECKPOINT_FILE.fullmatch(name) for name in others):
        raise InputError(f"{url} contains other files, such as {others[0]}. Choose another name.")
