"""Kills of a training run: the resumed run must have the same bytes as an uninterrupted run.

    python -m benchmarks.resume --directory runs/resume
    XLA_FLAGS=--xla_gpu_deterministic_ops=true python -m benchmarks.resume --directory runs/resume

Three runs train the phrasebook model for some updates. One of them is killed at several updates and resumed each time.
The benchmark compares the metrics (without the speed), the translations and every array of the last checkpoint. It also
compares the two uninterrupted runs: if these differ, the programs themselves are not deterministic.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tyro

from benchmarks.record import machine
from transformer_jax.commands.cli import use_compilation_cache
from transformer_jax.storage import atomic

TRAIN = Path(__file__).parent.parent / "train.py"
# Coprime intervals, so that reports, checkpoints and validations fall on different steps.
OPTIONS = (
    *("--model.dropout", "0.1", "--decoding.beam", "1", "--training.log-every", "5", "--training.save-every", "17"),
    *("--training.valid-every", "41", "--training.valid-sentences", "7", "--training.ema", "0.9"),
)
FILES = ("samples.jsonl", "valid.hyp.txt", "test.hyp.txt")


@dataclass(frozen=True)
class ResumeBenchmark:
    """Compare a killed and resumed run with an uninterrupted one."""

    directory: Path
    """Directory for the runs. Runs in it are deleted first."""
    steps: int = 101
    """Number of updates."""
    kills: tuple[int, ...] = (23, 71)
    """Updates at which the run is killed."""
    options: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """More options of train.py, after "--"."""
    output: Path | None = None
    """JSON file for the result."""


def train(workdir: Path, options: Sequence[str], kill_at: int | None = None) -> None:
    """Run train.py to the end, or kill it once it has reported an update.

    Raises SystemExit if train.py ends in another way.
    """
    process = subprocess.Popen([sys.executable, str(TRAIN), "--workdir", str(workdir), *options])
    try:
        while kill_at is not None and reported_updates(workdir) < kill_at:
            if process.poll() is not None:
                raise SystemExit(f"error: train.py ended before update {kill_at} with status {process.returncode}.")
            time.sleep(0.001)
        if kill_at is None and (status := process.wait()):
            raise SystemExit(f"error: train.py failed with status {status}.")
    finally:
        process.kill()
        process.wait()


def reported_updates(workdir: Path) -> int:
    """Return the last update in metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return max((json.loads(line)["step"] for line in lines), default=0)


def find_differences(workdir: Path, expected: Path) -> list[str]:
    """Return the names of all files, and of all arrays of the last checkpoint, that differ between two runs."""
    differences = [name for name in FILES if (workdir / name).read_bytes() != (expected / name).read_bytes()]
    if read_metrics(workdir) != read_metrics(expected):
        differences.append("metrics.jsonl")
    states = [read_state(directory) for directory in (workdir, expected)]
    return differences + [name for name in states[1] if not np.array_equal(states[0][name], states[1][name])]


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without the speed."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


def read_state(workdir: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the last checkpoint by name, apart from the random key, which never changes."""
    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal())
    path = (workdir / "checkpoints" / str(step) / "state").absolute()
    with ocp.PyTreeCheckpointer() as reader:
        saved = {name: tree for name, tree in reader.metadata(path).item_metadata.tree.items() if name != "key"}
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
        restore = ocp.args.PyTreeRestore(item=saved, restore_args=as_numpy, partial_restore=True)
        state = reader.restore(path, args=restore)
    return {jax.tree_util.keystr(name): leaf for name, leaf in jax.tree_util.tree_leaves_with_path(state)}


def compare(benchmark: ResumeBenchmark) -> dict[str, Any]:
    """Train the runs, and return the differences of the second uninterrupted run and of the killed run."""
    options = [*OPTIONS, "--training.steps", str(benchmark.steps), *benchmark.options]
    first, second, killed = (benchmark.directory / name for name in ("first", "second", "killed"))
    for workdir in (first, second, killed):
        shutil.rmtree(workdir, ignore_errors=True)
    train(first, options)  # Alone, so that the others find the compiled programs in the cache.
    with ThreadPoolExecutor() as pool:
        uninterrupted = pool.submit(train, second, options)
        for update in (*benchmark.kills, None):
            train(killed, options, update)
        uninterrupted.result()
    return {
        "kills": list(benchmark.kills),
        "differences of two uninterrupted runs": find_differences(second, first),
        "differences of the killed run": find_differences(killed, first),
    }


def main() -> None:
    """Compare the runs and print the differences."""
    benchmark = tyro.cli(ResumeBenchmark)
    use_compilation_cache()
    result = compare(benchmark)
    for name, value in result.items():
        print(f"{name}: {', '.join(map(str, value)) or 'none'}")
    if benchmark.output:
        atomic.write_text(benchmark.output, json.dumps({**result, "machine": machine()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
