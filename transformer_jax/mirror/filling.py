"""Downloads of a run from its mirror to an empty run directory."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from transformer_jax.errors import InputError
from transformer_jax.mirror.objects import CHECKPOINTS, MirrorObjects
from transformer_jax.storage import atomic
from transformer_jax.storage.checkpoints import UNFINISHED, checkpoint_steps, read_progress
from transformer_jax.storage.checksums import CHECKSUMS_FILE, find_damage
from transformer_jax.storage.untrusted import MAX_JSON_BYTES, require_contained

RUN_ID_FILE = "run_id.txt"
"""File that tells runs apart: a run and its mirror contain the same number."""
STAGING = f".mirror{UNFINISHED}"
"""Directory in the run directory for downloads that are not complete."""


def read_run_id(workdir: Path) -> str | None:
    """Return the ID of the run in a directory; None if it has none."""
    path = workdir / RUN_ID_FILE
    return path.read_text(errors="replace").strip() if path.exists() else None


def fill_or_compare(workdir: Path, objects: MirrorObjects, check: Callable[[Path], None]) -> str | None:
    """Fill a run directory that has no checkpoint from its mirror. Otherwise check that both belong together.

    Return the ID of the run in the mirror; None if the mirror has none.

    check: called with a directory that contains only the config.json of the mirror; may raise.
    Raises InputError if the mirror holds another run, is newer than the run directory, or is damaged.
    """
    url = objects.remote.url
    content = objects.read(RUN_ID_FILE)
    mirror_id = None if content is None else content.decode(errors="replace").strip()
    steps, local_steps = objects.sealed_steps(), checkpoint_steps(workdir / CHECKPOINTS)
    if local_steps and (steps or mirror_id) and mirror_id != read_run_id(workdir):
        raise InputError(
            f"{url} holds another run than {workdir}. Choose another --mirror, or an empty --workdir to resume the run "
            "of the mirror."
        )
    if not local_steps:
        _fill(workdir, objects, steps, check)
    elif steps and steps[-1] > local_steps[-1]:
        raise InputError(
            f"{url} is at step {steps[-1]}, but {workdir} is at step {local_steps[-1]}. To resume from the mirror, "
            f"choose an empty --workdir. To resume from {workdir}, choose another --mirror."
        )
    return mirror_id


def _fill(workdir: Path, objects: MirrorObjects, steps: list[int], check: Callable[[Path], None]) -> None:
    """Download the newest undamaged checkpoint, its best checkpoint and the small files of the run.

    Everything is first downloaded to a staging directory. The checkpoints are moved last, in one step, so after a kill
    the directory has no checkpoint and the next start fills it again.
    """
    staging = workdir / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        if objects.read("config.json") is not None:
            objects.download("config.json", staging / "config.json")
            require_contained(staging)
            check(staging)
        if not steps:
            return
        logging.info(f"downloading the run from {objects.remote.url} ...")
        newest = _download_newest(objects, steps, staging / CHECKPOINTS)
        for name in objects.names():
            if is_safe(name) and "/" not in name and is_part_of_run(name):
                objects.download(name, staging / name)
        require_contained(staging)
        atomic.sync(staging)
        for path in sorted(staging.iterdir(), key=lambda path: (path.name == CHECKPOINTS, path.name)):
            if path.name == CHECKPOINTS:
                shutil.rmtree(workdir / CHECKPOINTS, ignore_errors=True)
            os.replace(path, workdir / path.name)
        logging.info(f"{workdir} is filled from {objects.remote.url} at step {newest}.")
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _download_newest(objects: MirrorObjects, steps: list[int], directory: Path) -> int:
    """Download the newest checkpoint without damage and the checkpoint that it names as the best. Return its step."""
    for step in reversed(steps):
        if _download_checkpoint(objects, step, directory):
            best = read_progress(directory / str(step)).best_step
            if best != step and best in steps:
                _download_checkpoint(objects, best, directory)
            return step
    raise InputError(
        f"{objects.remote.url}: all checkpoints are damaged. Restore them from a copy, or choose another --mirror."
    )


def _download_checkpoint(objects: MirrorObjects, step: int, directory: Path) -> bool:
    """Download a checkpoint, and return whether it matches its checksums. If it does not, warn and delete it."""
    checkpoint, folder = directory / str(step), f"{CHECKPOINTS}/{step}"
    seal = objects.read(f"{folder}/{CHECKSUMS_FILE}") or b""
    checkpoint.mkdir(parents=True)
    (checkpoint / CHECKSUMS_FILE).write_bytes(seal)
    try:
        if len(seal) > MAX_JSON_BYTES:
            raise ValueError
        for name in filter(is_safe, json.loads(seal)):
            objects.download(f"{folder}/{name}", checkpoint / name)
        damage = find_damage(checkpoint)
    except FileNotFoundError as error:
        damage = f"{error} is missing"
    except (ValueError, TypeError, RecursionError):
        damage = f"{CHECKSUMS_FILE} cannot be read"
    if damage:
        logging.warning(f"{objects.remote.url}/{folder} is damaged and ignored: {damage}.")
        shutil.rmtree(checkpoint)
    return not damage


def is_part_of_run(name: str) -> bool:
    """Return whether a file in the run directory itself belongs to the run: not a lock and not a temporary file."""
    return not name.startswith(".") and not name.endswith((UNFINISHED, ".partial"))


def is_safe(name: object) -> bool:
    """Return whether a name is a relative path that stays in its directory: the mirror may come from a stranger."""
    if not isinstance(name, str) or "\0" in name or "\\" in name:
        return False
    return name == str(PurePosixPath(name)) and not name.startswith("/") and ".." not in PurePosixPath(name).parts
