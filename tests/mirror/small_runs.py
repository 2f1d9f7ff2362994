"""Run directories with the files of a run but without a model, and mirrors of them."""

import json

from transformer_jax.mirror.lease import Lease
from transformer_jax.mirror.opening import open_mirror
from transformer_jax.mirror.uploader import Uploader
from transformer_jax.storage.checkpoints import Progress
from transformer_jax.storage.checksums import seal


def write_checkpoint(workdir, step, best=None, content=None):
    """Write a sealed checkpoint under a temporary name, and rename it, as a training does."""
    checkpoint = workdir / "checkpoints" / f"{step}.unfinished"
    (checkpoint / "state" / "d").mkdir(parents=True)
    (checkpoint / "progress.json").write_text(json.dumps(Progress(best_step=best or step)._asdict()))
    (checkpoint / "state" / "d" / "array").write_bytes(content or f"state {step}".encode() * 97)
    (checkpoint / "state" / "empty").write_bytes(b"")
    seal(checkpoint)
    checkpoint.rename(checkpoint.with_suffix(""))


def write_run(workdir, *steps):
    """Write a run directory with checkpoints, of which the first is the best."""
    workdir.mkdir(parents=True, exist_ok=True)
    for step in steps:
        write_checkpoint(workdir, step, best=steps[0])
    (workdir / "metrics.jsonl").write_text(f"{steps}\n")
    (workdir / ".lock").write_text("")
    (workdir / "config.json").write_text('{"name": "run"}')
    return workdir


class Mirroring:
    """An uploader and its lease, until ``finish``."""

    def __init__(self, workdir, url, run_id="1" * 32):
        self.objects = open_mirror(url)
        self.lease = Lease(self.objects)
        self.uploader = Uploader(workdir, self.objects, self.lease, run_id)
        self.uploader.start()

    def finish(self, seconds=30.0):
        completed = self.uploader.finish(seconds)
        self.lease.release()
        return completed


def mirror(workdir, url, run_id="1" * 32):
    """Upload everything in a run directory."""
    assert Mirroring(workdir, url, run_id).finish()


def contents(directory):
    """Return the content of all files of a run directory, apart from locks."""
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


def mirror_contents(url):
    """Return the content of all files of a mirror."""
    objects = open_mirror(url)
    return {name: objects.read(name) for name in objects.names()}
