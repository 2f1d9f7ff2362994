"""Compilation in the background while the run trains."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import jax

from transformer_jax.config import Config
from transformer_jax.data.batches import BatchShape
from transformer_jax.training.compiled import CompiledFunctions, abstract_batch
from transformer_jax.training.corpus import Corpus
from transformer_jax.training.validation import compile_translation, compile_validation_loss

VALIDATION_TASKS = {"validation loss": compile_validation_loss, "translation": compile_translation}
"""Name -> task that compiles a part of the first validation."""


class BackgroundCompiler:
    """A thread that compiles programs before the run needs them.

    JAX keeps each compiled program, so the next call of the jitted function with the same shapes does not compile.
    Compiling involves no other process of the run. A task must not call jitted functions, because every process has to
    run the programs that involve all devices in the same order.
    """

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, "compile")
        self.tasks: dict[Hashable, Future[None]] = {}

    def start(self, name: Hashable, compile_programs: Callable[[], None]) -> None:
        """Start a task, after all earlier ones.

        name: name of the task for ``wait``.
        """
        self.tasks[name] = self.thread.submit(compile_programs)

    def wait(self, name: Hashable) -> None:
        """Wait until the task is finished, and raise its error. Without such a task, do nothing."""
        if name in self.tasks:
            self.tasks.pop(name).result()

    def close(self) -> None:
        """Drop the tasks that have not begun, and wait for the one that has. A compilation cannot be interrupted."""
        if any(task.running() for task in self.tasks.values()):
            logging.info("waiting for a compilation to finish ...")
        self.thread.shutdown(cancel_futures=True)


def is_worthwhile() -> bool:
    """Return whether background compilation saves time. On a CPU, training needs all cores."""
    return jax.default_backend() != "cpu"


def compile_ahead(
    compiler: BackgroundCompiler,
    config: Config,
    corpus: Corpus,
    functions: CompiledFunctions,
    shapes: Sequence[BatchShape],
) -> None:
    """Start one task per batch shape, which compiles the training step for it, and then ``VALIDATION_TASKS``.

    shapes: the shapes of the training batches, which also name their tasks.
    """

    def compile_step(shape: BatchShape) -> None:
        functions.train_step.lower(functions.state, abstract_batch(shape, functions.mesh)).compile()

    if isinstance(functions.train_step, jax.stages.Wrapped):  # --debug-nans calls it in a function that is not jitted.
        for shape in shapes:
            compiler.start(shape, partial(compile_step, shape))
    for name, compile_programs in VALIDATION_TASKS.items():
        compiler.start(name, partial(compile_programs, config, corpus, functions))
