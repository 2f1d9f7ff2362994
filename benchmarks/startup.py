"""Start-up of training by the size of the corpus: from opening the data to the first batch, libraries imported before.

    python -m benchmarks.startup --output before.json
    python -m benchmarks.startup --pairs 1000 10000 --against before.json

The first start reads the text, trains tokenizers, encodes and writes; it is measured once for each size. Later starts
are repeated, each in a process of its own, with the files still in the system's cache.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.record import Spread, compared, report, spread
from transformer_jax.config import Config, DataConfig, save_config
from transformer_jax.data.pipeline import TrainingBatches
from transformer_jax.data.sources import open_pairs
from transformer_jax.runtime.malloc import restart_with_settings
from transformer_jax.training.corpus import load_corpus


@dataclass(frozen=True)
class Benchmark:
    """Measure how long training takes to start."""

    pairs: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
    """Sizes of corpora; ten million pairs take 2 GB in the temporary folder."""
    repeats: int = 3
    """Later starts of each; the median counts."""
    output: Path | None = None
    """JSON file to write."""
    against: Path | None = None
    """JSON file of an earlier run, to compare with."""


def write_corpus(stem: Path, pairs: int) -> None:
    """Lines of one or two sentences of the phrasebook; after 100,000 lines they repeat."""
    random = np.random.default_rng(0)
    phrases = list(open_pairs("phrasebook", "en", "de", "train"))
    lines = [
        [phrases[number] for number in random.integers(len(phrases), size=random.integers(1, 3))]
        for _ in range(min(pairs, 100_000))
    ]
    for side, language in enumerate(("en", "de")):
        texts = [" ".join(pair[side] for pair in line) + "\n" for line in lines]
        with stem.with_suffix(f".{language}").open("w") as file:
            for written in range(0, pairs, len(texts)):
                file.writelines(texts[: pairs - written])


def start(config: Config, workdir: Path) -> dict[str, float]:
    """What one start takes in this process."""
    workdir.mkdir(exist_ok=True)
    began = time.perf_counter()
    corpus = load_corpus(config, workdir)
    batches = TrainingBatches(corpus.train, config.data, config.training.seed, batch_multiple=1)
    batches[0]
    started = time.perf_counter()
    batches.plans(1)
    planned = time.perf_counter()
    save_config(config, workdir / "config.json")  # As a run does: its next start finds its tokenizers.
    numbers = range(min(50, batches.batches_per_epoch))
    for number in numbers:
        batches[number]
    return {
        "start": started - began,
        "plan": planned - started,
        "batch": (time.perf_counter() - planned) / len(numbers),
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # Linux counts in KiB.
    }


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The function's result; what it takes of memory and caches is gone with its process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def measure_size(pairs: int, repeats: int, folder: Path) -> dict[str, Spread]:
    """The first start and later ones, with both ways of batching."""
    in_new_process(write_corpus, folder / "train", pairs)
    in_new_process(write_corpus, folder / "valid", 1_000)
    valid = str(folder / "valid.{lang}")
    packed = Config(data=DataConfig(str(folder / "train.{lang}"), valid, valid))
    buckets = replace(packed, data=replace(packed.data, batching="buckets"))
    os.environ["TRANSFORMER_JAX_CORPORA"] = str(folder / "corpora")
    results: dict[str, Spread] = {}
    for name, config, times in (
        ("first", packed, 1),
        ("later, buckets", buckets, repeats),
        ("later, packed", packed, repeats),
    ):
        runs = [in_new_process(start, config, folder / "run") for _ in range(times)]
        results |= {f"{pairs:,} pairs, {name}: {part}": spread([run[part] for run in runs]) for part in runs[0]}
    return results


def main() -> None:
    """Measure and report."""
    benchmark = tyro.cli(Benchmark)
    earlier = compared(benchmark.output, benchmark.against)
    measured: dict[str, Spread] = {}
    for pairs in benchmark.pairs:
        with tempfile.TemporaryDirectory() as folder:
            measured |= measure_size(pairs, benchmark.repeats, Path(folder))
    report(measured, "seconds; MiB of resident memory at most", benchmark.output, earlier)


if __name__ == "__main__":
    restart_with_settings()
    main()
