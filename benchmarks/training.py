"""Training speed compared with PyTorch, in target tokens per second without padding.

    python -m benchmarks.training --train "data/multi30k/train.{lang}.gz" --output before.json
    python -m benchmarks.training --suite toy    # takes seconds, on the phrasebook
    python -m benchmarks.training --suite gpu --train "data/wmt14/train.{lang}.gz"    # bfloat16, rows of 256 tokens

Both systems train the same model on the same sentences, with the same number of target positions per batch. This
package packs several sentences into a row. PyTorch uses length buckets, with one bucket per length on a CPU, where it
compiles nothing. Each system runs in its own process, and the systems are timed alternately. "share of the product" is
the FLOP/s of training divided by the FLOP/s of a large matrix product measured in the same run. It counts neither
padding nor recomputation. The measurements of a model size are stored as soon as it is done. PyTorch requires
requirements-parity.txt.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.record import (
    Spread,
    measure_in_turn,
    read_baseline,
    report,
    require_packages,
    spread_of,
    write_record,
)
from transformer_jax.commands.cli import use_compilation_cache
from transformer_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig
from transformer_jax.data.batches import Batch
from transformer_jax.data.pipeline import TrainingBatches
from transformer_jax.model.flops import training_flops
from transformer_jax.runtime.malloc import restart_with_tuned_malloc
from transformer_jax.sharding import make_mesh, put_batch
from transformer_jax.training.compiled import jit_functions
from transformer_jax.training.corpus import load_corpus

UNIT = "target tokens per second"
System = Literal["transformer_jax", "PyTorch"]
Update = Callable[[Batch], Any]
"""Function that runs one training step and returns the loss. Calling ``float`` on the loss waits for the step."""


@dataclass(frozen=True)
class Size:
    """A model and the batches to train it on.

    batch_tokens: number of target positions per batch.
    batches: number of batches per measurement.
    words: vocabulary size of the model, even if the text has fewer subwords.
    max_length: maximum sentence length in tokens.
    row_length: number of positions per packed row in this package.
    buckets: number of length buckets in PyTorch.
    """

    model: ModelConfig
    batch_tokens: int
    batches: int
    words: int = 10_000
    max_length: int = 64
    row_length: int = 40
    buckets: int = 64


TINY = ModelConfig(d_model=128, d_ff=256, heads=4, encoder_layers=4, decoder_layers=4, dropout=0.3)
BASE = ModelConfig()
BIG = ModelConfig(d_model=1024, d_ff=4096, heads=16, dropout=0.3)
ON_GPU = {"batches": 50, "batch_tokens": 25_000, "words": 37_000, "max_length": 256, "row_length": 256, "buckets": 8}
SUITES: dict[str, dict[str, Size]] = {
    "toy": {"toy": Size(ModelConfig(8, 16, 2, 1, 1), batch_tokens=256, batches=1)},
    "cpu": {"TINY": Size(TINY, 4096, batches=24), "BASE": Size(BASE, 4096, batches=4)},
    "gpu": {name: Size(replace(model, dtype="bfloat16"), **ON_GPU) for name, model in (("BASE", BASE), ("BIG", BIG))},
}


@dataclass(frozen=True)
class TrainingBenchmark:
    """Compare the training speed of this package and PyTorch."""

    suite: Literal["toy", "cpu", "gpu"] = "cpu"
    """Models and batch sizes to measure. The suite ``toy`` takes seconds."""
    train: str = "phrasebook"
    """Locator of the training pairs, as for train.py."""
    systems: tuple[System, ...] = ("transformer_jax", "PyTorch")
    """Systems to measure."""
    repeats: int = 5
    """Number of measurements. Their median is reported. 0 only compiles, which fills the compilation caches."""
    output: Path | None = None
    """JSON file for the measurements."""
    against: Path | None = None
    """JSON file of an earlier run to compare with."""


def ours(config: Config) -> Update:
    """Return the training step that train.py uses."""
    words = config.tokenizer.size
    functions = jit_functions(config, make_mesh(config.mesh), words, words)
    state = functions.initialize()

    def update(batch: Batch) -> Any:
        nonlocal state
        state, metrics = functions.train_step(state, put_batch(batch, functions.mesh))
        return metrics["loss"]

    return update


def pytorch(config: Config) -> Update:
    """Return the training step of the PyTorch implementation."""
    from benchmarks.peers.torch_loop import TorchTraining

    return TorchTraining(config.model, config.tokenizer.size, config.data.max_length).step


SYSTEMS: dict[System, Callable[[Config], Update]] = {"transformer_jax": ours, "PyTorch": pytorch}


class TrainingRunner:
    """A training system with its batches. Calling it measures the system once."""

    def __init__(self, benchmark: TrainingBenchmark, size: Size, system: System) -> None:
        config = Config(
            model=size.model,
            data=DataConfig(
                train=benchmark.train,
                valid=benchmark.train,
                test=benchmark.train,
                max_length=size.max_length,
                batching="packed" if system == "transformer_jax" else "buckets",
                batch_tokens=size.batch_tokens,
                row_length=size.row_length,
                buckets=size.buckets,
            ),
            tokenizer=TokenizerConfig(size=size.words),
        )
        with tempfile.TemporaryDirectory() as directory:
            corpus = load_corpus(config, Path(directory))
        batches = TrainingBatches(corpus.train, config.data, config.training.seed, len(jax.devices()))
        padding = batches.padding_fraction()
        print(f"{system}: {len(batches.shapes)} shapes, {padding:.1%} of the target positions are padding")
        indices = range(min(size.batches, batches.batches_per_epoch))
        self.batches = [batches[index] for index in indices]
        pairs = np.concatenate([batches.plans(0)[index].rows.values for index in indices])
        lengths = (side[pairs] for side in corpus.train.lengths())
        self.flops = int(training_flops(size.model, size.words, *lengths).sum())
        self.tokens = sum(int((batch.target_segments != 0).sum()) for batch in self.batches)
        self.update = SYSTEMS[system](config)

    def __call__(self) -> dict[str, float]:
        """Train on all batches, and return target tokens per second and floating-point operations per second."""
        began = time.perf_counter()
        for batch in self.batches:
            loss = self.update(batch)
        float(loss)
        seconds = time.perf_counter() - began
        return {"tokens/s": self.tokens / seconds, "FLOP/s": self.flops / seconds}


def product_rate(dtype: str) -> float:
    """Return the FLOP/s of XLA's products of two large square matrices, as the best of five runs."""
    # On an accelerator, a single small product would mostly measure the time until it starts.
    size, products = (4096, 1) if jax.default_backend() == "cpu" else (8192, 20)
    # Random numbers: GPUs run at a higher clock frequency on constant matrices.
    left, right = (jax.random.normal(jax.random.key(seed), (size, size), dtype) for seed in range(2))
    product = jax.jit(jnp.matmul)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        jax.block_until_ready([product(left, right) for _ in range(products)])
        times.append(time.perf_counter() - began)
    return 2 * products * size**3 / min(times[1:])


