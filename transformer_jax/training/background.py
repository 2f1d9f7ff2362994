"""Compilation in the background while the run trains."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor

import jax


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
        self.thread.shutdown(cancel_futures=True)


def is_worthwhile() -> bool:
    """Return whether background compilation saves time. On a CPU, training needs all cores."""
    return jax.default_backend() != "cpu"
