"""Metrics of a run: their accumulation between reports, and the files that record them."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import jax
from tensorboardX import SummaryWriter

from transformer_jax.data.records import Pair
from transformer_jax.errors import RunError
from transformer_jax.storage import atomic
from transformer_jax.storage.lines import replace_line_breaks, write_lines
from transformer_jax.training.choice import Validation

SAMPLES = 5
"""Number of validation sentences whose translations are recorded at every validation."""


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
        """Return means per target token, target tokens per second and the number of skipped updates.

        For float16, also return the number of overflows (see ``make_train_step``).
        """
        sums = self.sums
        seconds = time.monotonic() - self.began
        skipped: dict[str, float] = {name: sums[name] for name in ("skipped", "overflows") if name in sums}
        counts = {"tokens_per_second": sums["tokens"] / seconds, **skipped}
        updates = sums["updates"] - sum(skipped.values())
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
    """Writer of metrics.jsonl, samples.jsonl, valid.hyp.txt and TensorBoard events. Only process 0 writes."""

    def __init__(self, workdir: Path, step: int, validated: int) -> None:
        """Open the files, and drop the lines after the step that the run resumes from.

        step: last completed step.
        validated: last validated step.
        """
        self.writes = jax.process_index() == 0
        if not self.writes:
            return
        # The run will compute the metrics after its last checkpoint again.
        last_step = {"train": step, "valid": validated}
        metrics = [line for line in read_metrics(workdir) if line["step"] <= last_step[line["phase"]]]
        samples = [line for line in _read_lines(workdir / "samples.jsonl") if line["step"] <= validated]
        self.workdir = workdir
        self.metrics_file = _reopen(workdir / "metrics.jsonl", metrics)
        self.samples_file = _reopen(workdir / "samples.jsonl", samples)
        self.board = SummaryWriter(str(workdir), purge_step=step + 1)

    def write(self, step: int, phase: str, values: dict[str, float]) -> None:
        """Write one line to metrics.jsonl and one point to each TensorBoard curve."""
        if self.writes:
            self.metrics_file.write(_to_line({"step": step, "phase": phase, **values}))
            self.metrics_file.flush()
            for name, value in values.items():
                self.board.add_scalar(f"{phase}/{name}", value, step)

    def write_translations(self, step: int, pairs: Sequence[Pair], translations: Sequence[str]) -> None:
        """Write valid.hyp.txt, and append a few of the translations to samples.jsonl and TensorBoard's text tab.

        pairs: the validation pairs that were translated. The samples are evenly spaced over them.
        """
        if not self.writes:
            return
        write_lines(self.workdir / "valid.hyp.txt", translations)
        indices = sorted({number * len(pairs) // SAMPLES for number in range(SAMPLES)})
        for number, index in enumerate(indices, start=1):
            (source, reference), translation = pairs[index], translations[index]
            sample = {"source": source, "reference": reference, "translation": translation}
            self.samples_file.write(_to_line({"step": step, **sample}))
            # TensorBoard renders Markdown, in which indented lines are unchanged.
            lines = [f"    {name:<12} {replace_line_breaks(text)}" for name, text in sample.items()]
            self.board.add_text(f"samples/{number}", "\n".join(lines), step)
        self.samples_file.flush()

    def close(self) -> None:
        """Close the files."""
        if self.writes:
            self.metrics_file.close()
            self.samples_file.close()
            self.board.close()


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl."""
    return _read_lines(workdir / "metrics.jsonl")


def read_validations(workdir: Path) -> list[Validation]:
    """Return the validations in metrics.jsonl."""
    lines = [line for line in read_metrics(workdir) if line["phase"] == "valid"]
    return [Validation(line["step"], line["loss"], line["bleu"]) for line in lines]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a .jsonl file, or nothing if it does not exist.

    Drop an incomplete last line that a killed process left. Drop lines that a power failure damaged, with a warning.
    """
    if not path.exists():
        return []
    lines, damaged = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            lines.append(json.loads(line))
        except ValueError:
            damaged += 1
    if damaged:
        logging.warning(f"{path}: ignored damaged lines ({damaged} in total).")
    return lines


def _reopen(path: Path, lines: Sequence[dict[str, Any]]) -> TextIO:
    """Replace the lines of a .jsonl file, and open it to append more."""
    atomic.write_text(path, "".join(map(_to_line, lines)))
    return path.open("a", encoding="utf-8")


def _to_line(values: dict[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"
