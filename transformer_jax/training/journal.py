"""Metrics of a run: their accumulation between reports, metrics.jsonl and TensorBoard events."""

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
    """Metrics since the last report.

    They stay on the device until ``fetch``, so that no training step waits for the host.

    pending: metrics of each step since the last ``fetch``.
    sums: sums of the fetched metrics.
    """

    def __init__(self, max_skipped: int, sums: dict[str, float] | None = None, seconds: float = 0.0) -> None:
        """Start empty, or continue from a ``snapshot``.

        max_skipped: see ``TrainingConfig``.
        sums, seconds: fields of the snapshot.
        """
        self.max_skipped = max_skipped
        self.began = time.monotonic() - seconds
        self.sums = dict(sums or {})
        self.pending: list[dict[str, jax.Array]] = []

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Append the metrics of one step."""
        self.pending.append(metrics)

    def exclude_time(self, seconds: float) -> None:
        """Exclude time that was not spent on training from tokens per second."""
        self.began += seconds

    def fetch(self, step: int) -> None:
        """Fetch the pending metrics from the device and add them to the sums.

        step: step of the last pending metrics.
        Raises RunError if ``max_skipped`` consecutive updates were skipped.
        """
        first_step = step - len(self.pending) + 1
        for number, metrics in enumerate(jax.device_get(self.pending), start=first_step):
            skipped = int(metrics["skipped"])
            if skipped >= self.max_skipped:
                raise RunError(
                    f"loss or gradients have not been finite since update {number - skipped + 1}, so training stops at "
                    f"update {number} (training.max_skipped {self.max_skipped}). Locate the operation with "
                    "--debug-nans, or try a lower --optimizer.factor in another --workdir."
                )
            for name, value in {**metrics, "skipped": skipped > 0, "updates": 1}.items():
                # Added step by step, so that the rounding of the sums does not depend on interruptions.
                self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.pending = []

    def snapshot(self) -> dict[str, Any]:
        """Return the fetched sums and the elapsed time, from which a resumed run continues."""
        return {"sums": self.sums, "seconds": time.monotonic() - self.began}

    def report(self) -> dict[str, float]:
        """Return means per target token, target tokens per second and the number of skipped updates."""
        sums = self.sums
        seconds = time.monotonic() - self.began
        counts = {"tokens_per_second": sums["tokens"] / seconds, "skipped": sums["skipped"]}
        updates = sums["updates"] - sums["skipped"]
        if not updates:
            return counts
        return {**per_token_means(sums), "gradient_norm": sums["gradient_norm"] / updates, **counts}


def per_token_means(sums: dict[str, float]) -> dict[str, float]:
    """Return loss, perplexity and accuracy per target token.

    sums: the fields of ``LossSums``.
    """
    tokens = sums["tokens"]
    return {
        "loss": sums["loss"] / tokens,
        "perplexity": math.exp(min(sums["cross_entropy"] / tokens, 100)),
        "accuracy": sums["correct"] / tokens,
    }


class MetricsWriter:
    """Writer of metrics.jsonl and TensorBoard events. Only process 0 writes."""

    def __init__(self, workdir: Path, step: int, validated: int) -> None:
        """Open the files, and drop the metrics after the step that the run resumes from.

        step: last completed step.
        validated: last validated step.
        """
        self.writes = jax.process_index() == 0
        if not self.writes:
            return
        path = workdir / "metrics.jsonl"
        # The run will compute the metrics after its last checkpoint again.
        last_step = {"train": step, "valid": validated}
        lines = [line for line in read_metrics(workdir) if line["step"] <= last_step[line["phase"]]]
        atomic.write_text(path, "".join(f"{json.dumps(line)}\n" for line in lines))
        self.file = path.open("a")
        self.board = SummaryWriter(str(workdir), purge_step=step + 1)

    def write(self, step: int, phase: str, values: dict[str, float]) -> None:
        """Write one line to metrics.jsonl and one point to each TensorBoard curve."""
        if self.writes:
            self.file.write(json.dumps({"step": step, "phase": phase, **values}) + "\n")
            self.file.flush()
            for name, value in values.items():
                self.board.add_scalar(f"{phase}/{name}", value, step)

    def close(self) -> None:
        """Close the files."""
        if self.writes:
            self.file.close()
            self.board.close()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl.

    Drop an incomplete last line that a killed process left. Drop lines that a power failure damaged, with a warning.
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
        logging.warning(f"{path}: ignored damaged lines ({damaged} in total), so the curves have gaps.")
    return lines
