"""Start-up time of training by corpus size: the time from opening the data to the first batch, without imports.

    python -m benchmarks.startup --output before.json
    python -m benchmarks.startup --pairs 1000 10000 --against before.json

The first start reads the text, trains the tokenizers, encodes the text and writes the token ids. It is measured once
per corpus size. Later starts are measured several times, each in its own process, with the files in the page cache.
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

from benchmarks.record import Spread, read_baseline, report, spread_of
from transformer_jax.config import Config, DataConfig, save_config
from transformer_jax.data.pipeline import TrainingBatches
from transformer_jax.data.sources import open_pairs
from transformer_jax.runtime.malloc import restart_with_tuned_malloc
from transformer_jax.training.corpus import load_corpus


@dataclass(frozen=True)
class StartupBenchmark:
    """Measure the start-up time of training."""

    pairs: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
    """Corpus sizes in sentence pairs. Ten million pairs need 2 GB in the temporary directory."""
    repeats: int = 3
    """Number of later starts per corpus size. Their median is reported."""
    output: Path | None = None
    """JSON file for the measurements."""
    against: Path | None = None
    """JSON file of an earlier run to compare with."""


def write_corpus(stem: Path, pairs: int) -> None:
    """Write a parallel corpus with one or two phrasebook sentences per line. The text repeats after 100,000 lines."""
    random = np.random.default_rng(0)
    phrases = list(open_pairs("phrasebook", "en", "de", "train"))
    lines = [
        [phrases[index] for index in random.integers(len(phrases), size=random.integers(1, 3))]
        for _ in range(min(pairs, 100_000))
    ]
    for side, language in enumerate(("en", "de")):
        texts = [" ".join(pair[side] for pair in line) + "\n" for line in lines]
        with stem.with_suffix(f".{language}").open("w") as file:
            for written in range(0, pairs, len(texts)):
                file.writelines(texts[: pairs - written])


def start_training(config: Config, workdir: Path) -> dict[str, float]:
    """Start training once in this process, and return the seconds per phase and the maximum memory."""
    workdir.mkdir(exist_ok=True)
    began = time.perf_counter()
    corpus = load_corpus(config, workdir)
    batches = TrainingBatches(corpus.train, config.data, config.training.seed, batch_multiple=1)
    batches[0]
    started = time.perf_counter()
    batches.plans(1)
    planned = time.perf_counter()
    corpus.texts.save(workdir)
    save_config(config, workdir / "config.json")  # The next start reuses the tokenizers only if it exists.
    indices = range(min(50, batches.batches_per_epoch))
    for index in indices:
        batches[index]
    return {
        "start": started - began,
        "plan": planned - started,
        "batch": (time.perf_counter() - planned) / len(indices),
        "MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,  # Linux reports KiB.
    }


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function in a new process, so that its memory and caches do not affect later measurements."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def measure_size(pairs: int, repeats: int, directory: Path) -> dict[str, Spread]:
    """Measure one first start and two kinds of later start: with length buckets and with packed rows.

    Returns measurement name -> spread.
    """
    in_new_process(write_corpus, directory / "train", pairs)
    in_new_process(write_corpus, directory / "valid", 1_000)
    valid = str(directory / "valid.{lang}")
    packed = Config(data=DataConfig(str(directory / "train.{lang}"), valid, valid))
    buckets = replace(packed, data=replace(packed.data, batching="buckets"))
    os.environ["TRANSFORMER_JAX_CORPORA"] = str(directory / "corpora")
    results: dict[str, Spread] = {}
    for name, config, times in (
        ("first", packed, 1),
        ("later, buckets", buckets, repeats),
        ("later, packed", packed, repeats),
    ):
        runs = [in_new_process(start_training, config, directory / "run") for _ in range(times)]
        results |= {f"{pairs:,} pairs, {name}: {part}": spread_of([run[part] for run in runs]) for part in runs[0]}
    return results


def main() -> None:
    """Measure the start-up times and print a report."""
    benchmark = tyro.cli(StartupBenchmark)
    baseline = read_baseline(benchmark.output, benchmark.against)
    measured: dict[str, Spread] = {}
    for pairs in benchmark.pairs:
        with tempfile.TemporaryDirectory() as directory:
            measured |= measure_size(pairs, benchmark.repeats, Path(directory))
    report(measured, "seconds; maximum resident MiB", benchmark.output, baseline)


if __name__ == "__main__":
    restart_with_tuned_malloc()
    main()
