"""Reports do not depend on interruptions."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.errors import RunError
from transformer_jax.training.journal import MetricAccumulator, MetricsWriter, read_metrics


def step_metrics(loss, skipped=0):
    ran = float(skipped == 0)
    values = {"loss": loss * ran, "cross_entropy": loss * ran, "correct": ran, "tokens": 3 * ran, "gradient_norm": ran}
    return {name: jnp.asarray(value, jnp.float32) for name, value in {**values, "skipped": skipped}.items()}


def test_a_window_that_was_cut_in_two_reports_the_same():
    losses = np.random.default_rng(0).uniform(0, 9, 11)
    whole, first = MetricAccumulator(5), MetricAccumulator(5)
    for loss in losses:
        whole.add(step_metrics(loss))
    for loss in losses[:4]:
        first.add(step_metrics(loss))
    first.gather(4)
    second = MetricAccumulator(5, **json.loads(json.dumps(first.saved())))
    for loss in losses[4:]:
        second.add(step_metrics(loss))
    for window in (whole, second):
        window.gather(11)
    assert whole.sums == second.sums


def test_skipped_updates_are_counted_and_take_no_part_in_the_means():
    window = MetricAccumulator(3)
    for skipped in (0, 1, 2, 0):
        window.add(step_metrics(6.0, skipped))
    window.gather(4)
    report = window.report()
    assert (report["skipped"], report["loss"], report["gradient_norm"]) == (2, 2.0, 1.0)
    window = MetricAccumulator(3)
    window.add(step_metrics(6.0, 1))
    window.gather(1)
    assert window.report() == {"skipped": 1, "tokens_per_second": 0}


def test_too_many_skipped_in_a_row_are_named():
    window = MetricAccumulator(3)
    for skipped in (0, 1, 2, 3, 0):
        window.add(step_metrics(6.0, skipped))
    with pytest.raises(RunError, match="updates 12 to 14 were skipped"):
        window.gather(15)


def test_what_will_be_computed_again_is_dropped_and_nothing_else(tmp_path):
    lines = [(4, "train"), (4, "valid"), (6, "train"), (8, "train"), (8, "valid"), (9, "train")]
    text = "".join(json.dumps({"step": step, "phase": phase}) + "\n" for step, phase in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 1')
    # A checkpoint of step 8, of which the validation was interrupted.
    MetricsWriter(tmp_path, 8, 4).close()
    assert [(line["step"], line["phase"]) for line in read_metrics(tmp_path)] == lines[:4]


def test_lines_that_a_loss_of_power_emptied_cost_nothing_else(tmp_path, caplog):
    text = '{"step": 2, "phase": "train"}\n\0\0\0\0\n{"step": 4, "phase": "tr\0\0\n{"step": 6, "phase": "train"}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    MetricsWriter(tmp_path, 8, 4).close()
    assert "metrics.jsonl: 2 lines are damaged and left out" in caplog.text
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 6]
