"""A run resumes on another number of devices with the same batches, and the same loss within rounding."""

import json

import numpy as np
import pytest
from real_runs import TERM, checkpoints, count_reports, metrics, train, training, wait_for, write_recipe

# 31 rows of 16 tokens, which 8 devices cannot divide evenly: a run that started on one device needs padding rows on 8.
BATCH_TOKENS = 500


@pytest.mark.parametrize(
    "devices",
    [(8, 1, 8), pytest.param((1, 8, 1), marks=pytest.mark.faults)],
    ids=lambda devices: "-".join(map(str, devices)),
)
def test_a_run_resumes_on_another_number_of_devices(devices, tmp_path, record_property):
    recipe = write_recipe(tmp_path, steps=73, batch_tokens=BATCH_TOKENS)
    uninterrupted, moved = tmp_path / "uninterrupted", tmp_path / "moved"
    train(recipe, uninterrupted, devices=devices[0])
    for start, number in enumerate(devices[:-1], start=1):
        with training(recipe, moved, devices=number) as process:
            assert wait_for(lambda start=start: count_reports(moved) > 5 * start, process)
            process.send_signal(TERM)
            process.communicate(timeout=60)
            assert process.returncode == 143
    # The last start also uses another mesh.
    train(recipe, moved, *(["--mesh.fsdp", "2", "--mesh.tensor", "2"] if devices[-1] == 8 else []), devices=devices[-1])
    assert [line["step"] for line in metrics(moved)] == [line["step"] for line in metrics(uninterrupted)]
    losses = [[line["loss"] for line in metrics(workdir)] for workdir in (moved, uninterrupted)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    progress, expected = (
        json.loads((workdir / f"checkpoints/{checkpoints(workdir)[-1]}/progress.json").read_text())
        for workdir in (moved, uninterrupted)
    )
    assert progress["data"] == expected["data"]
    record_property("faults", f"on {', then '.join(map(str, devices))} devices | 1 | 1 | 0")
