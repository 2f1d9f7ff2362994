"""Dynamic batching: requests that arrive within a few milliseconds are processed in one call.

A worker thread takes the first waiting item, waits briefly for others and processes all of them together. Items that
arrive during a call form the next batch, so batches grow with the load.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from transformer_jax.errors import RunError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """A context manager that processes the items of all threads in batches. On exit, it refuses the waiting items.

    process_batch: returns one result per item, in order. Only the worker thread calls it.
    max_delay: seconds that the first item of a batch waits for others.
    max_batch_size: maximum number of items in a batch.
    max_waiting: maximum number of waiting items. Further items are refused.
    """

    def __init__(
        self,
        process_batch: Callable[[Sequence[Item]], Sequence[Result]],
        max_delay: float = 0.005,
        max_batch_size: int = 64,
        max_waiting: int = 256,
    ) -> None:
        self._process_batch = process_batch
        self._max_delay = max_delay
        self._max_batch_size = max_batch_size
        self._max_waiting = max_waiting
        self._changed = threading.Condition()  # Guards the two attributes below.
        self._waiting: list[tuple[Item, Future[Result]]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batches")

    def __enter__(self) -> Batcher[Item, Result]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Refuse waiting items and wait for the current call to finish."""
        with self._changed:
            self._closed = True
            refused, self._waiting = self._waiting, []
            self._changed.notify_all()
        for _item, future in refused:
            if future.set_running_or_notify_cancel():
                future.set_exception(shutdown_error())
        self._thread.join()

    def submit(self, item: Item) -> Future[Result]:
        """Queue the item, and return a future for its result. An item cancelled while it waits is not processed.

        Raises RunError if too many items are waiting or the batcher is closed.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                raise shutdown_error()
            if len(self._waiting) >= self._max_waiting:
                raise RunError(f"{self._max_waiting} requests are already waiting. Try again in a moment.")
            self._waiting.append((item, future))
            self._changed.notify_all()
        return future

    def _work(self) -> None:
        while not self._closed:
            batch = self._next_batch()
            self._process([(item, future) for item, future in batch if future.set_running_or_notify_cancel()])

    def _next_batch(self) -> list[tuple[Item, Future[Result]]]:
        """Return the next batch, once it is full or its first item has waited long enough.

        Return an empty list on shutdown.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            self._changed.wait_for(lambda: self._closed or len(self._waiting) >= self._max_batch_size, self._max_delay)
            batch = self._waiting[: self._max_batch_size]
            self._waiting = self._waiting[self._max_batch_size :]
            return batch

    def _process(self, batch: list[tuple[Item, Future[Result]]]) -> None:
        if not batch:
            return
        try:
            processed = list(zip(batch, self._process_batch([item for item, _ in batch]), strict=True))
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            # One item may have caused the error, so each item is processed separately.
            for entry in batch:
                self._process([entry])
        else:
            for (_, future), result in processed:
                future.set_result(result)


def shutdown_error() -> RunError:
    """Return the error for requests that arrive or wait while the server shuts down."""
    return RunError("the server is shutting down. Try again after it has restarted.")
