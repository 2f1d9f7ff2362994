"""Time from the command train.py to its first updates, without and with compiled programs in the cache.

    python -m benchmarks.training_start --workdir runs/timed -- --config configs/wmt14_base.py --training.steps 100

Everything after ``--`` goes to train.py. The first start has empty caches: it trains tokenizers, encodes the text and
compiles. It runs to the end, so ``--workdir`` then contains a finished run. The second start, in another run directory,
finds the compiled programs and the encoded text in the caches, and is stopped after its last timed update. Seconds
include the start of Python and all imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.record import Spread, read_baseline, report, spread_of

TIMED_UPDATES = (1, 10, 50)
"""Updates whose end is timed. All batch shapes usually occur within 50 updates."""
TRAIN = Path(__file__).parent.parent / "train.py"


@dataclass(frozen=True)
class TrainingStartBenchmark:
    """Measure the time until the first updates of a training."""

    workdir: Path
    """Run directory of the first start. It must not exist."""
    options: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Options of train.py, after "--"."""
    output: Path | None = None
    """JSON file for the measurements."""
    against: Path | None = None
    """JSON file of an earlier run to compare with."""


def time_start(workdir: Path, options: Sequence[str], caches: Mapping[str, str], to_end: bool) -> dict[str, float]:
    """Start train.py, and return the seconds until each timed update and, if it runs to the end, until the end.

    Raises SystemExit if train.py fails or makes fewer updates.
    """
    began = time.monotonic()
    command = [sys.executable, str(TRAIN), "--workdir", str(workdir), *options, "--training.log-every", "1"]
    process = subprocess.Popen(command, env={**os.environ, **caches})
    metrics, seconds = workdir / "metrics.jsonl", dict[str, float]()
    try:
        for update in TIMED_UPDATES:
            # A line is written after the update that it reports has finished.
            while not metrics.exists() or metrics.read_bytes().count(b"\n") < update:
                if process.poll() is not None:
                    raise SystemExit(f"error: train.py ended before update {update} with status {process.returncode}.")
                time.sleep(0.01)
            seconds[f"update {update}"] = time.monotonic() - began
        if to_end:
            if status := process.wait():
                raise SystemExit(f"error: train.py failed with status {status}.")
            seconds["end, with scores"] = time.monotonic() - began
    finally:
        process.kill()
        process.wait()
    return seconds


def measure(benchmark: TrainingStartBenchmark) -> dict[str, Spread]:
    """Time both starts, and return measurement name -> spread."""
    if benchmark.workdir.exists():
        raise SystemExit(f"error: {benchmark.workdir} exists. Remove it, or choose another --workdir.")
    with tempfile.TemporaryDirectory() as directory:
        caches = {"JAX_COMPILATION_CACHE_DIR": f"{directory}/jax", "TRANSFORMER_JAX_CORPORA": f"{directory}/corpora"}
        first = time_start(benchmark.workdir, benchmark.options, caches, to_end=True)
        later = time_start(Path(directory) / "run", benchmark.options, caches, to_end=False)
    starts = {"empty caches": first, "filled caches": later}
    return {f"{name}, {event}": spread_of([value]) for name, start in starts.items() for event, value in start.items()}


def main() -> None:
    """Measure the times and print a report."""
    benchmark = tyro.cli(TrainingStartBenchmark)
    baseline = read_baseline(benchmark.output, benchmark.against)
    report(measure(benchmark), "seconds", benchmark.output, baseline)


if __name__ == "__main__":
    main()
