"""Metrics are accumulated and written independently of interruptions."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from transformer_jax.data.records import Pair
from transformer_jax.errors import RunError
from transformer_jax.training.journal import MetricAccumulator, MetricsWriter, read_metrics


def step_metrics(loss, skipped=0):
    ran = float(skipped == 0)
    values = {"loss": loss * ran, "cross_entropy": loss * ran, "correct": ran, "tokens": 3 * ran, "gradient_norm": ran}
    return {name: jnp.asarray(value, jnp.float32) for name, value in {**values, "skipped": skipped}.items()}


def test_sums_do_not_depend_on_interruptions():
    losses = np.random.default_rng(0).uniform(0, 9, 11)
    uninterrupted, first = MetricAccumulator(5), MetricAccumulator(5)
    for loss in losses:
        uninterrupted.add(step_metrics(loss))
    for loss in losses[:4]:
        first.add(step_metrics(loss))
    first.fetch(4)
    second = MetricAccumulator(5, **json.loads(json.dumps(first.snapshot())))
    for loss in losses[4:]:
        second.add(step_metrics(loss))
    for accumulator in (uninterrupted, second):
        accumulator.fetch(11)
    assert uninterrupted.sums == second.sums


def test_skipped_updates_are_counted_but_not_averaged():
    accumulator = MetricAccumulator(3)
    for skipped in (0, 1, 2, 0):
        accumulator.add(step_metrics(6.0, skipped))
    accumulator.fetch(4)
    report = accumulator.report()
    assert (report["skipped"], report["loss"], report["gradient_norm"]) == (2, 2.0, 1.0)
    accumulator = MetricAccumulator(3)
    accumulator.add(step_metrics(6.0, 1))
    accumulator.fetch(1)
    assert accumulator.report() == {"skipped": 1, "tokens_per_second": 0}


def test_overflows_of_float16_are_counted_separately():
    accumulator = MetricAccumulator(max_skipped=1)
    for overflows in (1, 1, 1, 0):
        metrics = step_metrics(6.0 * (1 - overflows))
        ran = {name: value * (1 - overflows) for name, value in metrics.items()}
        accumulator.add({**ran, "overflows": jnp.asarray(overflows)})
    accumulator.fetch(4)
    report = accumulator.report()
    assert (report["overflows"], report["skipped"], report["loss"], report["gradient_norm"]) == (3, 0, 2.0, 1.0)


def test_too_many_consecutive_skipped_updates_are_an_error():
    accumulator = MetricAccumulator(3)
    for skipped in (0, 1, 2, 3, 0):
        accumulator.add(step_metrics(6.0, skipped))
    with pytest.raises(RunError, match="since update 12, so training stops at update 14"):
        accumulator.fetch(15)


def test_only_lines_after_the_resumed_step_are_dropped(tmp_path):
    lines = [(4, "train"), (4, "valid"), (6, "train"), (8, "train"), (8, "valid"), (9, "train")]
    text = "".join(json.dumps({"step": step, "phase": phase}) + "\n" for step, phase in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 1')
    # The validation of step 8 was interrupted after its checkpoint.
    MetricsWriter(tmp_path, 8, 4).close()
    assert [(line["step"], line["phase"]) for line in read_metrics(tmp_path)] == lines[:4]


def test_samples_after_the_last_validation_are_dropped(tmp_path):
    pairs = [Pair(f"source {number}", f"Ziel {number}") for number in range(7)]
    for steps, validated in (((4, 8), 0), ((8,), 4)):  # The second start repeats the validation of step 8.
        writer = MetricsWriter(tmp_path, validated, validated)
        for step in steps:
            writer.write_translations(step, pairs, [f"{step}: ü\u2028{number}" for number in range(7)])
        writer.close()
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().split("\n")[:-1]]
    assert [sample["step"] for sample in samples] == [4] * 5 + [8] * 5
    assert [sample["source"][-1] for sample in samples] == list("01245") * 2
    assert samples[5] == {"step": 8, "source": "source 0", "reference": "Ziel 0", "translation": "8: ü\u20280"}
    assert (tmp_path / "valid.hyp.txt").read_bytes().decode() == "".join(f"8: ü {number}\n" for number in range(7))


def test_tensorboard_shows_samples_unchanged(tmp_path):
    writer = MetricsWriter(tmp_path, 0, 0)
    writer.write_translations(4, [Pair("# a *b*", "1. c")], ["<d>\n- e"])
    writer.close()
    [events] = tmp_path.glob("events.out.tfevents*")
    assert b"    source       # a *b*\n    reference    1. c\n    translation  <d> - e" in events.read_bytes()


def test_damaged_lines_are_ignored_with_a_warning(tmp_path, caplog):
    text = '{"step": 2, "phase": "train"}\n\0\0\0\0\n{"step": 4, "phase": "tr\0\0\n{"step": 6, "phase": "train"}\n'
    (tmp_path / "metrics.jsonl").write_text(text)
    MetricsWriter(tmp_path, 8, 4).close()
    assert "metrics.jsonl: ignored damaged lines (2 in total)" in caplog.text
    assert [line["step"] for line in read_metrics(tmp_path)] == [2, 6]
