"""Training speed beside PyTorch, in one run: real target tokens a second, padding left out.

    python -m benchmarks.training --train "data/multi30k/train.{lang}.gz" --output before.json
    python -m benchmarks.training --suite toy    # seconds, on the phrasebook

Both train the same model on the same sentences, in batches of the same number of target positions: here in packed rows,
in PyTorch, which compiles nothing, in a bucket for every length. Each has a process of its own, and their repeats alternate. Needs
requirements-parity.txt.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from benchmarks.record import Spread, alternate, report, spread
from transformer_jax import config as configs
from transformer_jax.allocator import restart_with_settings
from transformer_jax.data.batches import Batch
from transformer_jax.data.pipeline import TrainingBatches
from transformer_jax.fit import Corpus, build, load_corpus
from transformer_jax.sharding import make_mesh, put_batch

Update = Callable[[Batch], Any]


@dataclass(frozen=True)
class Size:
    """What is trained: a model, and how much of it is measured at a time."""

    model: configs.ModelConfig
    batch_tokens: int
    batches: int
    """In each repeat."""


TINY = configs.ModelConfig(d_model=128, d_ff=256, heads=4, encoder_layers=4, decoder_layers=4, dropout=0.3)
BASE = configs.ModelConfig()
SUITES = {
    "toy": {"toy": Size(configs.ModelConfig(8, 16, 2, 1, 1), batch_tokens=256, batches=1)},
    "cpu": {"TINY": Size(TINY, 4096, batches=24), "BASE": Size(BASE, 4096, batches=4)},
}


@dataclass(frozen=True)
class Benchmark:
    """Measure training speed beside PyTorch."""

    suite: Literal["toy", "cpu"] = "cpu"
    """Which sizes."""
    train: str = "phrasebook"
    """Training pairs: any locator of train.py."""
    repeats: int = 5
    """Measurements of each; the median counts."""
    output: Path | None = None
    """JSON file to write."""
    against: Path | None = None
    """JSON file of an earlier run, to compare with."""


def ours(config: configs.Config, corpus: Corpus) -> Update:
    """One update of this package, as train.py makes it."""
    machinery = build(config, make_mesh(config.mesh), corpus.tokenizers)
    state = machinery.state

    def update(batch: Batch) -> Any:
        nonlocal state
        state, metrics = machinery.train_step(state, put_batch(batch, machinery.mesh))
        return metrics

    return update


def pytorch(config: configs.Config, corpus: Corpus) -> Update:
    """One update of the PyTorch loop."""
    from benchmarks.peers.torch_loop import TorchTraining

    return TorchTraining(config.model, len(corpus.tokenizers.source), config.data.max_length).step


SYSTEMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "transformer_jax": (ours, {"batching": "packed", "row_length": 32}),
    "PyTorch": (pytorch, {"batching": "buckets", "buckets": 64}),
}
"""Name -> (what makes its update, how sentences are put into batches)."""


class Runner:
    """One system with its batches; a call measures it once."""

    def __init__(self, benchmark: Benchmark, size: Size, system: str) -> None:
        make, batching = SYSTEMS[system]
        config = configs.Config(
            model=size.model,
            data=configs.DataConfig(
                train=benchmark.train,
                valid=benchmark.train,
                test=benchmark.train,
                max_length=64,
                batch_tokens=size.batch_tokens,
                **batching,
            ),
            tokenizer=configs.TokenizerConfig(size=10_000),
        )
        with tempfile.TemporaryDirectory() as folder:
            corpus = load_corpus(config, Path(folder))
        source = TrainingBatches(corpus.train, config.data, config.training.seed, len(jax.devices()))
        print(f"{system}: {len(source.shapes)} shapes, {source.padding():.1%} of the target positions are padding")
        self.batches = [source[index] for index in range(size.batches)]
        self.update = make(config, corpus)

    def __call__(self) -> float:
        """Real target tokens of the batches, over the time until the last update is done."""
        began = time.perf_counter()
        for batch in self.batches:
            result = self.update(batch)
        jax.block_until_ready(result)
        return sum(int((batch.target_segments != 0).sum()) for batch in self.batches) / (time.perf_counter() - began)


def measure(benchmark: Benchmark) -> dict[str, Spread]:
    """Every size of the suite, ours and PyTorch's in turn."""
    results: dict[str, Spread] = {}
    for name, size in SUITES[benchmark.suite].items():
        runners = {system: partial(Runner, benchmark, size, system) for system in SYSTEMS}
        speeds = alternate(runners, benchmark.repeats)
        results |= {f"{name}, {system}": spread(values) for system, values in speeds.items()}
        ratios = [mine / theirs for mine, theirs in zip(speeds["transformer_jax"], speeds["PyTorch"], strict=True)]
        results[f"{name}, ratio"] = spread(ratios)
    return results


def main() -> None:
    """Measure and report."""
    benchmark = tyro.cli(Benchmark)
    report(measure(benchmark), "real target tokens a second", benchmark.output, benchmark.against)


if __name__ == "__main__":
    restart_with_settings()
    main()
