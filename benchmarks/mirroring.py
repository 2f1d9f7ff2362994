"""Cost of a mirror: the time of training steps with uploads in the background, divided by the time without them.

    python -m benchmarks.mirroring
    python -m benchmarks.mirroring --mirror s3://bucket/path

Blocks of steps alternate in one process. During every other block, a mirror is active and uploads a new checkpoint of
the model. The ratio of CPU times includes the thread of the uploads, and hardly depends on other programs.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro

from benchmarks.record import spread_of
from benchmarks.training import SUITES, TrainingBenchmark, TrainingRunner
from transformer_jax.commands.cli import use_compilation_cache
from transformer_jax.mirror.lease import Lease
from transformer_jax.mirror.opening import open_mirror
from transformer_jax.mirror.uploader import Uploader
from transformer_jax.runtime.malloc import restart_with_tuned_malloc
from transformer_jax.storage.checkpoints import Progress
from transformer_jax.storage.checksums import seal


@dataclass(frozen=True)
class MirroringBenchmark:
    """Measure training steps with and without uploads to a mirror."""

    suite: Literal["toy", "cpu", "gpu"] = "cpu"
    """Models of benchmarks.training. The first model of the suite is measured."""
    mirror: str = ""
    """Location of the mirror. Default: a temporary directory."""
    repeats: int = 10
    """Number of pairs of blocks."""
    megabytes: int = 100
    """Size of a checkpoint."""


def write_checkpoint(workdir: Path, step: int, megabytes: int) -> None:
    """Write a checkpoint of random bytes."""
    checkpoint = workdir / "checkpoints" / f"{step}.unfinished"
    checkpoint.mkdir(parents=True)
    (checkpoint / "progress.json").write_text(json.dumps(Progress(best_step=step)._asdict()))
    (checkpoint / "state").write_bytes(np.random.default_rng(step).bytes(megabytes << 20))
    seal(checkpoint)
    checkpoint.rename(checkpoint.with_suffix(""))


@contextmanager
def uploads(workdir: Path, mirror: str) -> Iterator[None]:
    """Upload a run directory within the block, and check afterwards that everything has arrived."""
    objects = open_mirror(mirror)
    lease = Lease(objects)
    uploader = Uploader(workdir, objects, lease, "benchmark")
    uploader.start()
    yield
    if not uploader.finish(600.0):
        raise SystemExit(f"error: the upload failed: {uploader.reason()}")
    lease.release()


def measure_block(runner: TrainingRunner) -> tuple[float, float]:
    """Train on all batches, and return wall time and CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    runner()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Measure and print the ratios."""
    benchmark = tyro.cli(MirroringBenchmark)
    use_compilation_cache()
    name, size = next(iter(SUITES[benchmark.suite].items()))
    runner = TrainingRunner(TrainingBenchmark(benchmark.suite), size, "transformer_jax")
    runner()  # Compiles.
    without, with_mirror = [], []
    with tempfile.TemporaryDirectory() as directory:
        workdir = Path(directory) / "run"
        mirror = benchmark.mirror or str(Path(directory) / "mirror")
        workdir.mkdir()
        (workdir / "config.json").write_text("{}")
        for repeat in range(1, benchmark.repeats + 1):
            without.append(measure_block(runner))
            shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
            write_checkpoint(workdir, repeat, benchmark.megabytes)
            with uploads(workdir, mirror):
                with_mirror.append(measure_block(runner))
    print(f"{name} on {jax.devices()[0].device_kind}: {len(runner.batches)} steps and one checkpoint per block")
    for index, kind in enumerate(("wall time", "CPU time")):
        ratios = [after[index] / before[index] for before, after in zip(without, with_mirror, strict=True)]
        seconds = statistics.median(block[index] for block in without) / len(runner.batches)
        print(f"{kind}: {seconds:.3f} s per step without a mirror, ratio {spread_of(ratios)}")


if __name__ == "__main__":
    restart_with_tuned_malloc()
    main()
