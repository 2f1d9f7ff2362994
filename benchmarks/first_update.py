"""Time to the first update and to the end of the first validation, by part.

    python -m benchmarks.first_update --recipe phrasebook --output phrasebook.json
    python -m benchmarks.first_update --recipe wmt14_base --topology v5e:1x1    # needs libtpu: pip install "jax[tpu]"

The first start has no prepared corpus and no compiled programs on disk. The second start has both. Each runs in its own
process. With a topology, the programs of a training step are compiled for a TPU slice, without data and without TPU.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jax
import tyro

from benchmarks.record import Spread, read_baseline, report, spread_of
from transformer_jax.commands.recipe import find_recipe, load_recipe
from transformer_jax.config import Config, MeshConfig, save_config
from transformer_jax.data.batches import BatchShape
from transformer_jax.data.pipeline import TrainingBatches
from transformer_jax.resources.programs import shapes_for
from transformer_jax.resources.topologies import find_topology
from transformer_jax.runtime.malloc import restart_with_tuned_malloc
from transformer_jax.sharding import batch_multiple, make_mesh, put_batch
from transformer_jax.training.compiled import abstract_batch, jit_functions
from transformer_jax.training.corpus import load_corpus
from transformer_jax.training.validation import compile_translation, compile_validation_loss, score_validation_set


@dataclass(frozen=True)
class FirstUpdateBenchmark:
    """Measure the parts of the time to the first update."""

    recipe: str = "phrasebook"
    """Name or path of the recipe."""
    topology: str | None = None
    """TPU slice, such as v5e:1x1 or v5e:2x2, for which the training step is only compiled."""
    output: Path | None = None
    """JSON file for the measurements."""
    against: Path | None = None
    """JSON file of an earlier run to compare with."""


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Store the duration of a block as ``seconds[part]``."""
    began = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - began


def compile_step(seconds: dict[str, float], train_step: Any, state: Any, batch: Any) -> Any:
    """Compile the training step and store the durations of the three phases. Return the compiled step."""
    with timed(seconds, "trace step"):
        traced = train_step.trace(state, batch)
    with timed(seconds, "lower step"):
        lowered = traced.lower()
    with timed(seconds, "compile step"):
        return lowered.compile()


def start(config: Config, workdir: Path, began: float) -> dict[str, float]:
    """Start a run in this process, and return the seconds per part.

    began: time.time() before the process was started.
    """
    seconds = {"imports": time.time() - began}
    with timed(seconds, "data and tokenizers"):
        corpus = load_corpus(config, workdir)
        corpus.texts.save(workdir)
        save_config(config, workdir / "config.json")  # The second start reuses the tokenizers only if it exists.
    with timed(seconds, "batches"):
        mesh = make_mesh(config.mesh)
        multiple = batch_multiple(mesh) * config.training.accumulate
        batches = TrainingBatches(corpus.train, config.data, config.training.seed, multiple)
        batch = put_batch(batches[0], mesh)
    functions = jit_functions(config, mesh, *map(len, corpus.tokenizers))
    with timed(seconds, "initialize state"):
        state = jax.block_until_ready(functions.initialize())
    step = compile_step(seconds, functions.train_step, state, batch)
    for part in ("first step", "second step"):
        with timed(seconds, part):
            state, _ = jax.block_until_ready(step(state, batch))
    seconds["first update"] = sum(seconds.values()) - seconds["second step"]
    with timed(seconds, "compile validation loss"):
        compile_validation_loss(config, corpus, functions)
    with timed(seconds, "compile translation"):
        compile_translation(config, corpus, functions)
    for part in ("first validation", "second validation"):
        with timed(seconds, part):
            score_validation_set(config, corpus, functions, state, lambda: False)
    return seconds


def measure_starts(config: Config) -> dict[str, float]:
    """Measure a first and a second start. Returns the seconds per part."""
    measured: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as directory:
        workdir = Path(directory, "run")
        workdir.mkdir()
        os.environ["TRANSFORMER_JAX_CORPORA"] = str(Path(directory, "corpora"))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(directory, "compiled"))
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
        for name in ("first start", "second start"):
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                seconds = process.submit(start, config, workdir, time.time()).result()
            measured |= {f"{name}: {part}": value for part, value in seconds.items()}
    return measured


def measure_topology(config: Config, topology: str) -> dict[str, float]:
    """Compile the training step for rows of ``max_length``, with all layers and with one layer each.

    topology: name of a TPU slice, whose devices are data-parallel.
    Returns the seconds per part.
    """
    jax.config.update("jax_enable_compilation_cache", False)  # JAX cannot load a program for a missing device.
    mesh = make_mesh(MeshConfig(), find_topology(topology).devices)
    length = config.data.max_length
    multiple = batch_multiple(mesh) * config.training.accumulate
    shape = BatchShape(max(1, config.data.batch_tokens // length // multiple) * multiple, length, length)
    one_layer = dataclasses.replace(config.model, encoder_layers=1, decoder_layers=1)
    measured: dict[str, float] = {}
    for name, model in (("all layers", config.model), ("1 + 1 layers", one_layer)):
        functions = shapes_for(dataclasses.replace(config, model=model), mesh)
        seconds: dict[str, float] = {}
        compile_step(seconds, functions.train_step, functions.state, abstract_batch(shape, mesh))
        measured |= {f"{name}: {part}": value for part, value in seconds.items()}
    return measured


def main() -> None:
    """Measure the parts and print a report."""
    benchmark = tyro.cli(FirstUpdateBenchmark)
    baseline = read_baseline(benchmark.output, benchmark.against)
    config = load_recipe(find_recipe(benchmark.recipe))
    measured = measure_topology(config, benchmark.topology) if benchmark.topology else measure_starts(config)
    rows: dict[str, Spread] = {name: spread_of([value]) for name, value in measured.items()}
    report(rows, f"seconds, {benchmark.recipe}", benchmark.output, baseline)


if __name__ == "__main__":
    restart_with_tuned_malloc()
    main()
