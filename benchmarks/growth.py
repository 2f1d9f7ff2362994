"""Time and memory of a training step by row length, vocabulary size and batch size.

    python -m benchmarks.growth --output growth.json --picture growth.png
    python -m benchmarks.growth --suite toy    # takes seconds

Each measurement varies one of the three sizes. Memory includes the temporaries and the arguments of the compiled step,
and therefore the training state. Time is the median of several steps, without compilation.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

from benchmarks.record import Spread, read_baseline, report, spread_of
from benchmarks.training import TINY
from transformer_jax.config import Config, ModelConfig
from transformer_jax.data.batches import Batch
from transformer_jax.runtime.malloc import restart_with_tuned_malloc
from transformer_jax.sharding import make_mesh, put_batch
from transformer_jax.training.compiled import jit_functions


@dataclass(frozen=True)
class Point:
    """The sizes of one training step.

    length: number of positions per row, for source and target.
    vocabulary: vocabulary size.
    tokens: number of source positions per batch, equal to the number of target positions.
    """

    length: int = 32
    vocabulary: int = 8_000
    tokens: int = 4_096


SUITES: dict[str, tuple[ModelConfig, Point, dict[str, tuple[int, ...]]]] = {
    "toy": (
        ModelConfig(8, 16, 2, 1, 1),
        Point(8, 100, 128),
        {"length": (8, 16), "vocabulary": (100, 200), "tokens": (128, 256)},
    ),
    "cpu": (
        TINY,
        Point(),
        {
            "length": (32, 64, 128, 256, 512, 1_024, 2_048, 4_096),
            "vocabulary": (8_000, 16_000, 32_000, 64_000, 128_000),
            "tokens": (1_024, 2_048, 4_096, 8_192, 16_384),
        },
    ),
}
"""Suite name -> (model, sizes that are not varied, size name -> values to measure)."""


@dataclass(frozen=True)
class GrowthBenchmark:
    """Measure the time and memory of a training step over a range of model sizes, lengths and batches."""

    suite: Literal["toy", "cpu"] = "cpu"
    """Model and sizes to measure. The suite ``toy`` takes seconds."""
    repeats: int = 3
    """Number of steps to measure per size."""
    output: Path | None = None
    """JSON file for the measurements."""
    against: Path | None = None
    """JSON file of an earlier run to compare with."""
    picture: Path | None = None
    """PNG file for the plot."""


def random_batch(point: Point) -> Batch:
    """Return a batch without padding, with one random sentence per row."""
    shape = (point.tokens // point.length, point.length)
    random = np.random.default_rng(0)
    source, target_input, target_output = random.integers(4, point.vocabulary, (3, *shape), dtype=np.int32)
    segments = np.ones(shape, np.int32)
    positions = np.broadcast_to(np.arange(point.length, dtype=np.int32), shape)
    return Batch(source, segments, positions, target_input, target_output, segments, positions)


def measure_point(model: ModelConfig, point: Point, repeats: int) -> tuple[Spread, Spread]:
    """Return the time of one training step in milliseconds and its memory in MiB."""
    config = Config(model=model)
    mesh = make_mesh(config.mesh)
    functions = jit_functions(config, mesh, point.vocabulary, point.vocabulary)
    state: Any = functions.initialize()
    batch = put_batch(random_batch(point), mesh)
    step = functions.train_step.lower(state, batch).compile()
    memory = step.memory_analysis()
    mebibytes = (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 2**20
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        state, _ = step(state, batch)
        jax.block_until_ready(state)
        times.append(1000 * (time.perf_counter() - began))
    # Exclude the first step, which is slower because its memory is not mapped yet.
    return spread_of(times[1:]), spread_of([mebibytes])


def measure(benchmark: GrowthBenchmark) -> dict[str, dict[int, tuple[Spread, Spread]]]:
    """Measure all sizes of the suite, and return their times and memory: size name -> value -> (milliseconds, MiB)."""
    model, point, axes = SUITES[benchmark.suite]
    return {
        axis: {value: measure_point(model, replace(point, **{axis: value}), benchmark.repeats) for value in values}
        for axis, values in axes.items()
    }


def plot_growth(measured: dict[str, dict[int, tuple[Spread, Spread]]], path: Path) -> None:
    """Plot time and memory against each size on log-log axes, where linear growth has slope 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {"length": "positions per row", "vocabulary": "vocabulary size", "tokens": "target positions per batch"}
    figure, panels = pyplot.subplots(2, len(measured), figsize=(4 * len(measured), 6), sharex="col", sharey="row")
    for column, (axis, points) in zip(panels.T, measured.items(), strict=True):
        values = list(points)
        for panel, quantity, unit in zip(column, (0, 1), ("ms per step", "MiB"), strict=True):
            heights = [point[quantity].median for point in points.values()]
            panel.loglog(values, heights, "o-", base=2)
            panel.loglog(values, [heights[0] * value / values[0] for value in values], ":", color="gray", base=2)
            panel.set_ylabel(unit)
            panel.grid(alpha=0.3)
        column[-1].set_xlabel(labels[axis])
    figure.suptitle("A training step of TINY (dotted: linear growth)")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure time and memory, print a report and draw the plot."""
    benchmark = tyro.cli(GrowthBenchmark)
    baseline = read_baseline(benchmark.output, benchmark.against)
    measured = measure(benchmark)
    rows = {
        f"{axis} {value:,}, {unit}": point[quantity]
        for axis, points in measured.items()
        for value, point in points.items()
        for quantity, unit in enumerate(("ms", "MiB"))
    }
    report(rows, "milliseconds per step; MiB", benchmark.output, baseline)
    if benchmark.picture:
        plot_growth(measured, benchmark.picture)


if __name__ == "__main__":
    restart_with_tuned_malloc()
    main()
