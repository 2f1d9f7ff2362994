"""One call for the requests that come at about the same time.

A thread takes the first request that waits, gives others a few milliseconds to come, and answers all of them with one
call. What comes meanwhile is the next batch, so the more is asked, the larger the batches are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from transformer_jax.errors import RunError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Answers the items of any number of threads, in batches; a context, at whose end nothing waits any more.

    answer_all: one answer for each item, in order; it is called by one thread only. seconds: how long the first item
    of a batch waits for others; most: items in a batch; room: items that may wait, beyond which they are refused.
    """

    def __init__(
        self,
        answer_all: Callable[[Sequence[Item]], Sequence[Answer]],
        seconds: float = 0.005,
        most: int = 64,
        room: int = 256,
    ) -> None:
        self._answer_all = answer_all
        self._seconds, self._most, self._room = seconds, most, room
        self._waiting: list[tuple[Item, Future[Answer]]] = []
        self._closed = False
        self._changed = threading.Condition()  # Guards the two above.
        self._thread = threading.Thread(target=self._work, name="batches")

    def __enter__(self) -> Batcher[Item, Answer]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the call at hand end, and refuse what still waits."""
        with self._changed:
            self._closed = True
            refused, self._waiting = self._waiting, []
            self._changed.notify_all()
        for _item, future in refused:
            if future.set_running_or_notify_cancel():
                future.set_exception(ending())
        self._thread.join()

    def submit(self, item: Item) -> Future[Answer]:
        """Its answer, or what ``answer_all`` raised for it; if it is cancelled in time, nothing is done for it.

        Raises RunError if too many wait already, or after the end.
        """
        future: Future[Answer] = Future()
        with self._changed:
            if self._closed:
                raise ending()
            if len(self._waiting) >= self._room:
                raise RunError(f"{self._room} requests are waiting already. Try again in a moment.")
            self._waiting.append((item, future))
            self._changed.notify_all()
        return future

    def _work(self) -> None:
        while not self._closed:
            batch = self._collect()
            self._answer([(item, future) for item, future in batch if future.set_running_or_notify_cancel()])

    def _collect(self) -> list[tuple[Item, Future[Answer]]]:
        """The next batch, as soon as it is full or its first item has waited long enough; at the end it is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            self._changed.wait_for(lambda: self._closed or len(self._waiting) >= self._most, self._seconds)
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            return batch

    def _answer(self, batch: list[tuple[Item, Future[Answer]]]) -> None:
        if not batch:
            return
        try:
            answered = list(zip(batch, self._answer_all([item for item, _ in batch]), strict=True))
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            # One of them may be at fault: alone, each gets its own answer or its own error.
            for one in batch:
                self._answer([one])
        else:
            for (_, future), answer in answered:
                future.set_result(answer)


def ending() -> RunError:
    """What is answered when no more can be."""
    return RunError("the server is ending. Try again when it has been started anew.")
