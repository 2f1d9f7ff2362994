"""What a run reports while it trains: metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import jax
from tensorboardX import SummaryWriter

from transformer_jax.errors import RunError
from transformer_jax.storage import atomic


class MetricAccumulator:
    """Metrics since the last report. They stay on the device until they are gathered, so that no step waits for the
    host.
    """

    def __init__(self, max_skipped: int, sums: dict[str, float] | None = None, seconds: float = 0.0) -> None:
        """max_skipped: as in the settings; sums, seconds: of an earlier window to go on with, see ``saved``."""
        self.max_skipped = max_skipped
        self.began = time.monotonic() - seconds
        self.sums = dict(sums or {})
        self.metrics: list[dict[str, jax.Array]] = []

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Note the metrics of one step."""
        self.metrics.append(metrics)

    def pause(self, seconds: float) -> None:
        """Leave out time that was not spent on training."""
        self.began += seconds

    def gather(self, step: int) -> None:
        """Add up what has been noted, the last of it for ``step``.

        Raises RunError if ``max_skipped`` updates in a row were skipped.
        """
        first = step - len(self.metrics) + 1
        for number, metrics in enumerate(jax.device_get(self.metrics), start=first):
            in_a_row = int(metrics["skipped"])
            if in_a_row >= self.max_skipped:
                raise RunError(
                    f"updates {number - in_a_row + 1} to {number} were skipped: their loss or gradients are no finite "
                    "numbers. --debug-nans finds the operation; in another --workdir, try a lower --optimizer.factor."
                )
            for name, value in {**metrics, "skipped": in_a_row > 0, "updates": 1}.items():
                # One after the other, so that a window cut in two by an interruption has the same sums.
                self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.metrics = []

    def saved(self) -> dict[str, Any]:
        """What was gathered, for a window that goes on later."""
        return {"sums": self.sums, "seconds": time.monotonic() - self.began}

    def report(self) -> dict[str, float]:
        """Of what was gathered: means over the target tokens, how many of them a second, and skipped updates."""
        sums = self.sums
        seconds = time.monotonic() - self.began
        counts = {"tokens_per_second": sums["tokens"] / seconds, "skipped": sums["skipped"]}
        updates = sums["updates"] - sums["skipped"]
        if not updates:
            return counts
        return {**means(sums), "gradient_norm": sums["gradient_norm"] / updates, **counts}


def means(sums: dict[str, float]) -> dict[str, float]:
    """Loss and perplexity for each target token, and the share predicted right, from the fields of ``LossSums``."""
    tokens = sums["tokens"]
    return {
        "loss": sums["loss"] / tokens,
        "perplexity": math.exp(min(sums["cross_entropy"] / tokens, 100)),
        "accuracy": sums["correct"] / tokens,
    }


class MetricsWriter:
    """metrics.jsonl and TensorBoard events; written by the first process alone."""

    def __init__(self, workdir: Path, step: int, validated: int) -> None:
        """Go on after ``step``, and after the validation of ``validated``."""
        self.writes = jax.process_index() == 0
        if not self.writes:
            return
        path = workdir / "metrics.jsonl"
        # What an interrupted run wrote after its last checkpoint will be computed again.
        known = {"train": step, "valid": validated}
        kept = [line for line in read_metrics(workdir) if line["step"] <= known[line["phase"]]]
        atomic.write_text(path, "".join(f"{json.dumps(line)}\n" for line in kept))
        self.file = path.open("a")
        self.board = SummaryWriter(str(workdir), purge_step=step + 1)

    def write(self, step: int, phase: str, values: dict[str, float]) -> None:
        """Add one line, and one point to each curve."""
        if self.writes:
            self.file.write(json.dumps({"step": step, "phase": phase, **values}) + "\n")
            self.file.flush()
            for name, value in values.items():
                self.board.add_scalar(f"{phase}/{name}", value, step)

    def close(self) -> None:
        """Finish both files."""
        if self.writes:
            self.file.close()
            self.board.close()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl. One that a kill cut short is dropped, so are those that a loss of power left
    without their text, with a warning: no run depends on them.
    """
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    lines, damaged = [], 0
    for line in path.read_text(errors="replace").split("\n")[:-1]:
        try:
            lines.append(json.loads(line))
        except ValueError:
            damaged += 1
    if damaged:
        logging.warning(f"{path}: {damaged} lines are damaged and left out; the curves have a gap")
    return lines
