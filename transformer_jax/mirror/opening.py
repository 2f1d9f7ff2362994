"""Opening a mirror by its URL."""

from __future__ import annotations

from pathlib import Path

from transformer_jax.errors import InputError
from transformer_jax.mirror.hub_objects import HubObjects
from transformer_jax.mirror.objects import MirrorObjects
from transformer_jax.storage.home import expand_home
from transformer_jax.storage.remote import open_remote, remote_errors, scheme_of


def require_separate(url: str, workdir: Path) -> None:
    """Raise InputError if the mirror is the run directory, or if one contains the other."""
    if scheme_of(url) == "file":
        mirror, run = Path(expand_home(url)).resolve(), workdir.resolve()
        if mirror.is_relative_to(run) or run.is_relative_to(mirror):
            raise InputError(f"the mirror {url} and the run directory {workdir} overlap. Choose another --mirror.")


def open_mirror(url: str) -> MirrorObjects:
    """Return the files of a mirror, which may be empty.

    Raises InputError as ``open_remote`` does, if the path is a file, and if the directory that contains the mirror is
    missing: it may be a drive that is not connected.
    """
    remote = open_remote(url)
    if scheme_of(url) == "file":
        path = Path(remote.path)
        if not path.parent.is_dir():
            raise InputError(f"{url}: {path.parent} does not exist. Create or mount it, or choose another --mirror.")
        if path.exists() and not path.is_dir():
            raise InputError(f"{url} is not a directory. Choose another --mirror.")
    return HubObjects(remote) if scheme_of(url) == "hf" else MirrorObjects(remote)


def require_unused(url: str) -> None:
    """Raise InputError if a mirror already holds checkpoints."""
    with remote_errors(url):
        steps = open_mirror(url).sealed_steps()
    if steps:
        raise InputError(f"{url} already holds a run (step {steps[-1]}). Omit --fresh, or choose another --mirror.")
