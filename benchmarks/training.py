"""Training speed beside PyTorch, in one run: real target tokens a second, padding left out.

    python -m benchmarks.training --train "data/multi30k/train.{lang}.gz" --output before.json
    python -m benchmarks.training --suite toy    # seconds, on the phrasebook
    python -m benchmarks.training --suite gpu --train "data/wmt14/train.{lang}.gz"    # bfloat16, rows of 256 tokens

Both train the same model on the same sentences, in batches of the same number of target positions: here in packed rows,
in PyTorch, which compiles nothing on a CPU, in a bucket for every length. Each has a process of its own, and their
repeats alternate. The share of the machine's rate is that of one large matrix product, measured in the same run. Needs
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

from benchmarks.record import Spread, alternate, compared, report, require, spread
from transformer_jax.config import Config, DataConfig, ModelConfig, TokenizerConfig
from transformer_jax.data.batches import Batch
from transformer_jax.data.pipeline import TrainingBatches
from transformer_jax.model.flops import training_flops
from transformer_jax.runtime.malloc import restart_with_settings
from transformer_jax.sharding import make_mesh, put_batch
from transformer_jax.training.compiled import prepare
from transformer_jax.training.corpus import Corpus, load_corpus

Update = Callable[[Batch], Any]
"""One update; ``float`` of what it returns waits until it is done."""


@dataclass(frozen=True)
class Size:
    """What is trained: a model, and how much of it is measured at a time."""

    model: ModelConfig
    batch_tokens: int
    batches: int
    """In each repeat."""
    words: int = 10_000
    """Of the vocabulary."""
    max_length: int = 64
    row_length: int = 40
    """Of our packed rows."""
    buckets: int = 64
    """PyTorch's: on a CPU, where it compiles nothing, one for every length."""


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
class Benchmark:
    """Measure training speed beside PyTorch."""

    suite: Literal["toy", "cpu", "gpu"] = "cpu"
    """Which sizes."""
    train: str = "phrasebook"
    """Training pairs: any locator of train.py."""
    repeats: int = 5
    """Measurements of each; the median counts."""
    output: Path | None = None
    """JSON file to write."""
    against: Path | None = None
    """JSON file of an earlier run, to compare with."""


def ours(config: Config, corpus: Corpus) -> Update:
    """One update of this package, as train.py makes it."""
    program = prepare(config, make_mesh(config.mesh), *map(len, corpus.tokenizers))
    state = program.initialize()

    def update(batch: Batch) -> Any:
        nonlocal state
        state, metrics = program.train_step(state, put_batch(batch, program.mesh))
        return metrics["loss"]

    return update


def pytorch(config: Config, corpus: Corpus) -> Update:
    """One update of the PyTorch loop."""
    from benchmarks.peers.torch_loop import TorchTraining

    return TorchTraining(config.model, len(corpus.tokenizers.source), config.data.max_length).step


SYSTEMS = {"transformer_jax": ours, "PyTorch": pytorch}


class Runner:
    """One system with its batches; a call measures it once."""

    def __init__(self, benchmark: Benchmark, size: Size, system: str) -> None:
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
        with tempfile.TemporaryDirectory() as folder:
            corpus = load_corpus(config, Path(folder))
        source = TrainingBatches(corpus.train, config.data, config.training.seed, len(jax.devices()))
        print(f"{system}: {len(source.shapes)} shapes, {source.padding():.1%} of the target positions are padding")
        numbers = range(min(size.batches, source.batches_per_epoch))
        self.batches = [source[number] for number in numbers]
        pairs = np.concatenate([source.plans(0)[number].rows.values for number in numbers])
        lengths = (side[pairs] for side in corpus.train.lengths())
        self.flops = int(training_flops(size.model, len(corpus.tokenizers.target), *lengths).sum())
        self.tokens = sum(int((batch.target_segments != 0).sum()) for batch in self.batches)
        self.update = SYSTEMS[system](config, corpus)

    def __call__(self) -> dict[str, float]:
        """Real target tokens, and operations counted on them, a second until the last update is done."""
        began = time.perf_counter()
        for batch in self.batches:
            result = self.update(batch)
        float(result)
        seconds = time.perf_counter() - began
        return {"tokens/s": self.tokens / seconds, "FLOP/s": self.flops / seconds}


def product_rate(dtype: str, size: int = 4096) -> float:
    """Operations a second of XLA's product of two square matrices, the fastest of five."""
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        jax.block_until_ready(product(matrix, matrix))
        times.append(time.perf_counter() - began)
    return 2 * size**3 / min(times[1:])


def measure(benchmark: Benchmark) -> dict[str, Spread]:
    """Every size of the suite, ours and PyTorch's in turn."""
    results: dict[str, Spread] = {}
    for name, size in SUITES[benchmark.suite].items():
        runners = {system: partial(Runner, benchmark, size, system) for system in SYSTEMS}
        measured = alternate(runners, benchmark.repeats)
        speeds = {system: [one["tokens/s"] for one in measured[system]] for system in SYSTEMS}
        results |= {f"{name}, {system}": spread(values) for system, values in speeds.items()}
        ratios = [mine / theirs for mine, theirs in zip(speeds["transformer_jax"], speeds["PyTorch"], strict=True)]
        results[f"{name}, ratio"] = spread(ratios)
        rate = product_rate(size.model.dtype)
        shares = [one["FLOP/s"] / rate for one in measured["transformer_jax"]]
        results[f"{name}, GFLOP/s of a large product"] = spread([rate / 1e9])
        results[f"{name}, share of that"] = spread(shares)
        hours = [100_000 * 25_000 / speed / 3600 for speed in speeds["transformer_jax"]]
        results[f"{name}, hours for 100,000 steps of 25,000"] = spread(hours)
    return results


def main() -> None:
    """Measure and report."""
    benchmark = tyro.cli(Benchmark)
    earlier = compared(benchmark.output, benchmark.against)
    require("torch")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # Several processes share a GPU.
    report(measure(benchmark), "real target tokens a second", benchmark.output, earlier)


if __name__ == "__main__":
    restart_with_settings()
    main()
