"""Training speed beside PyTorch, in one run: real target tokens a second, padding left out.

    python -m benchmarks.training --train "data/multi30k/train.{lang}.gz" --output before.json
    python -m benchmarks.training --suite toy    # seconds, on the phrasebook

Both see the same sentences in batches of the same number of target positions; PyTorch, which compiles nothing, gets
buckets for every length. Repeats of the two alternate. Needs requirements-parity.txt.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

from benchmarks.record import Spread, report, spread
from transformer_jax import config as configs
from transformer_jax.allocator import restart_with_settings
from transformer_jax.data.batches import Batch
from transformer_jax.data.pipeline import TrainingBatches
from transformer_jax.fit import Corpus, build, load_corpus
from transformer_jax.sharding import make_mesh, put_batch

TINY = configs.ModelConfig(d_model=128, d_ff=256, heads=4, encoder_layers=4, decoder_layers=4, dropout=0.3)
BASE = configs.ModelConfig()
SUITES = {
    "toy": {"toy": (configs.ModelConfig(8, 16, 2, 1, 1), 256, 1)},
    "cpu": {"TINY": (TINY, 4096, 24), "BASE": (BASE, 4096, 3)},
}
"""Name -> size -> (model, target positions a batch, batches a repeat)."""


@dataclass(frozen=True)
class Benchmark:
    """Measure training speed beside PyTorch."""

    suite: Literal["toy", "cpu"] = "cpu"
    """Which sizes."""
    train: str = "phrasebook"
    """Training pairs: any locator of train.py."""
    valid: str = "phrasebook"
    """Validation pairs, of the same kind; opened, not used."""
    repeats: int = 5
    """Measurements of each; the median counts."""
    output: Path | None = None
    """JSON file to write."""
    against: Path | None = None
    """JSON file of an earlier run, to compare with."""


def settings(benchmark: Benchmark, model: configs.ModelConfig, batch_tokens: int) -> configs.Config:
    """The run that is measured: the recipe's settings for a CPU, the given model."""
    return configs.Config(
        model=model,
        data=configs.DataConfig(
            train=benchmark.train,
            valid=benchmark.valid,
            test=benchmark.valid,
            batch_tokens=batch_tokens,
            max_length=64,
            buckets=12,
        ),
        tokenizer=configs.TokenizerConfig(size=10_000),
    )


def ours(config: configs.Config, corpus: Corpus) -> Callable[[Batch], Any]:
    """One update of this package, as train.py makes it."""
    machinery = build(config, make_mesh(config.mesh), corpus.tokenizers)
    state = machinery.state

    def update(batch: Batch) -> Any:
        nonlocal state
        state, metrics = machinery.train_step(state, put_batch(batch, machinery.mesh))
        return metrics

    return update


def pytorch(config: configs.Config, corpus: Corpus) -> Callable[[Batch], Any]:
    """One update of the PyTorch loop."""
    from benchmarks.peers.torch_loop import TorchTraining

    training = TorchTraining(config.model, len(corpus.tokenizers.source), config.data.max_length)
    return training.step


def batches(config: configs.Config, corpus: Corpus, buckets: int, count: int) -> list[Batch]:
    """The first batches of an epoch."""
    data = replace(config.data, buckets=buckets)
    divisor = len(jax.devices())
    source = TrainingBatches(corpus.train, data, config.training.seed, divisor)
    print(f"{len(source.shapes)} shapes, {source.padding():.1%} padding")
    return [source[index] for index in range(count)]


def tokens_per_second(update: Callable[[Batch], Any], measured: Sequence[Batch]) -> float:
    """Real target tokens, over the time until the last update is done."""
    began = time.perf_counter()
    for batch in measured:
        result = update(batch)
    jax.block_until_ready(result)
    return sum(int((batch.target_segments != 0).sum()) for batch in measured) / (time.perf_counter() - began)


def measure(benchmark: Benchmark) -> dict[str, Spread]:
    """Every size of the suite, ours and PyTorch's in turn."""
    results = {}
    for name, (model, batch_tokens, count) in SUITES[benchmark.suite].items():
        config = settings(benchmark, model, batch_tokens)
        with tempfile.TemporaryDirectory() as folder:
            corpus = load_corpus(config, Path(folder))
        systems = {
            "transformer_jax": (ours(config, corpus), batches(config, corpus, config.data.buckets, count)),
            "PyTorch": (pytorch(config, corpus), batches(config, corpus, config.data.max_length, count)),
        }
        speeds: dict[str, list[float]] = {system: [] for system in systems}
        for repeat in range(benchmark.repeats + 1):
            for system, (update, measured) in systems.items():
                speed = tokens_per_second(update, measured)
                if repeat:  # The first compiles and warms up.
                    speeds[system].append(speed)
        ratios = np.divide(speeds["transformer_jax"], speeds["PyTorch"])
        results |= {f"{name}, {system}": spread(values) for system, values in speeds.items()}
        results[f"{name}, ratio"] = spread(ratios.tolist())
    return results


def main() -> None:
    """Measure and report."""
    benchmark = tyro.cli(Benchmark)
    report(measure(benchmark), "real target tokens a second", benchmark.output, benchmark.against)


if __name__ == "__main__":
    restart_with_settings()
    sys.exit(main())
