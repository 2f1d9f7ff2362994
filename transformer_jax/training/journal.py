"""What a run reports while it trains: metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import jax
from tensorboardX import SummaryWriter


class Window:
    """Metrics since the last report. They stay on the device until the report, so that no step waits for the host."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.metrics: list[dict[str, jax.Array]] = []

    def add(self, metrics: dict[str, jax.Array]) -> None:
        """Note the metrics of one step."""
        self.metrics.append(metrics)

    def pause(self, seconds: float) -> None:
        """Leave out time that was not spent on training."""
        self.began += seconds

    def report(self) -> dict[str, float]:
        """Means over the target tokens, and how many of them a second."""
        steps = jax.device_get(self.metrics)
        sums = {name: float(sum(step[name] for step in steps)) for name in steps[0]}
        seconds = time.monotonic() - self.began
        norm = sums.pop("gradient_norm") / len(steps)
        return {**means(sums), "gradient_norm": norm, "tokens_per_second": sums["tokens"] / seconds}


def means(sums: dict[str, float]) -> dict[str, float]:
    """Loss and perplexity for each target token, and the share predicted right, from the fields of ``LossSums``."""
    tokens = sums["tokens"]
    return {
        "loss": sums["loss"] / tokens,
        "perplexity": math.exp(min(sums["cross_entropy"] / tokens, 100)),
        "accuracy": sums["correct"] / tokens,
    }


class Journal:
    """metrics.jsonl and TensorBoard events; written by the first process alone."""

    def __init__(self, workdir: Path, step: int) -> None:
        self.writes = jax.process_index() == 0
        if not self.writes:
            return
        path = workdir / "metrics.jsonl"
        # What an interrupted run wrote after its last checkpoint will be computed again.
        kept = [line for line in read_journal(workdir) if line["step"] <= step]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in kept))
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


def read_journal(workdir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that a kill cut short is dropped."""
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []
