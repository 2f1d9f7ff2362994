"""Growth of a training step's time and memory with row length, vocabulary size and batch size.

    python -m benchmarks.growth --output growth.json --picture growth.png
    python -m benchmarks.growth --suite toy    # seconds

One of the three grows at a time. Memory is that of the compiled step's temporaries and arguments, which include the
state. Time is the median of a few steps, without compilation.
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

    length: positions per row, on both sides.
    vocabulary: vocabulary size.
    tokens: positions per batch, on each side.
    """

    length: int = 32
    vocabulary: int = 8_000
    tokens: int = 4_096


SUITES: dict[str, tuple[ModelConfig, dict[str, tuple[int, ...]]]] = {
    "toy": (ModelConfig(8, 16, 2, 1, 1), {"length": (32, 64), "vocabulary": (100, 200), "tokens": (256, 512)}),
    "cpu": (
        TINY,
        {
            "length": (32, 64, 128, 256, 512, 1_024, 2_048, 4_096),
            "vocabulary": (8_000, 16_000, 32_000, 64_000, 128_000),
            "tokens": (1_024, 2_048, 4_096, 8_192, 16_384),
        },
    ),
}
"""Suite -> (model, axis -> values)."""


@dataclass(frozen=True)
class GrowthBenchmark:
    """Measure how time and memory of a training step grow."""

    suite: Literal["toy", "cpu"] = "cpu"
    """Model and sizes: toy takes seconds."""
    repeats: int = 3
    """Number of measured steps per size."""
    output: Path | None = None
    """JSON file to write."""
    against: Path | None = None
    """JSON file of an earlier run to compare with."""
    picture: Path | None = None
    """PNG file to draw."""


def random_batch(point: Point) -> Batch:
    """Return rows without padding that hold one sentence of random words each."""
    shape = (point.tokens // point.length, point.length)
    random = np.random.default_rng(0)
    source, target_input, target_output = random.integers(4, point.vocabulary, (3, *shape), dtype=np.int32)
    segments = np.ones(shape, np.int32)
    positions = np.broadcast_to(np.arange(point.length, dtype=np.int32), shape)
    return Batch(source, segments, positions, target_input, target_output, segments, positions)


def measure_point(model: ModelConfig, point: Point, repeats: int) -> tuple[Spread, Spread]:
    """Return the milliseconds and the MiB of one step."""
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
    # The first step is slower, because it touches its memory for the first time.
    return spread_of(times[1:]), spread_of([mebibytes])


def measure(benchmark: GrowthBenchmark) -> dict[str, dict[int, tuple[Spread, Spread]]]:
    """Return axis -> value -> (milliseconds, MiB)."""
    model, axes = SUITES[benchmark.suite]
    return {
        axis: {value: measure_point(model, replace(Point(), **{axis: value}), benchmark.repeats) for value in values}
        for axis, values in axes.items()
    }


def plot_growth(measured: dict[str, dict[int, tuple[Spread, Spread]]], path: Path) -> None:
    """Plot time and memory over each axis, on logarithmic scales: slope 1 is linear growth."""
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
    """Measure, report and plot the growth of a step."""
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
