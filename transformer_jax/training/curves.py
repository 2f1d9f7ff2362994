"""The picture of a run, curves.png: loss, BLEU and learning rate over the updates."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from transformer_jax.storage import atomic
from transformer_jax.training.journal import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#aa4499"
"""Colours that people with any colour blindness can tell apart (Okabe and Ito 2008; Tol 2021)."""


class CurvesWriter:
    """Writer of curves.png. Only process 0 writes, and a failure is only a warning."""

    def __init__(self, workdir: Path) -> None:
        self.workdir = workdir
        self.has_failed = False

    def write(self, best_step: int) -> None:
        """Draw the metrics of the run, if it has been validated.

        best_step: the step to mark; 0 if there is none.
        """
        if jax.process_index():
            return
        path = self.workdir / "curves.png"
        try:
            metrics = read_metrics(self.workdir)
            if any(line["phase"] == "valid" for line in metrics):
                figure = draw_curves(metrics, best_step)
                with atomic.new_file(path, path.with_name(".curves.png.unfinished"), "bytes") as file:
                    # Without the version of matplotlib, equal curves are equal files.
                    figure.savefig(file, format="png", metadata={"Software": None})
        except Exception as error:  # matplotlib raises many types, and training must not stop.
            if not self.has_failed:
                reason = str(error).partition("\n")[0] or type(error).__name__
                logging.warning(f"cannot draw {path}: {reason}. Training continues without it.")
            self.has_failed = True


def draw_curves(metrics: Sequence[dict[str, Any]], best_step: int) -> Figure:
    """Return a figure of the metrics, without pyplot.

    metrics: the lines of metrics.jsonl.
    best_step: the step to mark; 0 if there is none.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 7), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    loss, bleu, rate = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1.3, 1))
    _plot(loss, metrics, "train", "loss", color=BLUE, linewidth=1.2, label="training")
    _plot(loss, metrics, "valid", "loss", color=ORANGE, linewidth=1.8, marker="o", markersize=4, label="validation")
    _plot(bleu, metrics, "valid", "bleu", color=GREEN, linewidth=1.8, marker="o", markersize=4)
    _plot(rate, metrics, "train", "learning_rate", color=PURPLE, linewidth=1.8)
    loss.set_ylabel("loss per token")
    bleu.set_ylabel("validation BLEU")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("update")
    rate.set_xlim(left=0)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    for axes in (bleu, rate):
        axes.set_ylim(bottom=0)
    for axes in (loss, bleu, rate):
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if best_step:
            axes.axvline(best_step, color="0.35", linestyle="--", linewidth=1.2, label=f"best step: {best_step}")
    # Above the curves, so that it covers none of them.
    loss.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    figure.align_ylabels()
    return figure


def _plot(axes: Axes, metrics: Sequence[dict[str, Any]], phase: str, name: str, **style: Any) -> None:
    """Plot one metric over the steps. Reports in which every update was skipped have no loss."""
    points = [(line["step"], line[name]) for line in metrics if line["phase"] == phase and name in line]
    finite = [point for point in points if math.isfinite(point[1])]
    axes.plot(*zip(*finite, strict=True) if finite else ([], []), **style)