def measure(benchmark: TrainingBenchmark, name: str) -> dict[str, Spread]:
    """Time the training step of one model size, and return measurement name -> spread.

    The measurements alternate between the systems.
    """
    size = SUITES[benchmark.suite][name]
    runners: dict[str, Any] = {system: partial(TrainingRunner, benchmark, size, system) for system in benchmark.systems}
    measured = measure_in_turn(runners, benchmark.repeats)
    if not benchmark.repeats:
        return {}
    speeds = {system: [repeat["tokens/s"] for repeat in measured[system]] for system in benchmark.systems}
    results = {f"{name}, {system}": spread_of(values) for system, values in speeds.items()}
    if len(speeds) > 1:
        ratios = [a / b for a, b in zip(speeds["transformer_jax"], speeds["PyTorch"], strict=True)]
        results[f"{name}, ratio"] = spread_of(ratios)
    rate = product_rate(size.model.dtype)
    results[f"{name}, GFLOP/s of a large product"] = spread_of([rate / 1e9])
    for system in benchmark.systems:
        shares = [repeat["FLOP/s"] / rate for repeat in measured[system]]
        results[f"{name}, {system}: share of the product"] = spread_of(shares)
        hours = [100_000 * 25_000 / speed / 3600 for speed in speeds[system]]
        results[f"{name}, {system}: hours for 100,000 steps of 25,000"] = spread_of(hours)
    return results


def main() -> None:
    """Measure the training speed and print a report."""
    benchmark = tyro.cli(TrainingBenchmark)
    baseline = read_baseline(benchmark.output, benchmark.against)
    if "PyTorch" in benchmark.systems:
        require_packages("torch")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # Both systems share one GPU.
    use_compilation_cache()  # The processes of the systems inherit this setting.
    measured: dict[str, Spread] = {}
    for name in SUITES[benchmark.suite]:
        measured |= measure(benchmark, name)
        write_record(measured, UNIT, benchmark.output)
    report(measured, UNIT, benchmark.output, baseline)


if __name__ == "__main__":
    restart_with_tuned_malloc()
    main()
