"""Uploads of a run directory to its mirror, in a background thread.

The thread only observes the run directory. A checkpoint counts in the mirror once its checksums are there, which are
uploaded last: after its other files, after the checkpoint that it names as the best, and after the small files of the
run, which are then at least as new as the checkpoint. A machine that resumes from the mirror thus finds all of them.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformer_jax.mirror.filling import RUN_ID_FILE, is_part_of_run, read_run_id
from transformer_jax.mirror.lease import Lease
from transformer_jax.mirror.objects import CHECKPOINTS, MirrorObjects
from transformer_jax.storage import atomic
from transformer_jax.storage.checkpoints import UNFINISHED, checkpoint_steps, read_progress, retained_steps
from transformer_jax.storage.checksums import CHECKSUMS_FILE
from transformer_jax.storage.remote import describe_error

POLL_SECONDS = 1.0
"""Interval at which the run directory is searched for new checkpoints."""
SMALL_FILES_SECONDS = 60.0
"""Time after which small files that have changed are uploaded without a new checkpoint."""
MAX_RETRY_SECONDS = 60.0
"""Maximum time between two attempts of a failed upload. It doubles from one second."""
BEHIND_SECONDS = 60.0
"""Time after which an upload that is not finished is reported."""


class Uploader:
    """A thread that keeps the mirror of a run up to date.

    newest_step: step of the newest complete checkpoint in the mirror; 0 if there is none.
    problem: the last error; empty after a success.
    """

    def __init__(self, workdir: Path, objects: MirrorObjects, lease: Lease, run_id: str) -> None:
        """Read what the mirror holds. Nothing is uploaded before ``start``.

        run_id: the ID of the run, in the run directory and in the mirror.
        """
        self.workdir, self.objects, self.lease, self.run_id = workdir, objects, lease, run_id
        self.seals = {step: objects.read(seal_name(step)) for step in objects.sealed_steps()}
        self.newest_step = max(self.seals, default=0)
        self.uploaded: dict[str, tuple[int, int]] = {}
        self.small_files_uploaded = 0.0
        self.problem = ""
        self.behind_since: float | None = None
        self.is_reported = False
        self.finishing = threading.Event()
        self.thread = threading.Thread(target=self._run, name="mirror-upload", daemon=True)
        self.pins = workdir / f".upload{UNFINISHED}"

    def start(self) -> None:
        """Start the thread. It uploads nothing before the run has a config.json.

        Call it when the checkpoints have been checked, so that no damaged one is uploaded.
        """
        shutil.rmtree(self.pins, ignore_errors=True)  # Of a killed process.
        self.thread.start()

    def status(self) -> str:
        """Return how far the mirror is behind, for the progress display; empty if it is not. Warn once."""
        since = self.behind_since
        if since is None or (not self.problem and time.monotonic() - since < BEHIND_SECONDS):
            return ""
        behind = f"mirror at step {self.newest_step}, behind for {time.monotonic() - since:.0f} s"
        if not self.is_reported:
            self._report(self.problem or f"not finished after {BEHIND_SECONDS:.0f} s")
        return behind

    def finish(self, seconds: float) -> bool:
        """Upload everything that is left, for at most ``seconds``. Return whether the mirror is then complete."""
        if self.thread.ident is None:  # Not started.
            return True
        self.finishing.set()
        self.thread.join(1)
        if self.thread.is_alive() and seconds > 1:
            logging.info(f"waiting up to {seconds:.0f} s for the upload to {self.objects.remote.url} ...")
            self.thread.join(seconds - 1)
        if self.thread.is_alive():
            return False
        shutil.rmtree(self.pins, ignore_errors=True)
        return not self.lease.is_lost

    def reason(self) -> str:
        """Return why the mirror is not complete after ``finish``."""
        return "another machine has taken it over" if self.lease.is_lost else self.problem or "the upload takes longer"

    def _run(self) -> None:
        delay = 0.0
        while not self.lease.is_lost:
            was_finishing = self.finishing.is_set()
            try:
                self._synchronize()
                if was_finishing:
                    return
                delay = 0.0
                self._report_success()
            except Vanished:
                delay = 0.0
            except Exception as error:  # An upload must never end the training.
                self.problem = describe_error(error)
                self._report(self.problem)
                delay = min(2 * delay or 1.0, MAX_RETRY_SECONDS)
            if was_finishing:
                time.sleep(1)
            else:
                self.finishing.wait(delay or POLL_SECONDS)

    def _synchronize(self) -> None:
        """Upload what is new. Raises Vanished if a checkpoint was removed before it was uploaded."""
        if not (self.workdir / "config.json").exists():
            return
        if read_run_id(self.workdir) != self.run_id:
            atomic.write_text(self.workdir / RUN_ID_FILE, f"{self.run_id}\n")
        newest = max(checkpoint_steps(self.workdir / CHECKPOINTS), default=None)
        if newest is not None and self._is_missing(newest):
            self.behind_since = self.behind_since or time.monotonic()
            with self._pinned(newest) as checkpoint:
                best = read_progress(checkpoint).best_step
                if best != newest and best in checkpoint_steps(self.workdir / CHECKPOINTS) and self._is_missing(best):
                    with self._pinned(best) as best_checkpoint:
                        self._upload_checkpoint(best_checkpoint, best)
                self._upload_checkpoint(checkpoint, newest)
            self.newest_step = newest
            self._prune(best)
        if self.finishing.is_set() or time.monotonic() - self.small_files_uploaded > SMALL_FILES_SECONDS:
            self._upload_small_files()
        self.behind_since = None

    def _is_missing(self, step: int) -> bool:
        try:
            return self.seals.get(step) != (self.workdir / seal_name(step)).read_bytes()
        except FileNotFoundError:
            raise Vanished from None

    @contextmanager
    def _pinned(self, step: int) -> Iterator[Path]:
        """Keep the files of a checkpoint until the end of the block, even if the training removes the checkpoint.

        The copy consists of hard links.
        """
        copy = self.pins / str(step)
        shutil.rmtree(copy, ignore_errors=True)
        try:
            try:
                shutil.copytree(self.workdir / CHECKPOINTS / str(step), copy, copy_function=link_or_copy)
                names = json.loads((copy / CHECKSUMS_FILE).read_text())
            except (FileNotFoundError, shutil.Error):
                raise Vanished from None
            if not all((copy / name).exists() for name in names):
                raise Vanished
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _upload_checkpoint(self, directory: Path, step: int) -> None:
        folder = f"{CHECKPOINTS}/{step}"
        seal = (directory / CHECKSUMS_FILE).read_bytes()
        if self.seals.pop(step, None) is not None:
            self.objects.delete(seal_name(step))  # Another checkpoint of the same step is replaced.
        names = [path.relative_to(directory).as_posix() for path in sorted(directory.rglob("*")) if path.is_file()]
        self._upload(directory, [name for name in names if name != CHECKSUMS_FILE], folder)
        self._upload_small_files()
        self._upload(directory, [CHECKSUMS_FILE], folder)
        self.seals[step] = seal

    def _upload_small_files(self) -> None:
        """Upload the changed files of the run directory itself. config.json comes last, because it marks a run."""
        began = time.monotonic()
        names = [path.name for path in self.workdir.iterdir() if path.is_file() and is_part_of_run(path.name)]
        self._upload(self.workdir, sorted(names, key=lambda name: (name == "config.json", name)))
        self.small_files_uploaded = began

    def _upload(self, directory: Path, names: list[str], folder: str = "") -> None:
        """Upload the files that have changed since this process uploaded them."""
        facts = {name: file_facts(directory / name) for name in names}
        prefix = f"{folder}/" if folder else ""
        changed = [name for name in names if self.uploaded.get(prefix + name) != facts[name]]
        for batch in self.objects.batches(changed):
            if not self.lease.is_held():
                raise TimeoutError("the lease of the mirror is not renewed, because the store does not answer")
            self.objects.upload(directory, batch, folder)
            self.uploaded |= {prefix + name: facts[name] for name in batch}

    def _prune(self, best: int) -> None:
        """Delete the checkpoints that the run directory would not keep either, and parts of checkpoints."""
        kept = {*retained_steps(sorted(self.seals), best)}
        folders = {name.split("/")[1] for name in self.objects.names(CHECKPOINTS)}
        for step in [int(folder) for folder in folders if folder.isdecimal() and int(folder) not in kept]:
            if self.lease.is_held():
                self.objects.delete_checkpoint(step)
                self.seals.pop(step, None)
                self.uploaded = {
                    name: facts
                    for name, facts in self.uploaded.items()
                    if not name.startswith(f"{CHECKPOINTS}/{step}/")
                }

    def _report(self, problem: str) -> None:
        """Log that the mirror is behind, once until it is up to date again."""
        if not self.is_reported:
            self.is_reported = True
            logging.warning(
                f"{self.objects.remote.url} is behind at step {self.newest_step}: {problem}. Training continues, and "
                "the upload is repeated."
            )

    def _report_success(self) -> None:
        self.problem = ""
        if self.is_reported:
            self.is_reported = False
            logging.info(f"{self.objects.remote.url} is up to date again at step {self.newest_step}.")


class Vanished(Exception):
    """A checkpoint was removed while it was read, because newer ones have replaced it."""


def seal_name(step: int) -> str:
    """Return the name of the file that completes a checkpoint in the mirror."""
    return f"{CHECKPOINTS}/{step}/{CHECKSUMS_FILE}"


def file_facts(path: Path) -> tuple[int, int]:
    """Return what differs if a file has changed: size and time of the last change."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def link_or_copy(source: str, target: str) -> None:
    """Create a hard link, or a copy on a file system without links."""
    try:
        Path(target).hardlink_to(source)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
