"""The curves of a run: what they show, and that a failure to draw them stops nothing."""

import math
import sys

import pytest

from transformer_jax.training import curves
from transformer_jax.training.curves import CurvesWriter, draw_curves
from transformer_jax.training.journal import MetricsWriter

METRICS = [
    {"step": 2, "phase": "train", "loss": 5.0, "learning_rate": 0.1},
    {"step": 4, "phase": "train", "learning_rate": 0.2},  # Every update was skipped.
    {"step": 4, "phase": "valid", "loss": math.nan, "bleu": 0.0},
    {"step": 6, "phase": "train", "loss": 3.0, "learning_rate": 0.3},
    {"step": 8, "phase": "valid", "loss": 4.0, "bleu": 7.0},
]


@pytest.fixture
def workdir(tmp_path):
    writer = MetricsWriter(tmp_path, 0, 0)
    for line in METRICS:
        values = {name: value for name, value in line.items() if name not in ("step", "phase")}
        writer.write(line["step"], line["phase"], values)
    writer.close()
    return tmp_path


def test_curves_show_all_metrics_and_the_best_step():
    figure = draw_curves(METRICS, best_step=8)
    points = [[list(map(tuple, line.get_xydata())) for line in axes.lines] for axes in figure.axes]
    best = [(8, 0), (8, 1)]
    assert points == [
        [[(2, 5), (6, 3)], [(8, 4)], best],
        [[(4, 0), (8, 7)], best],
        [[(2, 0.1), (4, 0.2), (6, 0.3)], best],
    ]
    [legend] = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation", "best step: 8"]


def test_equal_metrics_give_equal_files_without_pyplot(workdir):
    CurvesWriter(workdir).write(8)
    first = (workdir / "curves.png").read_bytes()
    assert first.startswith(b"\x89PNG")
    assert b"atplotlib" not in first
    CurvesWriter(workdir).write(8)
    assert (workdir / "curves.png").read_bytes() == first
    assert len(first) < 60_000
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_nothing_is_drawn_before_the_first_validation(tmp_path):
    writer = MetricsWriter(tmp_path, 0, 0)
    writer.write(2, "train", {"loss": 5.0, "learning_rate": 0.1})
    writer.close()
    CurvesWriter(tmp_path).write(0)
    assert not (tmp_path / "curves.png").exists()


def test_a_failure_to_draw_is_one_warning(workdir, monkeypatch, caplog):
    def fail(*arguments):
        raise RuntimeError("no font\nmore")

    monkeypatch.setattr(curves, "draw_curves", fail)
    writer = CurvesWriter(workdir)
    writer.write(8)
    writer.write(8)
    assert caplog.messages == [f"cannot draw {workdir}/curves.png: no font. Training continues without it."]
    assert not list(workdir.glob("*curves.png*"))
